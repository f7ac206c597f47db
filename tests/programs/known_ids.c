/*
 * The program goes on to know itself by the ids that it had, whether the kernel has given them to it again or not: what
 * libc tells of them, and what takes them: signals to the process and to threads, cancellation, names, scheduling,
 * limits, timers, owners of descriptors, mutexes that know their owner; in a child, the parent's.
 */
#define _GNU_SOURCE
#include "harness.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 3, KINDS = 2 };
static pid_t pid, tids[THREADS];
static pthread_t threads[THREADS];
static __thread int number = -1;
static volatile sig_atomic_t sender;
static volatile sig_atomic_t caught[THREADS + 1], value[THREADS + 1];
static pthread_mutex_t held[KINDS], lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int asked, answered[THREADS], right[THREADS], fds[2];

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    int me = number < 0 ? THREADS : number;
    sender = info->si_pid;
    value[me] = info->si_value.sival_int;
    caught[me]++;
}

static void *thread(void *argument)
{
    number = (int)(intptr_t)argument;
    tids[number] = gettid();
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
        right[number] = gettid() == tids[number] && syscall(SYS_gettid) == tids[number] && getpid() == pid;
        if (number == 0) {
            right[0] &= pthread_mutex_lock(&held[0]) == 0 && pthread_mutex_unlock(&held[0]) == 0;
            right[0] &= pthread_mutex_lock(&held[1]) == EDEADLK;
        } else {
            right[number] &= pthread_mutex_trylock(&held[0]) == EBUSY && pthread_mutex_unlock(&held[1]) == EPERM;
        }
    }
    return NULL;
}

static void *in_a_read(void *unused)
{
    char byte;
    (void)unused;
    while (read(fds[0], &byte, 1) < 0)
        ;
    return NULL;
}

static void *computing(void *unused)
{
    volatile unsigned n = 0;
    (void)unused;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;)
        n++;
    return NULL;
}

static void *tell_id(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)(gettid() == syscall(SYS_gettid) ? gettid() : -1);
}

/* Waits until thread `who` has caught one more. */
static int got_one(int who, int before)
{
    for (int tries = 0; caught[who] == before && tries < 5000; tries++)
        usleep(1000);
    return caught[who] == before + 1;
}

static pthread_t waiting[2];

static void start_waiting(void)
{
    NEED(pthread_create(&waiting[0], NULL, in_a_read, NULL) == 0);
    NEED(pthread_create(&waiting[1], NULL, computing, NULL) == 0);
}

static void cancel_waiting(void)
{
    for (int i = 0; i < 2; i++) {
        void *result = NULL;
        int error = pthread_cancel(waiting[i]);
        EXPECT(error == 0, "pthread_cancel: %d", error);
        if (error == 0) {
            pthread_join(waiting[i], &result);
            EXPECT(result == PTHREAD_CANCELED, "a thread was not cancelled");
        }
    }
}

static void signals(void)
{
    union sigval number = {.sival_int = 77};
    for (int i = 0; i < THREADS; i++) {
        int before = caught[i];
        EXPECT(pthread_kill(threads[i], SIGRTMIN) == 0 && got_one(i, before), "pthread_kill of thread %d", i);
        before = caught[i];
        EXPECT(tgkill(pid, tids[i], SIGRTMIN) == 0 && got_one(i, before), "tgkill of thread %d, errno %d", i, errno);
        before = caught[i];
        EXPECT(syscall(SYS_tgkill, pid, tids[i], SIGRTMIN) == 0 && got_one(i, before), "SYS_tgkill of thread %d", i);
        before = caught[i];
        EXPECT(syscall(SYS_tkill, tids[i], SIGRTMIN) == 0 && got_one(i, before), "SYS_tkill of thread %d", i);
        before = caught[i];
        EXPECT(pthread_sigqueue(threads[i], SIGRTMIN, number) == 0 && got_one(i, before), "pthread_sigqueue, %d", i);
        EXPECT(sender == pid, "pthread_sigqueue is from %d", (int)sender);
        EXPECT(value[i] == 77, "pthread_sigqueue has brought %d", (int)value[i]);
        value[i] = 0;
    }
    /* The others block this one. */
    int before = caught[THREADS];
    EXPECT(kill(pid, SIGRTMIN + 1) == 0 && got_one(THREADS, before), "kill, errno %d", errno);
    EXPECT(sender == pid, "kill is from %d", (int)sender);
    sender = 0;
    before = caught[THREADS];
    EXPECT(sigqueue(pid, SIGRTMIN + 1, number) == 0 && got_one(THREADS, before), "sigqueue, errno %d", errno);
    EXPECT(sender == pid, "sigqueue is from %d", (int)sender);
    sender = 0;
    before = caught[THREADS];
    EXPECT(raise(SIGRTMIN) == 0 && got_one(THREADS, before), "raise");
    EXPECT(sender == pid, "raise is from %d", (int)sender);
    before = caught[THREADS];
    EXPECT(pthread_kill(pthread_self(), SIGRTMIN) == 0 && got_one(THREADS, before), "pthread_kill of itself");
}

