/*
 * The process and its threads keep their ids: getpid, gettid, what glibc has in its descriptors, /proc, the owners of
 * recursive, error-checking, robust and priority-inheritance mutexes that are held, signals by pthread_kill, raise and
 * kill. The parent's id is not among them.
 */
#include "harness.h"
#include <pthread.h>
#include <signal.h>

enum { THREADS = 4, KINDS = 4 };
static pid_t pid, tids[THREADS];
static pthread_t threads[THREADS];
static volatile sig_atomic_t caught[THREADS + 1];
static __thread int number = THREADS;
static pthread_mutex_t held[KINDS], lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int asked, answered[THREADS], owner_results[KINDS], stranger_results[KINDS], id_results[THREADS];

static void on_signal(int signal)
{
    (void)signal;
    caught[number]++;
}

/* Thread 0 holds the mutexes; the others find them held. */
static void try_mutexes(int me)
{
    for (int kind = 0; kind < KINDS; kind++)
        if (me != 0) {
            stranger_results[kind] = pthread_mutex_trylock(&held[kind]);
        } else {
            owner_results[kind] = pthread_mutex_lock(&held[kind]);
            if (owner_results[kind] == 0)
                pthread_mutex_unlock(&held[kind]);
            /* Given up and taken again, too. */
            if (pthread_mutex_unlock(&held[kind]) != 0 || pthread_mutex_lock(&held[kind]) != 0)
                owner_results[kind] = -1;
        }
}

static void *thread(void *argument)
{
    number = (int)(intptr_t)argument;
    tids[number] = (pid_t)syscall(SYS_gettid);
    if (number == 0)
        for (int kind = 0; kind < KINDS; kind++)
            NEED(pthread_mutex_lock(&held[kind]) == 0);
    pthread_mutex_lock(&lock);
    for (int done = 0;;) {
        answered[number] = done;
        pthread_cond_broadcast(&cond);
        while (asked == done)
            pthread_cond_wait(&cond, &lock);
        done = asked;
        /* One after the other: the strangers look when the owner has the mutexes. */
        while (number > 0 && answered[number - 1] != done)
            pthread_cond_wait(&cond, &lock);
        id_results[number] = syscall(SYS_gettid) == tids[number] && gettid() == tids[number];
        try_mutexes(number);
    }
    return NULL;
}

static void *tell_id(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)gettid();
}

static void init_mutexes(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    NEED(pthread_mutex_init(&held[1], &attributes) == 0);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    NEED(pthread_mutex_init(&held[2], &attributes) == 0);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    NEED(pthread_mutex_init(&held[3], &attributes) == 0);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_NONE);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    NEED(pthread_mutex_init(&held[0], &attributes) == 0);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    char name[64], link[64];

    start(argc, argv);
    pid = getpid();
    NEED(sigaction(SIGRTMIN, &action, NULL) == 0);
    init_mutexes();
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, thread, (void *)(intptr_t)i) == 0);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < THREADS; i++)
        while (tids[i] == 0)
            pthread_cond_wait(&cond, &lock);
    pthread_mutex_unlock(&lock);
    ready();
    do {
        int round = next_round();
        EXPECT(getpid() == pid + (broken() ? 1 : 0), "pid %d, was %d", (int)getpid(), (int)pid);
        EXPECT(gettid() == pid, "thread id %d, was %d", (int)gettid(), (int)pid);
        snprintf(name, sizeof name, "/proc/%d/task/%d/children", (int)pid, (int)tids[1]);
        EXPECT(access(name, F_OK) == 0, "no %s", name);
        link[readlink("/proc/self", link, sizeof link - 1)] = 0;
        EXPECT(atoi(link) == pid, "/proc/self leads to %d", atoi(link));

        pthread_mutex_lock(&lock);
        asked++;
        pthread_cond_broadcast(&cond);
        while (answered[THREADS - 1] != asked)
            pthread_cond_wait(&cond, &lock);
        for (int i = 0; i < THREADS; i++)
            EXPECT(id_results[i], "thread %d has another id", i);
        for (int kind = 0; kind < KINDS; kind++) {
            EXPECT(owner_results[kind] == (kind == 0 ? 0 : EDEADLK), "mutex %d, its owner: %d", kind,
                   owner_results[kind]);
            EXPECT(stranger_results[kind] == EBUSY, "mutex %d, another thread: %d", kind, stranger_results[kind]);
        }
        pthread_mutex_unlock(&lock);

        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_kill(threads[i], SIGRTMIN) == 0, "pthread_kill of thread %d", i);
            for (int tries = 0; caught[i] < round && tries < 5000; tries++)
                usleep(1000);
            EXPECT(caught[i] == round, "thread %d has caught %d", i, (int)caught[i]);
        }
        raise(SIGRTMIN);
        EXPECT(caught[THREADS] == 2 * round - 1, "raise: %d", (int)caught[THREADS]);
        pthread_kill(pthread_self(), SIGRTMIN);
        EXPECT(caught[THREADS] == 2 * round, "pthread_kill of itself: %d", (int)caught[THREADS]);
        EXPECT(kill(pid, 0) == 0, "kill: errno %d", errno);

        pthread_t more;
        void *result = NULL;
        EXPECT(pthread_create(&more, NULL, tell_id, NULL) == 0, "no more threads");
        EXPECT(pthread_join(more, &result) == 0, "join");
        for (int i = 0; i < THREADS; i++)
            EXPECT((pid_t)(intptr_t)result != tids[i], "a new thread has the id of an old one");
    } while (report());
    return finish();
}
