/* Threads that never rest in what goes by thread ids and by the kernel's help: cancellation in both ways, owners that die
 * with a robust mutex, priority inheritance, signals to a thread; and in pthread_once, destructors of detached threads,
 * barriers, spin locks, a mutex and a condition variable shared by processes. Nothing may be lost or done twice. */
#include "harness.h"
#include "semaphores.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { CANCEL, CANCEL_ANYWHERE, OWNER_DIES, INHERIT, SIGNALS, ONCE, DETACHED, BARRIER, SPIN, SHARED, KINDS };
static const char *const names[KINDS] = {"cancellation", "asynchronous cancellation", "robust mutexes",
                                         "priority inheritance", "signals to a thread", "pthread_once",
                                         "detached threads", "barriers", "spin locks", "process-shared"};
static volatile int stop;
static volatile unsigned turns[KINDS], wrong[KINDS];

static pthread_t run(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static void turn(int kind, int right)
{
    if (!right)
        wrong[kind]++;
    turns[kind]++;
}

static unsigned cleaned;
static void clean(void *unused)
{
    (void)unused;
    cleaned++;
}

static void *wait_long(void *started)
{
    pthread_cleanup_push(clean, NULL);
    sem_post(started);
    for (;;)
        sleep(1000);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *cancel(void *unused)
{
    sem_t started;
    NEED(sem_init(&started, 0, 0) == 0);
    while (!stop) {
        void *result = NULL;
        unsigned before = cleaned;
        pthread_t thread = run(wait_long, &started);
        if (turns[CANCEL] % 2 == 0)
            down(&started);
        int error = pthread_cancel(thread);
        error |= pthread_join(thread, &result);
        while (sem_trywait(&started) == 0)
            ;
        /* One that had not begun has no handler yet. */
        turn(CANCEL, error == 0 && result == PTHREAD_CANCELED && cleaned - before <= 1 &&
                         (turns[CANCEL] % 2 == 1 || cleaned != before));
    }
    return unused;
}

static void *spin_until_cancel(void *counter)
{
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    for (;;)
        ++*(volatile unsigned *)counter;
    return NULL;
}

static void *cancel_anywhere(void *unused)
{
    while (!stop) {
        volatile unsigned counter = 0;
        void *result = NULL;
        pthread_t thread = run(spin_until_cancel, (void *)&counter);
        while (counter == 0)
            sched_yield();
        int error = pthread_cancel(thread) | pthread_join(thread, &result);
        turn(CANCEL_ANYWHERE, error == 0 && result == PTHREAD_CANCELED);
    }
    return unused;
}

static void *die_with(void *mutex)
{
    return (void *)(intptr_t)pthread_mutex_lock(mutex);
}

static void *owners_die(void *unused)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;
    NEED(pthread_mutexattr_init(&attributes) == 0);
    NEED(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    NEED(pthread_mutex_init(&mutex, &attributes) == 0);
    while (!stop) {
        void *result = NULL;
        int joined = pthread_join(run(die_with, &mutex), &result);
        int locked = pthread_mutex_lock(&mutex);
        int rest = pthread_mutex_consistent(&mutex) | pthread_mutex_unlock(&mutex);
        turn(OWNER_DIES, joined == 0 && result == NULL && locked == EOWNERDEAD && rest == 0);
    }
    return unused;
}

static pthread_mutex_t inherit;
static volatile unsigned under_inherit, by_inherit[2];
static void *count_under_inherit(void *mine)
{
    while (!stop) {
        int locked = pthread_mutex_lock(&inherit);
        under_inherit++;
        if (under_inherit % 16 == 0)
            sched_yield(); /* so that the other one waits in the kernel */
        ++*(volatile unsigned *)mine;
        turn(INHERIT, locked == 0 && pthread_mutex_unlock(&inherit) == 0);
    }
    return NULL;
}

static sem_t got_signal;
static void on_signal(int signal)
{
    (void)signal;
    sem_post(&got_signal);
}

static void *stay(void *unused)
{
    while (!stop)
        pause();
    return unused;
}

static void *send_signals(void *unused)
{
    pthread_t target = run(stay, NULL);
    while (!stop) {
        int error = pthread_kill(target, SIGUSR1);
        down(&got_signal);
        turn(SIGNALS, error == 0 && sem_trywait(&got_signal) != 0);
    }
    /* It may look at `stop` just before it waits. */
    do
        pthread_kill(target, SIGUSR1);
    while (pthread_tryjoin_np(target, NULL) != 0 && usleep(1000) == 0);
    return unused;
}

static pthread_once_t once;
static volatile unsigned initialised;
static void initialise(void)
{
    sched_yield();
    initialised++;
}

static void *call_once(void *unused)
{
    pthread_once(&once, initialise);
    return (void *)(uintptr_t)(initialised != 1) + (uintptr_t)unused;
}

static void *call_once_by_two(void *unused)
{
    while (!stop) {
        void *results[2] = {NULL, NULL};
        once = (pthread_once_t)PTHREAD_ONCE_INIT;
        initialised = 0;
        pthread_t first = run(call_once, NULL), second = run(call_once, NULL);
        int error = pthread_join(first, &results[0]) | pthread_join(second, &results[1]);
        turn(ONCE, error == 0 && results[0] == NULL && results[1] == NULL && initialised == 1);
    }
    return unused;
}

static pthread_key_t key;
static sem_t destroyed;
static void destroy(void *data)
{
    *(unsigned *)data += 1;
    sem_post(&destroyed);
}

static void *leave_data(void *data)
{
    pthread_detach(pthread_self());
    pthread_setspecific(key, data);
    return NULL;
}

static void *make_detached(void *unused)
{
    while (!stop) {
        unsigned data = 0;
        run(leave_data, &data);
        down(&destroyed);
        turn(DETACHED, data == 1);
    }
    return unused;
}

static pthread_barrier_t barrier;
static volatile unsigned at_barrier[2], barrier_ends;
static void *meet(void *number)
{
    int mine = (int)(intptr_t)number;
    while (!barrier_ends) {
        at_barrier[mine]++;
        pthread_barrier_wait(&barrier);
        int same = at_barrier[0] == at_barrier[1];
        if (mine == 0)
            barrier_ends = (unsigned)stop;
        pthread_barrier_wait(&barrier);
        if (mine == 0)
            turn(BARRIER, same);
    }
    return NULL;
}

static pthread_spinlock_t spin;
static volatile unsigned under_spin, by_spin[2];
static void *count_under_spin(void *mine)
{
    while (!stop) {
        pthread_spin_lock(&spin);
        under_spin++;
        pthread_spin_unlock(&spin);
        ++*(volatile unsigned *)mine;
        if (*(volatile unsigned *)mine % 64 == 0) {
            turn(SPIN, 1);
            sched_yield();
        }
    }
    return NULL;
}

static struct shared {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned whose, passed[2];
    int ends;
} *shared;
static void *pass_to_and_fro(void *number)
{
    unsigned mine = (unsigned)(uintptr_t)number;
    int ends = 0;
    while (!ends) {
        int error = pthread_mutex_lock(&shared->mutex);
        while (shared->whose != mine && !shared->ends)
            error |= pthread_cond_wait(&shared->changed, &shared->mutex);
        shared->passed[mine] += shared->whose == mine;
        shared->whose = !mine;
        shared->ends |= stop;
        ends = shared->ends;
        error |= pthread_cond_broadcast(&shared->changed) | pthread_mutex_unlock(&shared->mutex);
        turn(SHARED, error == 0);
    }
    return NULL;
}

static void make_shared(void)
{
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED && pthread_mutexattr_init(&mutex) == 0 && pthread_condattr_init(&condition) == 0);
    NEED(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0);
    NEED(pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED) == 0);
    NEED(pthread_mutex_init(&shared->mutex, &mutex) == 0 && pthread_cond_init(&shared->changed, &condition) == 0);
    NEED(pthread_mutexattr_init(&mutex) == 0 && pthread_mutexattr_setprotocol(&mutex, PTHREAD_PRIO_INHERIT) == 0);
    NEED(pthread_mutex_init(&inherit, &mutex) == 0);
}

