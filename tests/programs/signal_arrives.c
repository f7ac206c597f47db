/*
 * Signals that somebody else queues all the time, also while a checkpoint is taken, each with the next number: none may
 * be lost, doubled or out of order. One kind runs a handler, one is blocked, one is blocked and for the thread.
 */
#include "harness.h"
#include <signal.h>

enum { KINDS = 3, MOST = 8000 };
static int values[KINDS][MOST];
static volatile int counts[KINDS];

static void got(int kind, const siginfo_t *info)
{
    if (counts[kind] < MOST)
        values[kind][counts[kind]++] = info->si_value.sival_int;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    got(0, info);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct timespec none = {0, 0};
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    for (int kind = 1; kind < KINDS; kind++)
        sigaddset(&set, SIGRTMIN + 3 + kind);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    ready();
    do {
        next_round();
        for (int number; (number = sigtimedwait(&set, &info, &none)) > 0;)
            got(number - SIGRTMIN - 3, &info);
        if (broken()) {
            info.si_value.sival_int = -1;
            got(0, &info);
        }
        for (int kind = 0; kind < KINDS; kind++) {
            EXPECT(counts[kind] < MOST, "too many signals for the test");
            for (int i = 0; i < counts[kind]; i++)
                EXPECT(values[kind][i] == i + 1, "kind %d: %d comes as number %d", kind, values[kind][i], i + 1);
        }
        note("got %d %d %d", counts[0], counts[1], counts[2]);
    } while (report());
    return finish();
}
