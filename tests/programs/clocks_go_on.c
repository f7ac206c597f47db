/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from what they showed at the checkpoint: they do not go back, whenever the
 * machine of the restart was booted, nor do they jump by the time that has passed, or by what that machine has been up.
 * By the vdso and by the kernel, the same.
 */
#include "harness.h"
#include <sys/timerfd.h>

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE};
#define CLOCKS (int)(sizeof clocks / sizeof clocks[0])
static double seen[CLOCKS];
static double longest[CLOCKS];

static double seconds(clockid_t clock, int by_kernel)
{
    int64_t t[2];
    struct timespec time;
    if (by_kernel) {
        NEED(syscall(SYS_clock_gettime64, clock, t) == 0);
        return (double)t[0] + (double)t[1] / 1e9;
    }
    NEED(clock_gettime(clock, &time) == 0);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void look(void)
{
    for (int i = 0; i < CLOCKS; i++)
        for (int by_kernel = 0; by_kernel < 2; by_kernel++) {
            double now = seconds(clocks[i], by_kernel), step = now - seen[i];
            if (step < 0 && clocks[i] != CLOCK_MONOTONIC_COARSE)
                longest[i] = -1;
            if (longest[i] >= 0 && step > longest[i] && seen[i] != 0)
                longest[i] = step;
            seen[i] = now;
        }
}

static void idle_look(void)
{
    look();
    usleep(1000);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    look();
    idle = idle_look;
    ready();
    do {
        next_round();
        look();
        if (broken())
            longest[0] = -1;
        for (int i = 0; i < CLOCKS; i++) {
            EXPECT(longest[i] >= 0, "clock %d has gone back, and shows %f", clocks[i], seen[i]);
            EXPECT(longest[i] < 5, "clock %d has gone forward by %f s", clocks[i], longest[i]);
            longest[i] = 0;
        }
        /* A moment that the kernel waits for is on the same clock. */
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        double begun = seconds(CLOCK_MONOTONIC, 1);
        until.tv_sec += until.tv_nsec >= 950000000;
        until.tv_nsec = (until.tv_nsec + 50000000) % 1000000000;
        NEED(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
        double took = seconds(CLOCK_MONOTONIC, 0) - begun;
        EXPECT(took > 0.049 && took < 5, "a wait until a moment took %f s", took);
    } while (report());
    return finish();
}
