/*
 * A signal of the program's own, whose handler is not to restart system calls, ends the one that argv[2] names, which
 * waits for nothing else: with EINTR, also if a checkpoint is taken at the same time.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>

static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    handled++;
}

/* By the kernel's numbers, which the test looks for. */
static long wait_in(const char *call, int empty_pipe)
{
    static int word;
    const long limit[2] = {1000, 0};
    char byte;
    if (strcmp(call, "poll") == 0) {
        struct pollfd fd = {empty_pipe, POLLIN, 0};
        return syscall(SYS_poll, &fd, 1, -1);
    }
    if (strcmp(call, "nanosleep") == 0)
        return syscall(SYS_nanosleep, limit, NULL);
    if (strcmp(call, "futex") == 0)
        return syscall(SYS_futex, &word, 0, 0, NULL, NULL, 0);
    if (strcmp(call, "read") == 0)
        return syscall(SYS_read, empty_pipe, &byte, 1);
    test_die("unknown call %s", call);
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    int ends[2];
    start(argc, argv);
    NEED(sigaction(SIGTERM, &action, NULL) == 0 && pipe(ends) == 0);
    ready();
    do {
        char began[32];
        int round = next_round();
        snprintf(began, sizeof began, "began.%d", round);
        handled = 0;
        test_publish(began, "", 0);
        errno = 0;
        long result = argc > 2 ? wait_in(argv[2], ends[0]) : (raise(SIGTERM), errno = EINTR, -1);
        if (broken())
            handled++;
        EXPECT(result == -1 && errno == EINTR && handled == 1, "%ld with errno %d, handled %d times", result, errno, handled);
    } while (report());
    return finish();
}
