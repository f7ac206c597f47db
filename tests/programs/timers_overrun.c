/*
 * A timer that goes off again and again while its signal is blocked: one signal is pending, and
 * overruns are counted. All expirations together are as many as the time has room for.
 */
// libs: -lrt
#include "harness.h"
#include <signal.h>

static const double every = 0.004;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    timer_t timer;
    sigset_t set;
    start(argc, argv);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    event.sigev_value.sival_int = 4711;
    NEED(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec setting = {{0, (long)(every * 1e9)}, {0, (long)(every * 1e9)}};
    double from = now();
    NEED(timer_settime(timer, 0, &setting, NULL) == 0);
    /* At least ten of them have been missed when the checkpoint comes. */
    do
        test_idle_sleep();
    while (now() < from + 10.5 * every);
    ready();
    do {
        next_round();
        long ticks = 0;
        siginfo_t info;
        struct timespec none = {0, 0};
        double before = now();
        while (sigtimedwait(&set, &info, &none) > 0) {
            int overrun = timer_getoverrun(timer);
            EXPECT(info.si_code == SI_TIMER && info.si_value.sival_int == 4711, "code %d value %d", info.si_code,
                   info.si_value.sival_int);
            EXPECT(overrun == info.si_overrun, "timer_getoverrun says %d, the signal %d", overrun, info.si_overrun);
            ticks += 1 + overrun;
        }
        if (broken())
            ticks -= 5;
        double after = now();
        /* The time between the checkpoint and a restart does not count. */
        double least = restarted() ? 10 : (before - from) / every - 1.01, most = (after - from) / every + 1.01;
        EXPECT((double)ticks >= least && (double)ticks <= most, "%ld ticks instead of %.2f to %.2f", ticks, least, most);
        from = now();
        NEED(timer_settime(timer, 0, &setting, NULL) == 0);
        do
            test_idle_sleep();
        while (now() < from + 10.5 * every);
    } while (report());
    return finish();
}
