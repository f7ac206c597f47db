/*
 * A random walk: threads that wait in all manners, for short times, hand on bytes through a pipe and a socket in pieces
 * of any size, and send and take signals with values, while a timer ticks. Each wait has to end by its time, not early
 * and not with EINTR, but for those of the main thread that a tick has interrupted; every byte, signal and tick is
 * accounted for.
 */
// libs: -lpthread -lrt
#include "harness.h"
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

enum { WAITERS = 4, KINDS = 13, PERIOD_MS = 7, MAX_WOKEN = 3 };
static int empty_pipe[2], epoll_fd, word;
static int silent[WAITERS + 1][2]; /* Sockets that nothing is sent to, for the main thread the last. */
static sem_t never;
static volatile unsigned waits, woken, bytes[2], values, ticks, overruns;
static char failed[512];

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (failed[0] == 0)
        vsnprintf(failed, sizeof failed, format, args);
    va_end(args);
}

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 12;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static struct timespec after(clockid_t clock, unsigned ms)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_nsec += ms * 1000000l;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

/*
 * The kernel wakes any thread for a signal of the process, and another may take it first: then epoll_wait and
 * sigtimedwait end with EINTR, also where no handler runs in their thread. That is seldom.
 */
static int wait_after_waking(unsigned ms)
{
    /* In the main thread it may have been a tick. */
    if (gettid() != getpid())
        __sync_fetch_and_add(&woken, 1);
    return poll(NULL, 0, (int)ms);
}

/* 0 when the time has run out, else an errno, or -1. */
static int wait_once(unsigned number, unsigned kind, unsigned ms)
{
    struct timespec left = {0, ms * 1000000l}, rest, until;
    struct timeval time = {0, ms * 1000};
    struct pollfd fd = {empty_pipe[0], POLLIN, 0};
    struct epoll_event event;
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    sigset_t set;
    fd_set fds;
    int result = 0, expected = 0;
    switch (kind) {
    case 0:
        result = nanosleep(&left, &rest);
        break;
    case 1:
        until = after(CLOCK_MONOTONIC, ms);
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    case 2:
        until = after(CLOCK_REALTIME, ms);
        return clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
    case 3:
        result = poll(&fd, 1, (int)ms);
        break;
    case 4:
        result = ppoll(&fd, 1, &left, NULL);
        break;
    case 5:
        FD_ZERO(&fds);
        FD_SET(empty_pipe[0], &fds);
        result = select(empty_pipe[0] + 1, &fds, NULL, NULL, &time);
        break;
    case 6:
        result = epoll_wait(epoll_fd, &event, 1, (int)ms);
        if (result < 0 && errno == EINTR)
            result = wait_after_waking(ms);
        break;
    case 7:
        until = after(CLOCK_REALTIME, ms);
        result = sem_timedwait(&never, &until);
        expected = ETIMEDOUT;
        break;
    case 8:
        result = (int)syscall(SYS_futex, &word, 0, 0, (long[2]){0, (long)ms * 1000000}, NULL, 0);
        expected = ETIMEDOUT;
        break;
    case 9:
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 9);
        result = sigtimedwait(&set, NULL, &left);
        expected = EAGAIN;
        if (result < 0 && errno == EINTR) {
            expected = 0;
            result = wait_after_waking(ms);
        }
        break;
    case 10:
        until = after(CLOCK_REALTIME, ms);
        pthread_mutex_lock(&own);
        result = pthread_cond_timedwait(&condition, &own, &until);
        pthread_mutex_unlock(&own);
        return result == ETIMEDOUT ? 0 : result;
    case 11:
        result = usleep(ms * 1000);
        break;
    default:
        time.tv_usec += ms == 0; /* None at all were no limit. */
        result = setsockopt(silent[number][0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        if (result == 0)
            result = (int)recv(silent[number][0], &fds, sizeof fds, 0);
        expected = EAGAIN;
    }
    if (result >= 0)
        return result == 0 && expected == 0 ? 0 : -1;
    return errno == expected ? 0 : errno;
}

static void *wait_on(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;
    for (;;) {
        unsigned kind = next(&seed) % KINDS, ms = next(&seed) % 20;
        int64_t begun = now();
        int error = wait_once((unsigned)(uintptr_t)number - 1, kind, ms);
        int64_t took = now() - begun;
        /* Times of day are slewed, and ticks of the clock are coarse. */
        if (error != 0 || took < ms * 1000000ll - 500000)
            fail("wait %u for %u ms ended with %d after %lld us", kind, ms, error, (long long)took / 1000);
        __sync_fetch_and_add(&waits, 1);
    }
    return NULL;
}

static int pairs[2][2]; /* a pipe and a socket: to read from, to write to */

static void *send_bytes(void *which)
{
    unsigned pair = (unsigned)(uintptr_t)which, seed = pair + 77, at = 0;
    static uint8_t buffers[2][70000];
    uint8_t *buffer = buffers[pair];
    for (;;) {
        size_t size = next(&seed) % 8 == 0 ? sizeof buffers[0] : next(&seed) % 300 + 1, sent = 0;
        for (size_t i = 0; i < size; i++)
            buffer[i] = (uint8_t)pattern_at(pair, at + i);
        while (sent < size) {
            ssize_t n = write(pairs[pair][1], buffer + sent, size - sent);
            if (n <= 0) {
                fail("a write of %zu bytes returned %zd, errno %d", size - sent, n, errno);
                return NULL;
            }
            sent += (size_t)n;
        }
        at += size;
        if (next(&seed) % 4 == 0)
            usleep(next(&seed) % 3000);
    }
}

static void *take_bytes(void *which)
{
    unsigned pair = (unsigned)(uintptr_t)which, seed = pair + 99, at = 0;
    static uint8_t buffers[2][9000];
    uint8_t *buffer = buffers[pair];
    for (;;) {
        size_t size = next(&seed) % sizeof buffers[0] + 1;
        int whole = pair == 1 && next(&seed) % 3 == 0;
        ssize_t n = whole ? recv(pairs[1][0], buffer, size, MSG_WAITALL) : read(pairs[pair][0], buffer, size);
        if (n <= 0) {
            fail("a read of %zu bytes returned %zd, errno %d", size, n, errno);
            return NULL;
        }
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != (uint8_t)pattern_at(pair, at + (size_t)i)) {
                fail("byte %u of stream %u is wrong", at + (unsigned)i, pair);
                return NULL;
            }
        at += (unsigned)n;
        bytes[pair] = at;
    }
}

