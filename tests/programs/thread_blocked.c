/* Threads that stand in each way of waiting, most with every signal blocked: none may keep a checkpoint from being
 * taken, and each goes on where it was. An argument "tids" sends one of them its signal by its thread id. */
#include "harness.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>

enum { SIGWAIT, SEMAPHORE, TIMED_CONDITION, PIPE, SLEEP, BARRIER, PARTNER, RWLOCK, SPIN, WAYS };
static const char *const names[WAYS] = {"sigwait", "semaphore", "condition", "pipe",   "sleep",
                                        "barrier", "partner",   "rwlock",    "spin"};
static volatile unsigned passed[WAYS], bad[WAYS];
static __thread unsigned own; /* counts in step with passed */
static pthread_key_t key;
static sem_t semaphore, partner, lock_taken;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition;
static unsigned wanted;
static int ends[2];
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static volatile int spin_until;
static volatile unsigned held;

static void *wait_in(void *argument)
{
    int way = (int)(intptr_t)argument;
    sigset_t all, usr1, now;
    char name[16], read_back[16], byte;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &all);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    snprintf(name, sizeof name, "wait-%s", names[way]);
    prctl(PR_SET_NAME, name);
    pthread_setspecific(key, argument);
    for (;;) {
        int signal = 0;
        switch (way) {
        case SIGWAIT:
            if (sigwait(&usr1, &signal) != 0 || signal != SIGUSR1)
                bad[way]++;
            break;
        case SEMAPHORE:
            while (sem_wait(&semaphore) != 0)
                ;
            break;
        case TIMED_CONDITION: {
            struct timespec limit;
            clock_gettime(CLOCK_MONOTONIC, &limit);
            limit.tv_sec += 1000;
            pthread_mutex_lock(&mutex);
            while (wanted <= own)
                if (pthread_cond_timedwait(&condition, &mutex, &limit) != 0)
                    bad[way]++;
            pthread_mutex_unlock(&mutex);
            break;
        }
        case PIPE:
            if (read(ends[0], &byte, 1) != 1 || byte != 'x')
                bad[way]++;
            break;
        case SLEEP:
            usleep(20000);
            break;
        case PARTNER:
            while (sem_wait(&partner) != 0)
                ;
            __attribute__((fallthrough));
        case BARRIER:
            pthread_barrier_wait(&barrier);
            break;
        case RWLOCK:
            pthread_rwlock_wrlock(&rwlock);
            pthread_rwlock_unlock(&rwlock);
            break;
        case SPIN:
            while (spin_until <= (int)own)
                held++;
            break;
        }
        own++;
        memset(read_back, 0, sizeof read_back);
        prctl(PR_GET_NAME, read_back);
        pthread_sigmask(SIG_SETMASK, NULL, &now); /* the 64 bits that there are */
        if (own != passed[way] + 1 || strcmp(name, read_back) != 0 || memcmp(&all, &now, 8) != 0 ||
            pthread_getspecific(key) != argument)
            bad[way]++;
        passed[way] = own;
        if (way == RWLOCK)
            while (sem_wait(&lock_taken) != 0) /* until the main thread has the lock again */
                ;
    }
    return NULL;
}

/* True when the thread has passed once more within ten seconds. */
static int passes(int way, unsigned before)
{
    for (int i = 0; i < 20000 && passed[way] == before; i++)
        usleep(500);
    return passed[way] != before;
}

int main(int argc, char **argv)
{
    pthread_t threads[WAYS];
    pthread_condattr_t attributes;
    start(argc, argv);
    NEED(pipe(ends) == 0 && sem_init(&semaphore, 0, 0) == 0 && sem_init(&lock_taken, 0, 0) == 0 &&
         sem_init(&partner, 0, 0) == 0 && pthread_key_create(&key, NULL) == 0);
    NEED(pthread_condattr_init(&attributes) == 0 && pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    NEED(pthread_cond_init(&condition, &attributes) == 0 && pthread_barrier_init(&barrier, NULL, 2) == 0);
    NEED(pthread_rwlock_rdlock(&rwlock) == 0);
    sigset_t usr1; /* for the thread in sigwait alone */
    NEED(sigemptyset(&usr1) == 0 && sigaddset(&usr1, SIGUSR1) == 0 && pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
    for (int i = 0; i < WAYS; i++)
        NEED(pthread_create(&threads[i], NULL, wait_in, (void *)(intptr_t)i) == 0);
    ready();
    do {
        int round = next_round();
        unsigned before[WAYS];
        for (int i = 0; i < WAYS; i++) {
            before[i] = passed[i];
            EXPECT(bad[i] == 0, "%s: %u wrong", names[i], bad[i]);
            EXPECT(i == SLEEP || before[i] == (unsigned)round - 1, "%s: passed %u times", names[i], before[i]);
        }
        if (broken())
            bad[PIPE] = 1;
        int error = argc > 2 ? pthread_kill(threads[SIGWAIT], SIGUSR1) : kill(getpid(), SIGUSR1);
        EXPECT(error == 0, "the signal: %d", error);
        struct timespec limit;
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 10;
        error = pthread_mutex_timedlock(&mutex, &limit);
        EXPECT(error == 0, "the mutex of the condition: %d", error);
        wanted = (unsigned)round;
        pthread_cond_signal(&condition);
        pthread_mutex_unlock(&mutex);
        EXPECT(write(ends[1], "x", 1) == 1, "errno %d", errno);
        sem_post(&partner);
        sem_post(&semaphore);
        pthread_rwlock_unlock(&rwlock);
        spin_until = round;
        for (int i = 0; i < WAYS; i++)
            EXPECT(passes(i, before[i]), "%s: still waits", names[i]);
        error = pthread_rwlock_timedrdlock(&rwlock, &limit);
        EXPECT(error == 0, "the lock for reading: %d", error);
        sem_post(&lock_taken);
        EXPECT(bad[PIPE] == 0, "spoilt");
    } while (report());
    return finish();
}
