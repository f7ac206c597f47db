/*
 * Waits with a time limit, which a checkpoint must neither end early nor lengthen: in each round the main thread
 * and others wait once for 2 s in the call that argv[2] names, all at the same time, and must see it run out. With
 * argv[3] or argv[4] "altstack" each has an alternate stack for its signals, as threads of Rust, Go, Java programs have; with "long"
 * they wait for 6 s; with "late" they are there before the sockets have limits; with "slow" checkpoints take the main
 * thread 6 s.
 */
// libs: -lpthread
#include "harness.h"
#include <selfckpt.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define THREADS 6

static int ms_limit = 2000;
static const char *call;
static int empty_pipe[2], sockets[2], listener, epoll_fd, sems, word;
static unsigned long aio;
static sem_t never;
static pthread_barrier_t together;
static char failed[THREADS + 1][128];
static FILE *streams[THREADS + 1];
static ssize_t (*recv_by_pointer)(int, void *, size_t, int) = recv;

/* As programs call them that are compiled with _FORTIFY_SOURCE or _TIME_BITS=64. */
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);
int __epoll_pwait2_time64(int epoll, struct epoll_event *events, int most, const long long *limit, const sigset_t *mask);
int __semtimedop64(int set, struct sembuf *ops, size_t count, const long long *limit);
int __sigtimedwait64(const sigset_t *set, siginfo_t *info, const long long *limit);

static int is(const char *name)
{
    return strcmp(call, name) == 0;
}

static int timed_out(int result, int expected)
{
    return result == -1 && errno == expected ? 0 : result == -1 ? errno : -1;
}

/* Forms with 64-bit times, which libc takes for times behind 2038 alone. */
static int wait_by_time64(void)
{
    long long time[2] = {ms_limit / 1000, ms_limit % 1000 * 1000000}, rest[2];
    struct pollfd fd = {empty_pipe[0], POLLIN, 0};
    char events[32];
    fd_set fds;
    sigset_t set;
    long result;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    FD_ZERO(&fds);
    FD_SET(empty_pipe[0], &fds);
    if (is("clock_nanosleep_time64"))
        result = syscall(407, CLOCK_MONOTONIC, 0, time, rest);
    else if (is("pselect_time64"))
        result = syscall(413, empty_pipe[0] + 1, &fds, NULL, NULL, time, NULL);
    else if (is("ppoll_time64"))
        result = syscall(414, &fd, 1, time, NULL, 8);
    else if (is("io_pgetevents_time64"))
        result = syscall(416, aio, 1, 1, events, time, NULL);
    else if (is("sigtimedwait_time64"))
        return timed_out((int)syscall(421, &set, NULL, time, 8), EAGAIN);
    else
        test_die("unknown call %s", call);
    return result == -1 ? errno : (int)result;
}

