/*
 * eventfd (count, semaphore), timerfd (time left, interval, missed ticks, disarmed), signalfd, a pidfd of the process itself.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static uint64_t take(int fd)
{
    uint64_t value = 0;
    return read(fd, &value, sizeof value) == sizeof value ? value : UINT64_MAX;
}

static void put(int fd, uint64_t value)
{
    NEED(write(fd, &value, sizeof value) == sizeof value);
}

int main(int argc, char **argv)
{
    sigset_t mask;
    start(argc, argv);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGRTMIN + 3);
    NEED(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    int count = eventfd(0, EFD_NONBLOCK), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    int signals = signalfd(-1, &mask, SFD_NONBLOCK);
    int ticking = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), far = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
    int once = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), idle_timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK);
    NEED(count >= 0 && semaphore >= 0 && signals >= 0 && ticking >= 0 && far >= 0 && once >= 0 && idle_timer >= 0);
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    NEED(self >= 0);
    put(count, 0x100000005ull);
    /* 1 ms, then every 1000 s: one tick is missed at once, the next one is far away */
    struct itimerspec tick = {.it_value = {0, 1000000}, .it_interval = {1000, 0}};
    struct itimerspec day = {.it_value = {4000000000u / 2, 0}, .it_interval = {7, 9}};
    struct itimerspec shot = {.it_value = {0, 1}}, now;
    NEED(timerfd_settime(ticking, 0, &tick, NULL) == 0);
    NEED(timerfd_settime(far, TFD_TIMER_ABSTIME, &day, NULL) == 0);
    NEED(timerfd_settime(once, 0, &shot, NULL) == 0);
    struct pollfd both[2] = {{.fd = ticking, .events = POLLIN}, {.fd = once, .events = POLLIN}};
    for (int n = 0; n < 2;)
        NEED((n = poll(both, 2, -1)) >= 0 || errno == EINTR);
    kill(getpid(), SIGUSR1);
    ready();
    do {
        next_round();
        if (broken())
            put(count, 1);
        EXPECT(take(count) == 0x100000005ull, "count");
        EXPECT(take(count) == UINT64_MAX && errno == EAGAIN, "count is not reset");
        put(count, 0x100000005ull);
        EXPECT(take(semaphore) == 1 && take(semaphore) == 1 && take(semaphore) == 1, "semaphore");
        EXPECT(take(semaphore) == UINT64_MAX && errno == EAGAIN, "semaphore is not zero");
        put(semaphore, 3);
        EXPECT(fcntl(semaphore, F_GETFD) == FD_CLOEXEC && fcntl(far, F_GETFD) == FD_CLOEXEC, "close-on-exec");
        EXPECT(fcntl(signals, F_GETFD) == 0, "close-on-exec");
        EXPECT(fcntl(far, F_GETFL) == O_RDWR && fcntl(once, F_GETFL) == (O_RDWR | O_NONBLOCK), "flags %#x",
               fcntl(once, F_GETFL));

        EXPECT(timerfd_gettime(ticking, &now) == 0 && now.it_interval.tv_sec == 1000, "interval");
        EXPECT(now.it_value.tv_sec > 500 && now.it_value.tv_sec < 1000, "%ld s left", (long)now.it_value.tv_sec);
        uint64_t ticks = take(ticking);
        EXPECT(ticks == 1, "%llu ticks", (unsigned long long)ticks);
        EXPECT(take(once) == 1, "the one shot");
        EXPECT(take(ticking) == UINT64_MAX && take(once) == UINT64_MAX, "ticks twice");
        EXPECT(timerfd_gettime(far, &now) == 0 && now.it_interval.tv_sec == 7 && now.it_interval.tv_nsec == 9, "far");
        long end = (long)now.it_value.tv_sec + (long)time(NULL);
        EXPECT(labs(end - (long)day.it_value.tv_sec) <= 2, "the time of day is off by %ld", end - (long)day.it_value.tv_sec);
        EXPECT(timerfd_gettime(idle_timer, &now) == 0 && now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0, "armed");
        NEED(timerfd_settime(ticking, 0, &tick, NULL) == 0 && timerfd_settime(once, 0, &shot, NULL) == 0);
        for (int n = 0; n < 2;)
            NEED((n = poll(both, 2, -1)) >= 0 || errno == EINTR);

        struct signalfd_siginfo info;
        EXPECT(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1, "signalfd");
        EXPECT(read(signals, &info, sizeof info) == -1 && errno == EAGAIN, "signalfd has more");
        sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 77});
        EXPECT(read(signals, &info, sizeof info) == sizeof info && info.ssi_int == 77, "signalfd lost its mask");
        kill(getpid(), SIGUSR1);
        EXPECT(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) == 0, "pidfd: errno %d", errno);
        struct pollfd alive = {.fd = self, .events = POLLIN};
        EXPECT(poll(&alive, 1, 0) == 0, "pidfd says that this process has ended");
    } while (report());
    return finish();
}
