/*
 * The three interval timers: time left and period, one that has gone off while its signal is
 * blocked, and those that do not run.
 */
#include "harness.h"
#include <signal.h>
#include <sys/time.h>

static volatile int ticks[3];
static const int signals[3] = {SIGALRM, SIGVTALRM, SIGPROF};

static void on_signal(int sig)
{
    for (int i = 0; i < 3; i++)
        ticks[i] += sig == signals[i];
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void set(int which, double value, double interval)
{
    struct itimerval timer;
    timer.it_value.tv_sec = (long)value;
    timer.it_value.tv_usec = (long)((value - (double)(long)value) * 1e6);
    timer.it_interval.tv_sec = (long)interval;
    timer.it_interval.tv_usec = (long)((interval - (double)(long)interval) * 1e6);
    NEED(setitimer(which, &timer, NULL) == 0);
}

static void set_all(void)
{
    set(ITIMER_REAL, 1000, 2.5);
    set(ITIMER_VIRTUAL, 500, 33.75);
    set(ITIMER_PROF, 0.4, 77.25);
}

static void burn(double cpu)
{
    struct timespec from, now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while ((double)(now.tv_sec - from.tv_sec) + (double)(now.tv_nsec - from.tv_nsec) / 1e9 < cpu);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_handler = on_signal};
    for (int i = 0; i < 3; i++)
        NEED(sigaction(signals[i], &action, NULL) == 0);
    sigset_t alarm_set;
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    set_all();
    ready();
    do {
        int round = next_round();
        struct itimerval real, virtual, prof;
        if (broken()) {
            set(ITIMER_REAL, 0, 0);
            set(ITIMER_PROF, 0, 0);
        }
        getitimer(ITIMER_REAL, &real);
        getitimer(ITIMER_VIRTUAL, &virtual);
        getitimer(ITIMER_PROF, &prof);
        if (round % 2 == 1) {
            double left = seconds(real.it_value);
            EXPECT(left > 700 && left <= 1000, "%.3f s left of ITIMER_REAL", left);
            note("gone by: %.3f", 1000 - left);
            EXPECT(seconds(real.it_interval) == 2.5, "interval %.3f", seconds(real.it_interval));
            EXPECT(ticks[0] == 0, "%d signals of a timer that has not gone off", ticks[0]);
            left = seconds(virtual.it_value);
            EXPECT(left > 300 && left <= 500.1, "%.3f s left of ITIMER_VIRTUAL", left);
            EXPECT(seconds(virtual.it_interval) == 33.75, "interval %.3f", seconds(virtual.it_interval));
            /* CPU time: what is left goes by while the program computes, not while it waits. */
            EXPECT(seconds(prof.it_interval) == 77.25, "interval %.3f", seconds(prof.it_interval));
            EXPECT(seconds(prof.it_value) <= 0.45, "%.3f s left of ITIMER_PROF", seconds(prof.it_value));
            int before = ticks[2];
            for (int i = 0; i < 300 && ticks[2] == before; i++)
                burn(0.01);
            EXPECT(ticks[2] == before + 1, "%d signals of ITIMER_PROF", ticks[2] - before);
            /* Goes off while its signal is blocked, and stops. */
            sigprocmask(SIG_BLOCK, &alarm_set, NULL);
            set(ITIMER_REAL, 0.001, 0);
            set(ITIMER_VIRTUAL, 0, 0);
            sigset_t pending;
            do
                sigpending(&pending);
            while (sigismember(&pending, SIGALRM) != 1);
        } else {
            EXPECT(seconds(real.it_value) == 0 && seconds(real.it_interval) == 0, "ITIMER_REAL runs");
            EXPECT(seconds(virtual.it_value) == 0 && seconds(virtual.it_interval) == 0, "ITIMER_VIRTUAL runs");
            EXPECT(ticks[0] == 0, "SIGALRM is blocked");
            sigprocmask(SIG_UNBLOCK, &alarm_set, NULL);
            EXPECT(ticks[0] == 1, "%d signals instead of the one that was pending", ticks[0]);
            ticks[0] = 0;
            set_all();
        }
    } while (report());
    return finish();
}
