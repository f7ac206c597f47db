/*
 * A program that uses SIGUSR2 within itself: raise() and pthread_kill() call its own handler with its siginfo and
 * mask, once each, while the same signal from outside takes a checkpoint. A one-shot handler is gone afterwards.
 */
#include "harness.h"
#include <pthread.h>
#include <signal.h>

static volatile int handled, values, wrong;

static void handler(int signal, siginfo_t *info, void *context)
{
    sigset_t now;
    (void)context;
    sigemptyset(&now);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (signal != SIGUSR2 || !sigismember(&now, SIGHUP) || !sigismember(&now, SIGUSR2) || info->si_pid != getpid())
        wrong++;
    if (info->si_code == SI_QUEUE)
        values += info->si_value.sival_int;
    handled++;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART}, now;
    int expected = 0, sum = 0;

    start(argc, argv);
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    NEED(sigaction(SIGUSR2, &action, NULL) == 0);
    ready();
    do {
        int round = next_round();
        EXPECT(handled == expected, "called %d times from outside", handled - expected);
        raise(SIGUSR2);
        EXPECT(handled == ++expected, "raise: %d of %d", handled, expected);
        pthread_kill(pthread_self(), SIGUSR2);
        EXPECT(handled == ++expected, "pthread_kill: %d of %d", handled, expected);
        sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = round});
        sum += round + (broken() ? 1 : 0);
        EXPECT(handled == ++expected && values == sum, "sigqueue: %d of %d, %d", handled, expected, values);
        EXPECT(wrong == 0, "%d wrong calls", wrong);

        sigset_t set, pending;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGUSR2);
        sigpending(&pending);
        EXPECT(handled == expected && sigismember(&pending, SIGUSR2), "not blocked");
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        EXPECT(handled == ++expected, "after it was blocked: %d of %d", handled, expected);

        struct sigaction once = action;
        once.sa_flags |= SA_RESETHAND;
        sigaction(SIGUSR2, &once, NULL);
        raise(SIGUSR2);
        EXPECT(handled == ++expected, "one shot: %d of %d", handled, expected);
        EXPECT(sigaction(SIGUSR2, &action, &now) == 0 && now.sa_handler == SIG_DFL, "it has not gone");
    } while (report());
    return finish();
}
