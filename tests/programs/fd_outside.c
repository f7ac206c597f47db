/*
 * A pipe on fd 9 whose other end another process has, no child of this one. In each round a byte is read from it and the
 * result written to the file `got`: what it has to be depends on the restarting command.
 */
#include "harness.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
    int ends[2], status;
    char c, got[32];
    start(argc, argv);
    NEED(pipe(ends) == 0 && dup2(ends[0], 9) == 9 && fcntl(9, F_SETFL, O_NONBLOCK) == 0);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        /* its own child holds the end for as long as the test has its directory */
        if (fork() == 0) {
            for (int fd = 3; fd < 1024; fd++) /* the lock of the job, too */
                if (fd != ends[1])
                    close(fd);
            while (access(test_path("ready"), F_OK) != 0 && access(test_path("."), F_OK) == 0)
                usleep(10000);
            while (access(test_path("ready"), F_OK) == 0)
                usleep(10000);
        }
        _exit(0);
    }
    NEED(waitpid(child, &status, 0) == child && status == 0);
    close(ends[0]);
    close(ends[1]);
    ready();
    do {
        next_round();
        if (broken())
            close(9);
        errno = 0;
        ssize_t n = read(9, &c, 1);
        EXPECT(n >= 0 || errno == EAGAIN, "fd 9: errno %d", errno);
        int fd = open(test_path("got"), O_WRONLY | O_CREAT | O_TRUNC, 0600), len = snprintf(got, sizeof got, "%d", (int)n);
        NEED(write(fd, got, (size_t)len) == len);
        close(fd);
        errno = 0;
    } while (report());
    return finish();
}
