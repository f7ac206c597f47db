/* What programs in a terminal do that tell on it what happens to them. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_signal(int signal)
{
    char line[32];
    int len = snprintf(line, sizeof line, "<signal %d>\n", signal);
    if (write(1, line, (size_t)len) < 0)
        _exit(5);
}

/* Reads a line, whatever signals come; 0 at the end. */
static int read_line(int fd, char *line, size_t size)
{
    ssize_t len;
    while ((len = read(fd, line, size - 1)) < 0 && errno == EINTR)
        ;
    if (len <= 0)
        return 0;
    line[len] = 0;
    line[strcspn(line, "\n")] = 0;
    return 1;
}