/* 0 when the time has run out as it must, else an errno or -1. */
static int wait_once(int number)
{
    const struct timespec limit = {ms_limit / 1000, ms_limit % 1000 * 1000000};
    const long long limit64[2] = {limit.tv_sec, limit.tv_nsec};
    const long limit32[2] = {limit.tv_sec, limit.tv_nsec};
    struct timespec rest, until;
    struct epoll_event event;
    sigset_t set;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit.tv_sec;
    if (is("nanosleep"))
        return nanosleep(&limit, &rest) == 0 ? 0 : errno;
    if (is("nanosleep32"))
        return syscall(SYS_nanosleep, limit32, NULL) == 0 ? 0 : errno;
    if (is("nanosleep_same")) {
        rest = limit;
        return nanosleep(&rest, &rest) == 0 ? 0 : errno;
    }
    if (is("sleep"))
        return (int)sleep(ms_limit / 1000);
    if (is("usleep"))
        return usleep(ms_limit * 1000) == 0 ? 0 : errno;
    if (is("clock_nanosleep"))
        return clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, &rest);
    if (is("sleep_monotonic"))
        return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    if (is("waitv_monotonic")) {
        const struct {
            uint64_t value, address;
            uint32_t flags, reserved;
        } waiter = {0, (uintptr_t)&word, 2, 0};
        const long long until64[2] = {until.tv_sec, until.tv_nsec};
        return timed_out((int)syscall(449, &waiter, 1, 0, until64, CLOCK_MONOTONIC), ETIMEDOUT);
    }
    if (is("sem_monotonic"))
        return timed_out(sem_clockwait(&never, CLOCK_MONOTONIC, &until), ETIMEDOUT);
    if (is("poll")) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        int result = poll(&fd, 1, ms_limit);
        return result == -1 ? errno : result;
    }
    if (is("poll_chk")) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        int result = __poll_chk(&fd, 1, ms_limit, sizeof fd);
        return result == -1 ? errno : result;
    }
    if (is("poll_raw")) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        int result = (int)syscall(SYS_poll, &fd, 1, ms_limit);
        return result == -1 ? errno : result;
    }
    if (is("poll_by_hand")) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        int result;
        __asm__ volatile("movl $168, %%eax; int $0x80" : "=a"(result) : "b"(&fd), "c"(1), "d"(ms_limit) : "memory");
        return -result;
    }
    if (is("epoll_wait")) {
        int result = epoll_wait(epoll_fd, &event, 1, ms_limit);
        return result == -1 ? errno : result;
    }
    if (is("epoll_pwait")) {
        sigemptyset(&set);
        int result = epoll_pwait(epoll_fd, &event, 1, ms_limit, &set);
        return result == -1 ? errno : result;
    }
    if (is("epoll_pwait2")) {
        int result = epoll_pwait2(epoll_fd, &event, 1, &limit, NULL);
        return result == -1 ? errno : result;
    }
    if (is("epoll_pwait2_libc64")) {
        int result = __epoll_pwait2_time64(epoll_fd, &event, 1, limit64, NULL);
        return result == -1 ? errno : result;
    }
    if (is("epoll_pwait2_raw")) {
        int result = (int)syscall(441, epoll_fd, &event, 1, limit64, NULL, 8);
        return result == -1 ? errno : result;
    }
    if (is("sigtimedwait")) {
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 3);
        return timed_out(sigtimedwait(&set, NULL, &limit), EAGAIN);
    }
    if (is("sigtimedwait_libc64")) {
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 3);
        return timed_out(__sigtimedwait64(&set, NULL, limit64), EAGAIN);
    }
    if (is("semtimedop")) {
        struct sembuf take = {0, -1, 0};
        return timed_out(semtimedop(sems, &take, 1, &limit), EAGAIN);
    }
    if (is("semtimedop_libc64")) {
        struct sembuf take = {0, -1, 0};
        return timed_out(__semtimedop64(sems, &take, 1, limit64), EAGAIN);
    }
    if (is("semtimedop_ipc")) {
        struct sembuf take = {0, -1, 0};
        return timed_out((int)syscall(SYS_ipc, 4, sems, 1, 0, &take, limit32), EAGAIN);
    }
    if (is("semtimedop_time64")) {
        struct sembuf take = {0, -1, 0};
        return timed_out((int)syscall(420, sems, &take, 1, limit64), EAGAIN);
    }
    if (is("futex"))
        return timed_out((int)syscall(SYS_futex, &word, 0, 0, limit32, NULL, 0), ETIMEDOUT);
    if (is("futex_time64"))
        return timed_out((int)syscall(422, &word, 0, 0, limit64, NULL, 0), ETIMEDOUT);
    if (is("recv"))
        return timed_out((int)recv(sockets[0], &event, 1, 0), EAGAIN);
    if (is("read"))
        return timed_out((int)read(sockets[0], &event, 1), EAGAIN);
    if (is("readv")) {
        struct iovec to = {&event, 1};
        return timed_out((int)readv(sockets[0], &to, 1), EAGAIN);
    }
    if (is("recvfrom_raw"))
        return timed_out((int)syscall(SYS_recvfrom, sockets[0], &event, 1, 0, NULL, NULL), EAGAIN);
    if (is("recv_by_pointer"))
        return timed_out((int)recv_by_pointer(sockets[0], &event, 1, 0), EAGAIN);
    if (is("getc")) {
        clearerr(streams[number]);
        return timed_out(getc(streams[number]), EAGAIN);
    }
    if (is("write"))
        return timed_out((int)write(sockets[0], &event, 1), EAGAIN);
    if (is("sendmsg")) {
        struct iovec from = {&event, 1};
        struct msghdr message = {.msg_iov = &from, .msg_iovlen = 1};
        return timed_out((int)sendmsg(sockets[0], &message, 0), EAGAIN);
    }
    if (is("accept4"))
        return timed_out(accept4(listener, NULL, NULL, SOCK_CLOEXEC), EAGAIN);
    if (is("recvmsg")) {
        struct msghdr message = {0};
        return timed_out((int)recvmsg(sockets[0], &message, 0), EAGAIN);
    }
    if (is("recvmmsg")) {
        struct mmsghdr messages[2] = {0};
        return timed_out(recvmmsg(sockets[0], messages, 2, 0, NULL), EAGAIN);
    }
    if (is("send"))
        return timed_out((int)send(sockets[0], &event, 1, 0), EAGAIN);
    if (is("accept"))
        return timed_out(accept(listener, NULL, NULL), EAGAIN);
    if (is("select")) {
        struct timeval time = {ms_limit / 1000, ms_limit % 1000 * 1000};
        fd_set fds;
        FD_ZERO(&fds);
        FD_SET(empty_pipe[0], &fds);
        int result = select(empty_pipe[0] + 1, &fds, NULL, NULL, &time);
        return result == -1 ? errno : result;
    }
    if (is("ppoll")) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        int result = ppoll(&fd, 1, &limit, NULL);
        return result == -1 ? errno : result;
    }
    if (is("io_getevents")) {
        char events[32];
        int result = (int)syscall(SYS_io_getevents, aio, 1, 1, events, limit32);
        return result == -1 ? errno : result;
    }
    return wait_by_time64();
}