static void attributes(int round)
{
    struct sched_param parameters;
    struct timespec time;
    struct rlimit limit;
    char name[32], wanted[16];
    cpu_set_t cpus, same;
    pthread_attr_t attr;
    clockid_t clock;
    int policy;

    for (int i = 0; i < THREADS; i++) {
        snprintf(wanted, sizeof wanted, "round%d-%d", round, i);
        int error = pthread_setname_np(threads[i], wanted);
        EXPECT(error == 0, "pthread_setname_np: %d", error);
        error = pthread_getname_np(threads[i], name, sizeof name);
        EXPECT(error == 0 && strcmp(name, wanted) == 0, "pthread_getname_np: %d, %s", error, error ? "" : name);
        error = pthread_getaffinity_np(threads[i], sizeof cpus, &cpus);
        EXPECT(error == 0 && CPU_COUNT(&cpus) > 0, "pthread_getaffinity_np: %d", error);
        error = pthread_setaffinity_np(threads[i], sizeof cpus, &cpus);
        EXPECT(error == 0, "pthread_setaffinity_np: %d", error);
        EXPECT(sched_getaffinity(tids[i], sizeof same, &same) == 0 && CPU_EQUAL(&cpus, &same), "sched_getaffinity: %d",
               errno);
        memset(&parameters, 0, sizeof parameters);
        error = pthread_setschedparam(threads[i], round % 2 ? SCHED_BATCH : SCHED_OTHER, &parameters);
        EXPECT(error == 0, "pthread_setschedparam: %d", error);
        error = pthread_getschedparam(threads[i], &policy, &parameters);
        EXPECT(error == 0 && policy == (round % 2 ? SCHED_BATCH : SCHED_OTHER), "policy: %d, %d", error, policy);
        EXPECT(sched_getscheduler(tids[i]) == policy, "sched_getscheduler: %d", sched_getscheduler(tids[i]));
        error = pthread_getcpuclockid(threads[i], &clock);
        EXPECT(error == 0 && clock_gettime(clock, &time) == 0, "pthread_getcpuclockid: %d, errno %d", error, errno);
        error = pthread_getattr_np(threads[i], &attr);
        EXPECT(error == 0, "pthread_getattr_np: %d", error);
        if (error == 0) {
            void *stack = NULL;
            size_t size = 0;
            EXPECT(pthread_attr_getstack(&attr, &stack, &size) == 0 && stack != NULL && size >= 16384, "stack %p", stack);
            EXPECT(pthread_attr_getaffinity_np(&attr, sizeof same, &same) == 0 && CPU_EQUAL(&cpus, &same),
                   "affinity of the attributes");
            pthread_attr_destroy(&attr);
        }
        errno = 0;
        const int nice = getpriority(PRIO_PROCESS, tids[i]), nicer = nice < 19 ? nice + 1 : nice;
        EXPECT(errno == 0, "getpriority: errno %d", errno);
        EXPECT(setpriority(PRIO_PROCESS, tids[i], nicer) == 0, "setpriority: errno %d", errno);
        EXPECT(getpriority(PRIO_PROCESS, tids[i]) == nicer, "a nice value is %d", getpriority(PRIO_PROCESS, tids[i]));
    }
    EXPECT(prlimit(pid, RLIMIT_NOFILE, NULL, &limit) == 0, "prlimit: errno %d", errno);
    EXPECT(getpgid(pid) == getpgid(0) && getpgid(0) == getpgrp(), "getpgid %d, %d", getpgid(pid), getpgrp());
    EXPECT(getsid(pid) == getsid(0), "getsid %d, %d", getsid(pid), getsid(0));
    EXPECT(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &time) == 0, "clock_getcpuclockid");
}