static void *send_values(void *unused)
{
    unsigned seed = 5;
    for (unsigned i = 1;; i++) {
        while (sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = (int)i}) != 0) {
            if (errno != EAGAIN)
                fail("sigqueue: errno %d", errno);
            usleep(1000);
        }
        if (next(&seed) % 8 == 0)
            usleep(next(&seed) % 5000);
        /* Not more than a few hundred at once. */
        while (i - values > 200)
            usleep(1000);
    }
    return unused;
}

static void *take_values(void *unused)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    for (;;) {
        if (sigwaitinfo(&set, &info) < 0) {
            /* See wait_after_waking(). */
            if (errno != EINTR)
                fail("sigwaitinfo: errno %d", errno);
            continue;
        }
        if ((unsigned)info.si_value.sival_int != values + 1 || info.si_code != SI_QUEUE)
            fail("value %d, code %d after value %u", info.si_value.sival_int, info.si_code, values);
        values = (unsigned)info.si_value.sival_int;
    }
    return unused;
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    ticks++;
    overruns += (unsigned)info->si_overrun;
}

static void wait_for_a_tick(void)
{
    static unsigned seed = 3;
    unsigned before = ticks, kind = next(&seed) % KINDS;
    if (kind == 9 || kind == 8)
        kind = 0;
    int error = wait_once(WAITERS, kind, 15);
    if (error != 0 && error != EINTR)
        fail("wait %u of the main thread ended with %d", kind, error);
    /* After a restart the tick that has ended the wait is sent anew by the timer, at about the same time. */
    for (int64_t end = now() + 2000000; error == EINTR && ticks == before && now() < end;)
        ;
    if (error == EINTR && ticks == before)
        fail("wait %u of the main thread was interrupted by nothing", kind);
}

static void start_thread(void *(*body)(void *), uintptr_t argument)
{
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, body, (void *)argument) == 0);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct epoll_event event = {.events = EPOLLIN};
    NEED(pipe(empty_pipe) == 0 && pipe(pairs[0]) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[1]) == 0);
    NEED((epoll_fd = epoll_create1(0)) >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, empty_pipe[0], &event) == 0);
    for (int i = 0; i <= WAITERS; i++)
        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, silent[i]) == 0);
    NEED(sem_init(&never, 0, 0) == 0);
    sigset_t set;
    sigemptyset(&set);
    for (int signal = SIGRTMIN; signal <= SIGRTMIN + 9; signal++)
        sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (uintptr_t i = 0; i < WAITERS; i++)
        start_thread(wait_on, i + 1);
    for (uintptr_t i = 0; i < 2; i++) {
        start_thread(send_bytes, i);
        start_thread(take_bytes, i);
    }
    start_thread(send_values, 0);
    start_thread(take_values, 0);
    struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO};
    NEED(sigaction(SIGRTMIN + 7, &action, NULL) == 0);
    struct sigevent notify = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 7};
    struct itimerspec every = {{0, PERIOD_MS * 1000000}, {0, PERIOD_MS * 1000000}};
    timer_t timer;
    NEED(timer_create(CLOCK_MONOTONIC, &notify, &timer) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 7);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    NEED(timer_settime(timer, 0, &every, NULL) == 0);
    int64_t begun = now();
    double lost = 0;
    idle = wait_for_a_tick;
    ready();
    do {
        next_round();
        unsigned before[4] = {waits, bytes[0], bytes[1], values};
        /* All of it goes on. */
        for (int i = 0; i < 1000 && (waits == before[0] || bytes[0] == before[1] || bytes[1] == before[2] ||
                                     values == before[3]);
             i++)
            idle();
        unsigned all = ticks + overruns;
        double due = (double)(now() - begun) / (PERIOD_MS * 1e6);
        if (broken())
            fail("broken");
        EXPECT(waits != before[0] && bytes[0] != before[1] && bytes[1] != before[2] && values != before[3],
               "%u waits, %u and %u bytes, %u values, and no more", waits, bytes[0], bytes[1], values);
        EXPECT(failed[0] == 0, "%s", failed);
        EXPECT(woken <= MAX_WOKEN, "%u of %u waits were ended by EINTR", woken, waits);
        /* A restart may take a while, during which the clock goes and the timer does not. */
        double missing = due - all;
        EXPECT(missing > lost - 4, "%u ticks where %.1f are due, without %.1f of restarts", all, due, lost);
        EXPECT(restarted() || missing < lost + 4, "%u ticks where %.1f are due, without %.1f of restarts", all, due, lost);
        lost = missing;
        note("%u waits, %u and %u bytes, %u values, %u ticks", waits, bytes[0], bytes[1], values, all);
    } while (report());
    return finish();
}
