/*
 * Timers of timer_create(): ids with gaps, clocks, kinds of notification, time left, period; one that
 * has gone off; one that goes off after the checkpoint. The next timer gets an id of its own.
 */
// libs: -lrt -lpthread
#include "harness.h"
#include <pthread.h>
#include <signal.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
enum { COUNT = 9, DELETED = 3 };

static struct kind {
    clockid_t clock;
    int notify, sig;
    double left, every;
} kinds[COUNT] = {
    {CLOCK_MONOTONIC, SIGEV_SIGNAL, 0, 1000, 7.25},
    {CLOCK_REALTIME, SIGEV_SIGNAL, 1, 2000, 0},
    {CLOCK_BOOTTIME, SIGEV_NONE, 0, 3000, 1.5},
    {CLOCK_MONOTONIC, SIGEV_SIGNAL, 0, 0, 0}, /* deleted again: a gap between the ids */
    {CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 2, 600, 100},
    {CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, 2, 700, 0},
    {CLOCK_MONOTONIC, SIGEV_THREAD_ID, 3, 4000, 0},
    {CLOCK_TAI, SIGEV_SIGNAL, 4, 0, 0}, /* never set */
    {CLOCK_MONOTONIC, SIGEV_SIGNAL, 5, 0.001, 0}, /* has gone off */
};
static int ids[COUNT];

static double seconds(struct timespec time)
{
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The kernel's own: glibc's ids are addresses for some kinds. */
static int make(struct kind *kind, int value)
{
    struct {
        int value, sig, notify, tid, pad[12];
    } event = {value, SIGRTMIN + kind->sig, kind->notify, 0, {0}};
    int id = -1;
    if (kind->notify == SIGEV_THREAD_ID)
        event.tid = (int)syscall(SYS_gettid);
    NEED(syscall(SYS_timer_create, kind->clock, &event, &id) == 0);
    return id;
}

static void set(int id, double left, double every)
{
    struct {
        long every_sec, every_nsec, sec, nsec;
    } setting = {(long)every, (long)((every - (double)(long)every) * 1e9), (long)left,
                 (long)((left - (double)(long)left) * 1e9)};
    NEED(syscall(SYS_timer_settime, id, 0, &setting, NULL) == 0);
}

static int get(int id, struct itimerspec *out)
{
    long old[4];
    int failed = (int)syscall(SYS_timer_gettime, id, old);
    out->it_interval = (struct timespec){.tv_sec = old[0], .tv_nsec = old[1]};
    out->it_value = (struct timespec){.tv_sec = old[2], .tv_nsec = old[3]};
    return failed;
}

/* The clock that /proc tells for a timer, -1 if there is no such timer. */
static int clock_of(int id)
{
    static char text[8192] = "\n";
    char start[32], *timer, *clock;
    snprintf(start, sizeof start, "\nID: %d\n", id);
    slurp("/proc/self/timers", text + 1, sizeof text - 1);
    timer = strstr(text, start);
    clock = timer ? strstr(timer, "ClockID: ") : NULL;
    return clock ? atoi(clock + strlen("ClockID: ")) : -1;
}

static int is_cpu_time(clockid_t clock)
{
    return clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

static int take(const sigset_t *set, siginfo_t *info)
{
    struct {
        long sec, nsec;
    } now = {0, 0};
    return (int)syscall(SYS_rt_sigtimedwait, set, info, &now, 8);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    sigset_t used, pending;
    siginfo_t info;
    sigemptyset(&used);
    for (int i = 0; i < 8; i++)
        sigaddset(&used, SIGRTMIN + i);
    NEED(sigprocmask(SIG_BLOCK, &used, NULL) == 0);
    for (int i = 0; i < COUNT; i++)
        ids[i] = make(&kinds[i], 100 + i);
    syscall(SYS_timer_delete, ids[DELETED]);
    for (int i = 0; i < COUNT; i++)
        if (kinds[i].left != 0)
            set(ids[i], kinds[i].left, kinds[i].every);
    do
        sigpending(&pending);
    while (sigismember(&pending, SIGRTMIN + 5) != 1);
    ready();
    do {
        next_round();
        if (broken()) {
            syscall(SYS_timer_delete, ids[0]);
            set(ids[1], 0, 0);
        }
        for (int i = 0; i < COUNT; i++) {
            struct itimerspec now;
            int failed = get(ids[i], &now);
            EXPECT((failed != 0) == (i == DELETED), "timer %d, once %d: timer_gettime says %d", i, ids[i], failed);
            if (i == DELETED)
                continue;
            if (!is_cpu_time(kinds[i].clock))
                EXPECT(clock_of(ids[i]) == kinds[i].clock, "timer %d: clock %d", i, clock_of(ids[i]));
            if (i == COUNT - 1)
                continue;
            double left = seconds(now.it_value), every = seconds(now.it_interval);
            EXPECT(left <= kinds[i].left + 0.1 && left >= kinds[i].left - 300, "timer %d: %.3f s left of %.3f", i, left,
                   kinds[i].left);
            EXPECT((left == 0) == (kinds[i].left == 0), "timer %d: %.3f s left of %.3f", i, left, kinds[i].left);
            note("gone by: %.3f", kinds[i].left - left);
            EXPECT(every == kinds[i].every, "timer %d: every %.3f instead of %.3f", i, every, kinds[i].every);
        }
        /* The signal of the one that has gone off, once, with all that belongs to it. */
        memset(&info, 0, sizeof info);
        int got = take(&used, &info);
        EXPECT(got == SIGRTMIN + 5, "signal %d", got);
        EXPECT(info.si_code == SI_TIMER && info.si_timerid == ids[COUNT - 1] && info.si_overrun == 0 &&
                   info.si_value.sival_int == 100 + COUNT - 1,
               "code %d timer %d overrun %d value %d", info.si_code, info.si_timerid, info.si_overrun,
               info.si_value.sival_int);
        got = take(&used, &info);
        EXPECT(got < 0, "signal %d is one too many", got);
        /* All of them still notify as they did. */
        for (int i = 0; i < COUNT; i++) {
            if (kinds[i].left == 0 || i == DELETED || is_cpu_time(kinds[i].clock))
                continue;
            set(ids[i], 0.0005, 0);
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += 20;
            struct itimerspec left;
            do
                NEED(get(ids[i], &left) == 0);
            while (seconds(left.it_value) != 0);
            if (kinds[i].notify == SIGEV_NONE) {
                EXPECT(take(&used, &info) < 0, "SIGEV_NONE sent signal %d", info.si_signo);
            } else {
                struct timespec ten = {10, 0};
                got = sigtimedwait(&used, &info, &ten);
                EXPECT(got == SIGRTMIN + kinds[i].sig && info.si_timerid == ids[i] &&
                           info.si_value.sival_int == 100 + i,
                       "timer %d: signal %d of timer %d with value %d", i, got, info.si_timerid, info.si_value.sival_int);
            }
            set(ids[i], kinds[i].left, kinds[i].every);
        }
        /* A new timer is none of the old ones. */
        int fresh = make(&kinds[7], 1);
        for (int i = 0; i < COUNT; i++)
            EXPECT(fresh != ids[i] || i == DELETED, "the new timer has the id of timer %d", i);
        syscall(SYS_timer_delete, fresh);
        set(ids[COUNT - 1], 0.001, 0);
        do
            sigpending(&pending);
        while (sigismember(&pending, SIGRTMIN + 5) != 1);
    } while (report());
    return finish();
}