static void owners_and_timers(void)
{
    struct f_owner_ex owner = {F_OWNER_TID, tids[1]}, found;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    struct itimerspec once = {.it_value = {.tv_nsec = 1000000}};
    timer_t timer;
    int pair[2];

    NEED(pipe(pair) == 0);
    EXPECT(fcntl(pair[0], F_SETOWN, pid) == 0, "F_SETOWN: errno %d", errno);
    EXPECT(fcntl(pair[0], F_GETOWN) == pid, "F_GETOWN: %d", fcntl(pair[0], F_GETOWN));
    EXPECT(fcntl(pair[0], F_SETOWN_EX, &owner) == 0, "F_SETOWN_EX: errno %d", errno);
    EXPECT(fcntl(pair[0], F_GETOWN_EX, &found) == 0 && found.type == owner.type && found.pid == owner.pid,
           "F_GETOWN_EX: %d", found.pid);
    close(pair[0]);
    close(pair[1]);

    event._sigev_un._tid = tids[2];
    int before = caught[2];
    EXPECT(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create: errno %d", errno);
    EXPECT(timer_settime(timer, 0, &once, NULL) == 0 && got_one(2, before), "a timer for a thread");
    timer_delete(timer);
}

static void child(void)
{
    int before = caught[THREADS], status = 0;
    pid_t id = fork();
    NEED(id >= 0);
    if (id == 0) {
        int wrong = getppid() != pid || getpid() == pid || gettid() != getpid() || kill(pid, SIGRTMIN + 1) != 0;
        _exit(wrong ? 1 : 0);
    }
    EXPECT(kill(id, 0) == 0, "kill of the child: errno %d", errno);
    EXPECT(waitpid(id, &status, 0) == id, "waitpid: errno %d", errno);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child sees other ids");
    EXPECT(got_one(THREADS, before), "the child's signal has not come");
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    pthread_mutexattr_t attr;
    sigset_t other;

    start(argc, argv);
    pid = getpid();
    NEED(sigaction(SIGRTMIN, &action, NULL) == 0 && sigaction(SIGRTMIN + 1, &action, NULL) == 0 && pipe(fds) == 0);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    NEED(pthread_mutex_init(&held[0], &attr) == 0);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    NEED(pthread_mutex_init(&held[1], &attr) == 0);
    sigemptyset(&other);
    sigaddset(&other, SIGRTMIN + 1);
    pthread_sigmask(SIG_BLOCK, &other, NULL);
    for (int i = 0; i < THREADS; i++)
        NEED(pthread_create(&threads[i], NULL, thread, (void *)(intptr_t)i) == 0);
    start_waiting();
    pthread_sigmask(SIG_UNBLOCK, &other, NULL);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < THREADS; i++)
        while (tids[i] == 0)
            pthread_cond_wait(&cond, &lock);
    pthread_mutex_unlock(&lock);
    ready();
    do {
        int round = next_round();
        EXPECT(getpid() == pid + (broken() ? 1 : 0), "getpid %d, was %d", (int)getpid(), (int)pid);
        EXPECT(gettid() == pid && syscall(SYS_gettid) == pid, "gettid %d, was %d", (int)gettid(), (int)pid);
        EXPECT(syscall(SYS_getpid) == pid, "SYS_getpid %d, was %d", (int)syscall(SYS_getpid), (int)pid);
        pthread_mutex_lock(&lock);
        asked++;
        pthread_cond_broadcast(&cond);
        for (int i = 0; i < THREADS; i++)
            while (answered[i] != asked)
                pthread_cond_wait(&cond, &lock);
        for (int i = 0; i < THREADS; i++)
            EXPECT(right[i], "thread %d sees another id, or is not who holds the mutexes", i);
        pthread_mutex_unlock(&lock);
        signals();
        attributes(round);
        owners_and_timers();
        child();
        cancel_waiting();
        void *result = NULL;
        pthread_t more;
        EXPECT(pthread_create(&more, NULL, tell_id, NULL) == 0 && pthread_join(more, &result) == 0, "one more thread");
        EXPECT((intptr_t)result > 0 && (pid_t)(intptr_t)result != pid, "its id is %d", (int)(intptr_t)result);
        pthread_sigmask(SIG_BLOCK, &other, NULL);
        start_waiting();
        pthread_sigmask(SIG_UNBLOCK, &other, NULL);
    } while (report());
    return finish();
}