static void timed_wait(int number)
{
    struct timespec before, after;
    pthread_barrier_wait(&together);
    clock_gettime(CLOCK_MONOTONIC, &before);
    errno = 0;
    int error = wait_once(number);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    if (error != 0 || ms < ms_limit - 1)
        snprintf(failed[number], sizeof failed[number], "%s ended with %d after %ld ms", call, error, ms);
    pthread_barrier_wait(&together);
}

static int with_altstack;

/* Where libc makes system calls by. */
static uintptr_t sysinfo(void)
{
    uintptr_t value;
    __asm__("movl %%gs:0x10, %0" : "=r"(value));
    return value;
}

static void set_limits(void)
{
    const struct timeval none = {0}, limit = {ms_limit / 1000, ms_limit % 1000 * 1000};
    NEED(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none) == 0);
    /* Up to here, nothing stands before the kernel. */
    NEED(sysinfo() == getauxval(AT_SYSINFO));
    for (int option = SO_RCVTIMEO; option <= SO_SNDTIMEO; option++) {
        NEED(setsockopt(sockets[0], SOL_SOCKET, option, &limit, sizeof limit) == 0);
        NEED(setsockopt(listener, SOL_SOCKET, option, &limit, sizeof limit) == 0);
    }
}


static void *waiter(void *number)
{
    static char stacks[THREADS + 1][32768];
    stack_t stack = {.ss_sp = stacks[(intptr_t)number], .ss_size = sizeof stacks[0]};
    if (with_altstack)
        NEED(sigaltstack(&stack, NULL) == 0);
    if (number == NULL)
        return NULL;
    for (;;)
        timed_wait((int)(intptr_t)number);
    return NULL;
}

static void take_time(enum ckpt_event event, void *unused)
{
    (void)event;
    (void)unused;
    NEED(sleep(6) == 0);
}

static void start_threads(void)
{
    for (intptr_t i = 1; i <= THREADS; i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, waiter, (void *)i) == 0);
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    call = argc > 2 ? argv[2] : "nanosleep";
    int late = 0;
    for (int i = 3; i < argc; i++) {
        with_altstack |= strcmp(argv[i], "altstack") == 0;
        late |= strcmp(argv[i], "late") == 0;
        if (strcmp(argv[i], "long") == 0)
            ms_limit = 6000;
        if (strcmp(argv[i], "slow") == 0)
            NEED(ckpt_on(CKPT_CHECKPOINT, take_time, NULL) == 0);
    }
    waiter(NULL);
    struct epoll_event event = {.events = EPOLLIN};
    NEED(pipe(empty_pipe) == 0 && sem_init(&never, 0, 0) == 0);
    NEED((epoll_fd = epoll_create1(0)) >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, empty_pipe[0], &event) == 0);
    NEED(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    NEED((listener = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
    if (late)
        start_threads();
    set_limits();
    for (int i = 0; i <= THREADS; i++)
        NEED((streams[i] = fdopen(dup(sockets[0]), "r")) != NULL);
    if (strncmp(call, "accept", 6) == 0) {
        /* A name that the kernel chooses. */
        NEED(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0 && listen(listener, 1) == 0);
    }
    if (strncmp(call, "send", 4) == 0 || is("write")) {
        while (send(sockets[0], &address, sizeof address, MSG_DONTWAIT) > 0)
            ;
    }
    if (strncmp(call, "semtimedop", 10) == 0) {
        NEED((sems = semget(IPC_PRIVATE, 1, 0600)) >= 0);
    }
    if (strncmp(call, "io_", 3) == 0) {
        NEED(syscall(SYS_io_setup, 4, &aio) == 0);
    }
    if (!late)
        start_threads();
    ready();
    do {
        char name[32];
        int round = next_round();
        memset(failed, 0, sizeof failed);
        snprintf(name, sizeof name, "began.%d", round);
        test_publish(name, "", 0);
        timed_wait(0);
        if (broken())
            strcpy(failed[0], "broken");
        for (int i = 0; i <= THREADS; i++)
            EXPECT(failed[i][0] == 0, "thread %d: %s", i, failed[i]);
    } while (report());
    if (strncmp(call, "semtimedop", 10) == 0)
        semctl(sems, 0, IPC_RMID);
    return finish();
}
