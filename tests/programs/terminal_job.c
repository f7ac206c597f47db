/* Tells on its terminal what it reads there and which signals it gets; ends with 3 when it reads "quit". */
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

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    char line[64];

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("<begins>\n");
    for (;;) {
        ssize_t len = read(0, line, sizeof line - 1);
        if (len < 0 && errno == EINTR)
            continue;
        if (len <= 0)
            return 4;
        line[len] = 0;
        line[strcspn(line, "\n")] = 0;
        printf("<read %s>\n", line);
        if (strcmp(line, "quit") == 0)
            return 3;
    }
}
