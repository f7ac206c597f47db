/*
 * Reads lines from its controlling terminal, /dev/tty, and tells of it on fd 1: whether it is that on fd 0, and the process
 * is in its foreground and session. "quit" ends it with 3.
 */
#include "terminal.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#ifndef TIOCGDEV
#define TIOCGDEV 0x80045432
#endif

static int is_fd_0(int tty)
{
    struct stat status;
    unsigned number = 0;
    return fstat(0, &status) == 0 && ioctl(tty, TIOCGDEV, &number) == 0 && (dev_t)number == status.st_rdev;
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    char line[64];
    int kept = open("/dev/tty", O_RDWR | O_CLOEXEC);

    if (kept < 0)
        return 4;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("<begins>\n");
    while (read_line(kept, line, sizeof line)) {
        int opened = open("/dev/tty", O_RDWR);
        printf("<%s: terminal %d %d foreground %d %d session %d>\n", line, is_fd_0(kept), is_fd_0(opened),
               tcgetpgrp(kept) == getpgrp(), tcgetpgrp(0) == getpgrp(), tcgetsid(kept) == getsid(0));
        close(opened);
        if (strcmp(line, "quit") == 0)
            return 3;
    }
    return 4;
}
