/*
 * A program that blocks every signal there is by sigfillset, as many do around a critical section,
 * and sees it blocked when it asks; it can be checkpointed none the less.
 */
#include "harness.h"
#include <signal.h>

int main(int argc, char **argv)
{
    sigset_t all, old, now;
    start(argc, argv);
    sigfillset(&all);
    NEED(sigprocmask(SIG_BLOCK, &all, &old) == 0);
    NEED(!sigismember(&old, SIGTERM) && !sigismember(&old, SIGUSR2));
    ready();
    do {
        next_round();
        if (broken()) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, SIGUSR2);
            sigaddset(&one, SIGTERM);
            sigprocmask(SIG_UNBLOCK, &one, NULL);
        }
        NEED(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
        for (int sig = 1; sig <= 64; sig++)
            if (sig != SIGKILL && sig != SIGSTOP && sig != 32 && sig != 33)
                EXPECT(sigismember(&now, sig) == 1, "signal %d is not blocked", sig);
        NEED(sigprocmask(SIG_SETMASK, &old, &now) == 0);
        EXPECT(sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGUSR2) == 1, "the old mask");
        NEED(sigprocmask(SIG_BLOCK, &all, &now) == 0);
        EXPECT(!sigismember(&now, SIGTERM) && !sigismember(&now, SIGUSR2), "the old mask");
    } while (report());
    return finish();
}
