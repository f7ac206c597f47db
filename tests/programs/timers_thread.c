/*
 * Timers that belong to threads: SIGEV_THREAD_ID tells the right one, a timer of a thread's CPU time
 * counts that thread's, and glibc's SIGEV_THREAD calls its function.
 */
// libs: -lrt -lpthread
#include "harness.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

enum { THREADS = 3 };

static struct worker {
    pthread_t thread;
    sem_t go, done;
    int id, cpu_id;
    volatile int told, other, cpu_told;
    double burn;
} workers[THREADS];
static __thread struct worker *self;
static volatile int called;

static void on_timer(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (self == &workers[info->si_value.sival_int])
        self->told++;
    else
        workers[info->si_value.sival_int].other++;
}

static void on_cpu(int sig, siginfo_t *info, void *context)
{
    (void)sig, (void)context;
    if (self == &workers[info->si_value.sival_int])
        self->cpu_told++;
}

static void on_thread(union sigval value)
{
    called += value.sival_int;
}

static int make(clockid_t clock, int sig, int value)
{
    struct {
        int value, sig, notify, tid, pad[12];
    } event = {value, sig, SIGEV_THREAD_ID, (int)syscall(SYS_gettid), {0}};
    int id = -1;
    NEED(syscall(SYS_timer_create, clock, &event, &id) == 0);
    return id;
}

static void set(int id, long sec, long nsec)
{
    long setting[4] = {0, 0, sec, nsec};
    NEED(syscall(SYS_timer_settime, id, 0, setting, NULL) == 0);
}

static void *work(void *arg)
{
    self = arg;
    int number = (int)(self - workers);
    self->id = make(CLOCK_MONOTONIC, SIGRTMIN + 1, number);
    self->cpu_id = make(CLOCK_THREAD_CPUTIME_ID, SIGRTMIN + 2, number);
    set(self->id, 1000, 0);
    set(self->cpu_id, 0, 60000000);
    sem_post(&self->done);
    for (;;) {
        while (sem_wait(&self->go) != 0)
            ;
        struct timespec from, now;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        do
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        while ((double)(now.tv_sec - from.tv_sec) + (double)(now.tv_nsec - from.tv_nsec) / 1e9 < self->burn);
        sem_post(&self->done);
    }
    return NULL;
}

static void let_work(struct worker *worker, double burn)
{
    worker->burn = burn;
    sem_post(&worker->go);
    while (sem_wait(&worker->done) != 0)
        ;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    NEED(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    action.sa_sigaction = on_cpu;
    NEED(sigaction(SIGRTMIN + 2, &action, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread};
    event.sigev_value.sival_int = 1;
    timer_t timer;
    NEED(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    for (int i = 0; i < THREADS; i++) {
        NEED(sem_init(&workers[i].go, 0, 0) == 0 && sem_init(&workers[i].done, 0, 0) == 0);
        NEED(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        while (sem_wait(&workers[i].done) != 0)
            ;
    }
    struct itimerspec setting = {{0, 0}, {900, 0}}, left;
    NEED(timer_settime(timer, 0, &setting, NULL) == 0);
    ready();
    do {
        next_round();
        if (broken())
            set(workers[1].cpu_id, 0, 0);
        NEED(timer_gettime(timer, &left) == 0);
        EXPECT(left.it_value.tv_sec > 600 && left.it_value.tv_sec <= 900, "%ld s left", (long)left.it_value.tv_sec);
        int before = called;
        setting.it_value = (struct timespec){0, 1000000};
        NEED(timer_settime(timer, 0, &setting, NULL) == 0);
        for (int i = 0; i < 5000 && called == before; i++)
            test_idle_sleep();
        EXPECT(called == before + 1, "the function of SIGEV_THREAD was called %d times", called - before);
        setting.it_value = (struct timespec){900, 0};
        NEED(timer_settime(timer, 0, &setting, NULL) == 0);
        for (int i = 0; i < THREADS; i++) {
            struct worker *w = &workers[i];
            EXPECT(w->told == 0 && w->other == 0, "timer %d went off early", i);
            set(w->id, 0, 500000);
            for (int n = 0; n < 5000 && w->told + w->other == 0; n++)
                test_idle_sleep();
            EXPECT(w->told == 1 && w->other == 0, "timer %d: told %d times, another thread %d", i, w->told, w->other);
            w->told = w->other = 0;
            set(w->id, 1000, 0);
            /* 60 ms of its own CPU time, whatever the others do. */
            EXPECT(w->cpu_told == 0, "the CPU timer of thread %d went off early", i);
            let_work(w, 0.03);
            EXPECT(w->cpu_told == 0, "the CPU timer of thread %d goes off after half its time", i);
            /* The kernel looks at its ticks only. */
            let_work(w, 0.035);
            for (int n = 0; n < 100 && w->cpu_told == 0; n++)
                let_work(w, 0.005);
            EXPECT(w->cpu_told == 1, "the CPU timer of thread %d went off %d times", i, w->cpu_told);
            w->cpu_told = 0;
            set(w->cpu_id, 0, 60000000);
        }
    } while (report());
    return finish();
}
