/*
 * As much of a shell as job control takes: runs a command in the foreground of the terminal on fd 0, which becomes the
 * controlling one, and continues it each time that it has stopped. As user argv[1]. Tells of it on the terminal.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uid_t uid = (uid_t)atoi(argv[1]);
    if (argc < 3 || setsid() < 0 || ioctl(0, TIOCSCTTY, 0) != 0)
        return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGTTOU, SIG_IGN);
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
        if (uid != getuid() && (setgid(uid) != 0 || setuid(uid) != 0))
            _exit(2);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    for (int status; waitpid(child, &status, WUNTRACED) == child;) {
        if (!WIFSTOPPED(status)) {
            printf("<ended %d %d>\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WTERMSIG(status));
            return 0;
        }
        tcsetpgrp(0, getpgrp());
        printf("<stopped>\n");
        tcsetpgrp(0, child);
        kill(-child, SIGCONT);
    }
    return 1;
}
