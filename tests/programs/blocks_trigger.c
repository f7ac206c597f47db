/* Blocks SIGUSR2, the signal that asks for a checkpoint: the command must say why it waits. */
#include "harness.h"
#include <signal.h>

int main(int argc, char **argv)
{
    start(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    ready();
    do {
        next_round();
        sigset_t now;
        sigemptyset(&now);
        NEED(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
        EXPECT(sigismember(&now, SIGUSR2) == !broken(), "SIGUSR2 is not blocked");
    } while (report());
    return finish();
}
