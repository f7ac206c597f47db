/* Threads that stand in the middle of each kind of synchronisation: a broadcast still to come, readers inside and a
 * writer before the door, two of three at a barrier, one spinning, one initialising and one waiting for that, named
 * semaphores with and without their name. */
#include "harness.h"
#include "semaphores.h"
#include <pthread.h>
#include <signal.h>

enum { WAITERS = 3, READERS = 2 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER, written = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static pthread_once_t once[64]; /* zero is PTHREAD_ONCE_INIT */
static sem_t woken, leave, left, wrote, at_barrier, spun, in_once, go_once, once_done, named_passed;
static sem_t read_again, write_again, spin_again, once_again;
static sem_t *named, *nameless;
static unsigned turn, serial, once_runs;
static volatile unsigned once_number;

static void *wait_for_turn(void *unused)
{
    unsigned mine = 0;
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (turn == mine)
            pthread_cond_wait(&condition, &mutex);
        mine++;
        pthread_mutex_unlock(&mutex);
        sem_post(&woken);
    }
    return unused;
}

static void *read_inside(void *unused)
{
    for (;;) {
        pthread_rwlock_rdlock(&rwlock);
        sem_post(&left); /* inside */
        down(&leave);
        pthread_rwlock_unlock(&rwlock);
        sem_post(&left);
        down(&read_again);
    }
    return unused;
}

static void *write_inside(void *unused)
{
    for (;;) {
        pthread_rwlock_wrlock(&rwlock);
        pthread_rwlock_unlock(&rwlock);
        sem_post(&wrote);
        down(&write_again);
    }
    return unused;
}

static void *stand_at_barrier(void *unused)
{
    for (;;) {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
        sem_post(&at_barrier);
    }
    return unused;
}

static void *spin_outside(void *unused)
{
    for (;;) {
        pthread_spin_lock(&spin);
        pthread_spin_unlock(&spin);
        sem_post(&spun);
        down(&spin_again);
    }
    return unused;
}

static void initialise(void)
{
    sem_post(&in_once);
    down(&go_once);
    once_runs++;
}

static void *call_once(void *unused)
{
    for (;;) {
        pthread_once(&once[once_number], initialise);
        sem_post(&once_done);
        down(&once_again);
    }
    return unused;
}

static void *wait_by_name(void *argument)
{
    for (;;) {
        down(*(sem_t **)argument);
        sem_post(&named_passed);
    }
    return NULL;
}

static void run(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, body, argument) == 0);
    NEED(pthread_detach(thread) == 0);
}

int main(int argc, char **argv)
{
    char name[64];
    sem_t *const all[] = {&woken,   &leave,     &left,         &wrote,      &at_barrier,  &spun,       &in_once,
                          &go_once, &once_done, &named_passed, &read_again, &write_again, &spin_again, &once_again};
    start(argc, argv);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        NEED(sem_init(all[i], 0, 0) == 0);
    snprintf(name, sizeof name, "/selfckpt-test-%d", getpid());
    NEED((nameless = sem_open(name, O_CREAT | O_EXCL, 0600, 0)) != SEM_FAILED && sem_unlink(name) == 0);
    NEED((named = sem_open(name, O_CREAT | O_EXCL, 0600, 0)) != SEM_FAILED);
    NEED(pthread_barrier_init(&barrier, NULL, 3) == 0 && pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
    NEED(pthread_spin_lock(&spin) == 0 && pthread_rwlock_wrlock(&written) == 0);
    for (int i = 0; i < WAITERS; i++)
        run(wait_for_turn, NULL);
    for (int i = 0; i < READERS; i++)
        run(read_inside, NULL);
    NEED(came(&left) && came(&left));
    run(write_inside, NULL);
    run(stand_at_barrier, NULL);
    run(stand_at_barrier, NULL);
    run(spin_outside, NULL);
    run(call_once, NULL);
    NEED(came(&in_once));
    run(call_once, NULL);
    run(wait_by_name, &named);
    run(wait_by_name, &nameless);
    ready();
    do {
        int round = next_round();
        int value;

        EXPECT(sem_trywait(&woken) != 0, "a waiter was woken by nobody");
        pthread_mutex_lock(&mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
        for (int i = 0; i < WAITERS; i++)
            EXPECT(came(&woken), "waiter %d of the condition", i);

        EXPECT(pthread_rwlock_trywrlock(&rwlock) == EBUSY, "the readers are not inside");
        EXPECT(sem_trywait(&wrote) != 0, "the writer came in");
        for (int i = 0; i < READERS; i++)
            sem_post(&leave);
        for (int i = 0; i < READERS; i++)
            EXPECT(came(&left), "reader %d", i);
        EXPECT(came(&wrote), "the writer");
        EXPECT(pthread_rwlock_tryrdlock(&written) == EBUSY, "the lock for writing is not held");
        EXPECT(pthread_rwlock_wrlock(&written) == EDEADLK, "the lock for writing has another owner");
        EXPECT(pthread_rwlock_unlock(&written) == 0 && pthread_rwlock_wrlock(&written) == 0, "lock for writing");

        unsigned before = serial;
        EXPECT(sem_trywait(&at_barrier) != 0, "two passed a barrier for three");
        int result = pthread_barrier_wait(&barrier);
        EXPECT(result == 0 || result == PTHREAD_BARRIER_SERIAL_THREAD, "barrier: %d", result);
        EXPECT(came(&at_barrier) && came(&at_barrier), "the barrier");
        EXPECT(serial - before + (result == PTHREAD_BARRIER_SERIAL_THREAD) == 1, "not one serial thread");

        EXPECT(pthread_spin_trylock(&spin) == EBUSY, "the spin lock is free");
        EXPECT(sem_trywait(&spun) != 0, "the spin lock let somebody in");
        pthread_spin_unlock(&spin);
        EXPECT(came(&spun), "the spin lock");
        NEED(pthread_spin_lock(&spin) == 0);

        EXPECT(sem_trywait(&once_done) != 0 && once_runs == (unsigned)round - 1, "pthread_once is over");
        sem_post(&go_once);
        EXPECT(came(&once_done) && came(&once_done), "pthread_once");
        if (broken())
            once_runs++;
        EXPECT(once_runs == (unsigned)round, "the initialisation ran %u times in %d rounds", once_runs, round);

        EXPECT(sem_getvalue(named, &value) == 0 && value == 0 && sem_trywait(&named_passed) != 0, "named: %d", value);
        sem_post(named);
        EXPECT(came(&named_passed), "the named semaphore");
        sem_post(nameless);
        EXPECT(came(&named_passed), "the semaphore that has lost its name");
        sem_t *same = sem_open(name, 0);
        EXPECT(same == named, "the name leads to another semaphore, errno %d", errno);
        if (same != SEM_FAILED)
            sem_close(same);

        /* Everybody into his place again: the readers before the writer. */
        once_number = (unsigned)round % 64;
        once[once_number] = (pthread_once_t)PTHREAD_ONCE_INIT;
        for (int i = 0; i < 2; i++) {
            sem_post(&read_again);
            sem_post(&once_again);
        }
        sem_post(&spin_again);
        EXPECT(came(&left) && came(&left), "the readers are inside again");
        EXPECT(came(&in_once), "pthread_once again");
        sem_post(&write_again);
    } while (report());
    sem_unlink(name);
    return finish();
}