/* A timer for a single thread: with one, a checkpoint asks every thread for its signals once more. */
static void make_timer_for_a_thread(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    timer_t timer;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    NEED(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    make_timer_for_a_thread();
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    NEED(sigaction(SIGUSR1, &action, NULL) == 0);
    NEED(sem_init(&got_signal, 0, 0) == 0 && sem_init(&destroyed, 0, 0) == 0);
    NEED(pthread_key_create(&key, destroy) == 0 && pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE) == 0);
    NEED(pthread_barrier_init(&barrier, NULL, 2) == 0);
    make_shared();
    const pthread_t threads[] = {
        run(cancel, NULL),
        run(cancel_anywhere, NULL),
        run(owners_die, NULL),
        run(count_under_inherit, (void *)&by_inherit[0]),
        run(count_under_inherit, (void *)&by_inherit[1]),
        run(send_signals, NULL),
        run(call_once_by_two, NULL),
        run(make_detached, NULL),
        run(meet, (void *)0),
        run(meet, (void *)1),
        run(count_under_spin, (void *)&by_spin[0]),
        run(count_under_spin, (void *)&by_spin[1]),
        run(pass_to_and_fro, (void *)0),
        run(pass_to_and_fro, (void *)1),
    };
    ready();
    do {
        next_round();
        unsigned before[KINDS];
        for (int kind = 0; kind < KINDS; kind++)
            before[kind] = turns[kind];
        /* Each goes on. */
        for (int kind = 0; kind < KINDS; kind++) {
            for (int i = 0; i < 20000 && turns[kind] - before[kind] < 3; i++)
                usleep(500);
            EXPECT(turns[kind] - before[kind] >= 3, "%s: no turn any more", names[kind]);
            EXPECT(wrong[kind] == 0, "%s: %u of %u turns were wrong", names[kind], wrong[kind], turns[kind]);
        }
        if (broken())
            by_spin[0]++;
        if (test_last || broken()) {
            stop = 1;
            for (unsigned i = 0; i < sizeof threads / sizeof *threads; i++)
                EXPECT(pthread_join(threads[i], NULL) == 0, "join");
            for (int kind = 0; kind < KINDS; kind++)
                EXPECT(wrong[kind] == 0, "%s: %u of %u turns were wrong", names[kind], wrong[kind], turns[kind]);
            EXPECT(under_inherit == by_inherit[0] + by_inherit[1], "%u counted with inheritance", under_inherit);
            EXPECT(under_spin == by_spin[0] + by_spin[1], "%u counted under the spin lock", under_spin);
            unsigned apart = shared->passed[0] - shared->passed[1];
            EXPECT(apart + 1 <= 2, "%u and %u passed on", shared->passed[0], shared->passed[1]);
        }
    } while (report());
    return finish();
}
