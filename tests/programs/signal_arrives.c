/*
 * Signals that somebody else queues all the time, also while a checkpoint is taken, each with the next number: none may
 * be lost, doubled or out of order. One kind runs a handler, one is blocked, one is blocked and for the main thread, the
 * others are blocked and for a thread each. With argv[2] "itself" the first of those takes a checkpoint in each round.
 */
// libs: -lpthread
#include "harness.h"
#include "selfckpt.h"

#include <pthread.h>
#include <signal.h>

enum { OF_MAIN = 3, THREADS = 3, KINDS = OF_MAIN + THREADS, MOST = 8000 };
static int values[KINDS][MOST];
static volatile int counts[KINDS];
static pthread_barrier_t together;
static int takes_checkpoints;

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

static void take_all(int first, int end)
{
    const struct timespec none = {0, 0};
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    for (int kind = first; kind < end; kind++)
        sigaddset(&set, SIGRTMIN + 3 + kind);
    for (int number; (number = sigtimedwait(&set, &info, &none)) > 0;)
        got(number - SIGRTMIN - 3, &info);
}

static void *taker(void *number)
{
    int kind = (int)(intptr_t)number;
    for (;;) {
        pthread_barrier_wait(&together);
        if (takes_checkpoints && kind == OF_MAIN)
            ckpt_now();
        take_all(kind, kind + 1);
        pthread_barrier_wait(&together);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    siginfo_t info;
    sigset_t set;
    takes_checkpoints = argc > 2 && strcmp(argv[2], "itself") == 0;
    sigemptyset(&set);
    for (int kind = 0; kind < KINDS; kind++)
        sigaddset(&set, SIGRTMIN + 3 + kind);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    NEED(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    for (intptr_t kind = OF_MAIN; kind < KINDS; kind++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, taker, (void *)kind) == 0);
    }
    /* The handler runs in the main thread alone. */
    sigdelset(&set, SIGRTMIN + 3);
    NEED(pthread_sigmask(SIG_SETMASK, &set, NULL) == 0);
    ready();
    do {
        next_round();
        pthread_barrier_wait(&together);
        take_all(1, OF_MAIN);
        pthread_barrier_wait(&together);
        if (broken()) {
            info.si_value.sival_int = -1;
            got(0, &info);
        }
        for (int kind = 0; kind < KINDS; kind++) {
            EXPECT(counts[kind] < MOST, "too many signals for the test");
            for (int i = 0; i < counts[kind]; i++)
                EXPECT(values[kind][i] == i + 1, "kind %d: %d comes as number %d", kind, values[kind][i], i + 1);
        }
        note("got %d %d %d %d %d %d", counts[0], counts[1], counts[2], counts[3], counts[4], counts[5]);
    } while (report());
    return finish();
}
