/*
 * An interval timer whose signal is blocked and waits: it stands still until the signal is taken, and goes on then.
 */
#include "harness.h"
#include <signal.h>
#include <sys/time.h>

static sigset_t set;

static void await_alarm(void)
{
    sigset_t pending;
    do {
        test_idle_sleep();
        NEED(sigpending(&pending) == 0);
    } while (!sigismember(&pending, SIGALRM));
}

int main(int argc, char **argv)
{
    struct itimerval every = {{0, 50000}, {0, 50000}};
    struct timespec none = {0, 0}, limit = {10, 0};
    start(argc, argv);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && setitimer(ITIMER_REAL, &every, NULL) == 0);
    await_alarm();
    ready();
    do {
        next_round();
        if (broken())
            NEED(sigtimedwait(&set, NULL, &none) == SIGALRM && setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL) == 0);
        EXPECT(sigtimedwait(&set, NULL, &none) == SIGALRM, "the signal that waited: errno %d", errno);
        EXPECT(sigtimedwait(&set, NULL, &limit) == SIGALRM, "the next one: errno %d", errno);
        if (!broken())
            await_alarm();
    } while (report());
    return finish();
}
