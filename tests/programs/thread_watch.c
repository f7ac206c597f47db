/* Debug registers belong to a thread: each of three watches a variable of its own and does not notice the others'. A
 * fourth one has none. */
#include "harness.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { THREADS = 4, WATCHING = 3 };
static volatile uint32_t watched[THREADS];
static __thread volatile int traps;
static volatile int hits[THREADS][THREADS], failed;
static sem_t set_up, check[THREADS], checked;

static void on_trap(int sig)
{
    (void)sig;
    traps++;
}

#define DR(i) ((void *)(offsetof(struct user, u_debugreg) + 4 * (i)))

/* In a child: dr1 of a thread watches writes to four bytes. */
static int watch(pid_t tid, volatile uint32_t *variable)
{
    int status;
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) || ptrace(PTRACE_INTERRUPT, tid, 0, 0))
        return 1;
    if (waitpid(tid, &status, __WALL) != tid)
        return 2;
    if (ptrace(PTRACE_POKEUSER, tid, DR(1), (void *)variable) ||
        ptrace(PTRACE_POKEUSER, tid, DR(7), (void *)(uintptr_t)(1u << 2 | (1u | 3u << 2) << 20)))
        return 3;
    return ptrace(PTRACE_DETACH, tid, 0, 0) ? 4 : 0;
}

static void *stand(void *argument)
{
    int me = (int)(intptr_t)argument;
    if (me < WATCHING) {
        int status = -1;
        pid_t tid = gettid(), child = fork();
        if (child == 0)
            _exit(watch(tid, &watched[me]));
        while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
            ;
        failed |= status;
    }
    sem_post(&set_up);
    for (;;) {
        while (sem_wait(&check[me]) != 0)
            ;
        for (int i = 0; i < THREADS; i++) {
            traps = 0;
            watched[i]++;
            hits[me][i] = traps;
        }
        sem_post(&checked);
    }
    return NULL;
}

static void look(void)
{
    for (int i = 0; i < THREADS; i++) {
        sem_post(&check[i]);
        while (sem_wait(&checked) != 0)
            ;
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_trap};
    start(argc, argv);
    NEED(sigaction(SIGTRAP, &action, NULL) == 0 && sem_init(&set_up, 0, 0) == 0 && sem_init(&checked, 0, 0) == 0);
    prctl(PR_SET_PTRACER, -1L, 0, 0, 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        NEED(sem_init(&check[i], 0, 0) == 0);
        NEED(pthread_create(&thread, NULL, stand, (void *)(intptr_t)i) == 0);
        while (sem_wait(&set_up) != 0) /* one after the other: none is forked while another is traced */
            ;
    }
    if (failed)
        skip("a child cannot ptrace this process");
    look();
    if (hits[0][0] != 1)
        skip("watchpoints do not fire here");
    ready();
    do {
        next_round();
        look();
        for (int me = 0; me < THREADS; me++)
            for (int i = 0; i < THREADS; i++) {
                int wanted = me == i && me < WATCHING && !broken();
                EXPECT(hits[me][i] == wanted, "thread %d, variable %d: %d traps", me, i, hits[me][i]);
            }
    } while (report());
    return finish();
}
