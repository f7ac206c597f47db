/*
 * Moments on CLOCK_MONOTONIC and CLOCK_BOOTTIME as the program sees these clocks, given to each system call that takes one,
 * by libc and by syscall(2): each must come when it is there, be it as the kernel counts or not. And the clocks by system
 * calls show what they show by libc, and never go back.
 */
// libs: -lpthread
#include "harness.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>

#define SECOND 1000000000LL
/* How far in the future they are, and what a busy machine may add. */
#define SOON (SECOND / 10)
#define SLACK (20 * SECOND)

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
static long long last[2];

static long long now(clockid_t clock)
{
    struct timespec time;
    NEED(clock_gettime(clock, &time) == 0);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static struct timespec as_time(long long ns)
{
    return (struct timespec){(time_t)(ns / SECOND), (long)(ns % SECOND)};
}

static long long by_syscall(clockid_t clock, int number, int is_long)
{
    long long time64[2];
    int32_t time32[2];
    NEED(syscall(number, clock, is_long ? (void *)time64 : (void *)time32) == 0);
    return is_long ? time64[0] * SECOND + time64[1] : time32[0] * SECOND + time32[1];
}

static int nanosleep_libc(clockid_t clock, long long until)
{
    struct timespec time = as_time(until);
    return clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL);
}

static int nanosleep_raw(clockid_t clock, long long until)
{
    const int32_t time[2] = {(int32_t)(until / SECOND), (int32_t)(until % SECOND)};
    return syscall(SYS_clock_nanosleep, clock, TIMER_ABSTIME, time, NULL) == 0 ? 0 : errno;
}

static int condition(clockid_t clock, long long until)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t attributes;
    pthread_cond_t never;
    struct timespec time = as_time(until);
    NEED(pthread_condattr_init(&attributes) == 0 && pthread_condattr_setclock(&attributes, clock) == 0);
    NEED(pthread_cond_init(&never, &attributes) == 0 && pthread_mutex_lock(&mutex) == 0);
    int result = pthread_cond_timedwait(&never, &mutex, &time);
    return result == ETIMEDOUT ? 0 : result == 0 ? -1 : result;
}

static int semaphore(clockid_t clock, long long until)
{
    sem_t never;
    struct timespec time = as_time(until);
    NEED(sem_init(&never, 0, 0) == 0);
    int result = sem_clockwait(&never, clock, &time);
    return result == -1 && errno == ETIMEDOUT ? 0 : result == 0 ? -1 : errno;
}

static int mutex(clockid_t clock, long long until)
{
    pthread_mutex_t taken = PTHREAD_MUTEX_INITIALIZER;
    struct timespec time = as_time(until);
    NEED(pthread_mutex_lock(&taken) == 0);
    int result = pthread_mutex_clocklock(&taken, clock, &time);
    return result == ETIMEDOUT ? 0 : result == 0 ? -1 : result;
}

static int futex(clockid_t clock, long long until)
{
    static uint32_t word;
    const int32_t time[2] = {(int32_t)(until / SECOND), (int32_t)(until % SECOND)};
    (void)clock;
    int result = (int)syscall(SYS_futex, &word, 9 /* FUTEX_WAIT_BITSET */, 0, time, NULL, -1);
    return result == -1 && errno == ETIMEDOUT ? 0 : result == 0 ? -1 : errno;
}

static int futex_waitv(clockid_t clock, long long until)
{
    static uint32_t word;
    const struct {
        uint64_t value, address;
        uint32_t flags, reserved;
    } waiter = {0, (uintptr_t)&word, 2, 0};
    const long long time[2] = {until / SECOND, until % SECOND};
    int result = (int)syscall(449, &waiter, 1, 0, time, clock);
    return result == -1 && errno == ETIMEDOUT ? 0 : result == 0 ? -1 : errno;
}

static int timer(clockid_t clock, long long until)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec time = {.it_value = as_time(until)}, none = {0}, left;
    const struct timespec limit = as_time(SLACK);
    timer_t timers[3]; /* Not the first that the kernel lists. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    NEED(timer_create(CLOCK_REALTIME, &event, &timers[0]) == 0 && timer_create(clock, &event, &timers[1]) == 0);
    NEED(timer_create(CLOCK_REALTIME, &event, &timers[2]) == 0);
    NEED(timer_settime(timers[1], TIMER_ABSTIME, &time, NULL) == 0);
    int result = sigtimedwait(&set, NULL, &limit) == SIGRTMIN ? 0 : errno;
    /* No moment at all. */
    NEED(timer_settime(timers[1], TIMER_ABSTIME, &none, NULL) == 0 && timer_gettime(timers[1], &left) == 0);
    EXPECT(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "a timer of clock %d goes on", clock);
    for (int i = 0; i < 3; i++)
        timer_delete(timers[i]);
    return result;
}

