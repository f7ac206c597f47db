/* Mutexes of each kind, some held by the main thread and some by another one. An argument "pi" adds those with
 * priority inheritance, whose owner the kernel knows by its thread id. */
#include "harness.h"
#include "semaphores.h"
#include <pthread.h>

enum kind { NORMAL, RECURSIVE, ERRORCHECK, ROBUST, SHARED, INHERIT, KINDS };
static const char *const names[KINDS] = {"normal", "recursive", "error-checking", "robust", "process-shared",
                                         "priority-inheritance"};
static pthread_mutex_t mine[KINDS], theirs[KINDS];
static int kinds = INHERIT;
static sem_t let_go, let_gone, take, taken, wait_again;
static int again[KINDS], unlocked[KINDS], locked[KINDS];

static void make(pthread_mutex_t *mutex, int kind)
{
    pthread_mutexattr_t attributes;
    NEED(pthread_mutexattr_init(&attributes) == 0);
    if (kind == RECURSIVE)
        NEED(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE) == 0);
    if (kind == ERRORCHECK)
        NEED(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) == 0);
    if (kind == ROBUST)
        NEED(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    if (kind == SHARED)
        NEED(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    if (kind == INHERIT)
        NEED(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    NEED(pthread_mutex_init(mutex, &attributes) == 0);
}

/* What the owner gets from its own mutex: errors that only a matching owner gives. */
static int lock_again(pthread_mutex_t *mutex, int kind)
{
    if (kind == ERRORCHECK)
        return pthread_mutex_lock(mutex) == EDEADLK ? 0 : -1;
    if (kind == RECURSIVE) {
        int error = pthread_mutex_lock(mutex);
        return error ? error : pthread_mutex_unlock(mutex);
    }
    return pthread_mutex_trylock(mutex) == EBUSY ? 0 : -1;
}

static void *owner(void *unused)
{
    (void)unused;
    for (;;) {
        for (int i = 0; i < kinds; i++)
            locked[i] = pthread_mutex_lock(&theirs[i]);
        sem_post(&taken);
        down(&let_go);
        for (int i = 0; i < kinds; i++) {
            again[i] = lock_again(&theirs[i], i);
            unlocked[i] = pthread_mutex_unlock(&theirs[i]);
        }
        sem_post(&let_gone);
        down(&take);
    }
    return NULL;
}

/* Blocks on a mutex of the main thread's, across the checkpoint. */
static volatile int got_through;
static void *waiter(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&mine[NORMAL]);
        got_through++;
        pthread_mutex_unlock(&mine[NORMAL]);
        down(&wait_again);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    start(argc, argv);
    if (argc > 2 && strcmp(argv[2], "pi") == 0)
        kinds = KINDS;
    for (int i = 0; i < kinds; i++) {
        make(&mine[i], i);
        make(&theirs[i], i);
        NEED(pthread_mutex_lock(&mine[i]) == 0);
    }
    NEED(sem_init(&let_go, 0, 0) == 0 && sem_init(&let_gone, 0, 0) == 0);
    NEED(sem_init(&take, 0, 0) == 0 && sem_init(&taken, 0, 0) == 0);
    NEED(sem_init(&wait_again, 0, 0) == 0);
    NEED(pthread_create(&thread, NULL, owner, NULL) == 0);
    NEED(pthread_create(&thread, NULL, waiter, NULL) == 0);
    down(&taken);
    ready();
    do {
        next_round();
        int before = got_through;
        if (broken()) /* as if nobody held it */
            make(&mine[ERRORCHECK], ERRORCHECK);
        for (int i = 0; i < kinds; i++) {
            int error = pthread_mutex_trylock(&theirs[i]);
            EXPECT(error == EBUSY, "another thread's %s mutex: %d", names[i], error);
            EXPECT(lock_again(&mine[i], i) == 0, "the main thread's %s mutex is not its own", names[i]);
            error = pthread_mutex_unlock(&mine[i]);
            EXPECT(error == 0, "unlocking the main thread's %s mutex: %d", names[i], error);
        }
        sem_post(&let_go);
        down(&let_gone);
        for (int i = 0; i < kinds; i++) {
            EXPECT(locked[i] == 0, "the other thread locks its %s mutex: %d", names[i], locked[i]);
            EXPECT(again[i] == 0, "the other thread's %s mutex is not its own: %d", names[i], again[i]);
            EXPECT(unlocked[i] == 0, "the other thread unlocks its %s mutex: %d", names[i], unlocked[i]);
            int error = pthread_mutex_lock(&theirs[i]);
            EXPECT(error == 0, "the %s mutex that was let go: %d", names[i], error);
            EXPECT(pthread_mutex_unlock(&theirs[i]) == 0, "unlock");
        }
        while (got_through == before)
            usleep(500);
        for (int i = 0; i < kinds; i++)
            EXPECT(pthread_mutex_lock(&mine[i]) == 0, "locking the %s mutex again", names[i]);
        sem_post(&take);
        sem_post(&wait_again);
        down(&taken);
    } while (report());
    return finish();
}
