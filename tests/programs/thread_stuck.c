/* A thread that has blocked every signal by the bare system call, glibc's own included, and spins. */
#include "harness.h"
#include <pthread.h>
#include <sys/prctl.h>

static volatile int stuck;

static void *block_everything(void *unused)
{
    unsigned long long all = ~0ULL;
    (void)unused;
    prctl(PR_SET_NAME, "hermit");
    NEED(syscall(SYS_rt_sigprocmask, 0, &all, NULL, 8) == 0);
    stuck = 1;
    while (stuck)
        sched_yield();
    all = 0;
    NEED(syscall(SYS_rt_sigprocmask, 2, &all, NULL, 8) == 0);
    for (;;)
        pause();
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    start(argc, argv);
    NEED(pthread_create(&thread, NULL, block_everything, NULL) == 0);
    while (!stuck)
        sched_yield();
    ready();
    do {
        int round = next_round();
        EXPECT(!broken() && stuck == (round == 1), "the thread is free in round %d", round);
        stuck = 0;
    } while (report());
    return finish();
}