static int timerfd(clockid_t clock, long long until)
{
    struct itimerspec time = {.it_value = as_time(until), .it_interval = as_time(3600 * SECOND)}, set;
    struct pollfd fd = {timerfd_create(clock, TFD_NONBLOCK), POLLIN, 0};
    uint64_t ticks;
    NEED(fd.fd >= 0 && timerfd_settime(fd.fd, TFD_TIMER_ABSTIME, &time, NULL) == 0);
    int result = poll(&fd, 1, (int)(SLACK / 1000000)) == 1 && read(fd.fd, &ticks, sizeof ticks) == sizeof ticks;
    NEED(timerfd_gettime(fd.fd, &set) == 0);
    close(fd.fd);
    return result && ticks == 1 && set.it_interval.tv_sec == 3600 ? 0 : -1;
}

static const struct {
    const char *name;
    int (*wait)(clockid_t, long long);
    int is_for_monotonic_alone;
} waits[] = {
    {"clock_nanosleep", nanosleep_libc, 0},
    {"clock_nanosleep by syscall", nanosleep_raw, 0},
    {"pthread_cond_timedwait", condition, 1},
    {"sem_clockwait", semaphore, 1},
    {"pthread_mutex_clocklock", mutex, 1},
    {"futex by syscall", futex, 1},
    {"futex_waitv", futex_waitv, 1},
    {"timer_settime", timer, 0},
    {"timerfd_settime", timerfd, 0},
};

/* Timers of one round that go off in the next one, whatever comes in between: not before their moments. */
static int across[2] = {-1, -1};
static long long due[2];

static void check_across(void)
{
    for (int i = 0; i < 2; i++) {
        uint64_t ticks;
        if (across[i] >= 0) {
            NEED(read(across[i], &ticks, sizeof ticks) == sizeof ticks);
            long long early = due[i] - now(clocks[i]);
            EXPECT(early <= 0, "a timer of clock %d goes off %lld ns early", clocks[i], early);
            close(across[i]);
        }
        due[i] = now(clocks[i]) + SECOND * 3 / 2;
        struct itimerspec time = {.it_value = as_time(due[i])};
        NEED((across[i] = timerfd_create(clocks[i], 0)) >= 0);
        NEED(timerfd_settime(across[i], TFD_TIMER_ABSTIME, &time, NULL) == 0);
    }
}

static void check_clocks(void)
{
    struct sysinfo info;
    for (int i = 0; i < 2; i++) {
        const long long shown[] = {now(clocks[i]), by_syscall(clocks[i], SYS_clock_gettime, 0),
                                   by_syscall(clocks[i], 403, 1), now(clocks[i])};
        for (size_t j = 1; j < sizeof shown / sizeof *shown; j++)
            EXPECT(shown[j] >= shown[j - 1] && shown[j] - shown[j - 1] < SLACK,
                   "clock %d shows %lld after %lld (%zu)", clocks[i], shown[j], shown[j - 1], j);
        EXPECT(shown[0] >= last[i] && shown[0] - last[i] < 600 * SECOND && !broken(), "clock %d goes from %lld to %lld",
               clocks[i], last[i], shown[0]);
        last[i] = shown[3];
    }
    NEED(sysinfo(&info) == 0);
    long long differs = info.uptime - last[1] / SECOND;
    EXPECT(differs >= -1 && differs <= 20, "the uptime differs by %lld s", differs);
    EXPECT(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8) == -1 && errno == EFAULT, "a bad address is %d", errno);
    EXPECT(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, 8, NULL) == -1 && errno == EFAULT,
           "a bad address to sleep is %d", errno);
}

/* Vector registers and those of the x87 are the program's. */
static void check_registers(void)
{
    const int32_t past[2] = {1, 0};
    double in[2] = {1.5, -2.25}, out[2] = {0};
    long double x87;
    int result;
    __asm__ volatile("movupd %[in], %%xmm0; movapd %%xmm0, %%xmm7; fldpi; call *%%gs:0x10; movupd %%xmm7, %[out]"
                     : "=a"(result), [out] "=m"(out), "=t"(x87)
                     : "0"(SYS_clock_nanosleep), "b"(CLOCK_MONOTONIC), "c"(TIMER_ABSTIME), "d"(past), "S"(NULL),
                       [in] "m"(in)
                     : "memory");
    EXPECT(result == 0 && out[0] == in[0] && out[1] == in[1] && x87 > 3.14L && x87 < 3.15L, "registers are lost: %d, %g",
           result, out[0]);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    last[0] = now(CLOCK_MONOTONIC);
    last[1] = now(CLOCK_BOOTTIME);
    ready();
    do {
        next_round();
        check_clocks();
        check_registers();
        check_across();
        for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
            for (int j = 0; j < (waits[i].is_for_monotonic_alone ? 1 : 2); j++) {
                long long before = now(clocks[j]);
                int result = waits[i].wait(clocks[j], before + SOON);
                long long took = now(clocks[j]) - before;
                EXPECT(result == 0, "%s of clock %d ends with %d", waits[i].name, clocks[j], result);
                EXPECT(took >= SOON && took < SLACK, "%s of clock %d took %lld ns", waits[i].name, clocks[j], took);
            }
    } while (report());
    return finish();
}
