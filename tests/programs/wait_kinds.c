/*
 * Waits of every kind at the same time, one thread in each: those with a time limit of 2 s must see it run out, the
 * others must end when a thread that sleeps for 2 s has woken them, none before. With argv[2], a kind by its number or
 * name, it is the main thread that waits in it, and nobody else.
 */
// libs: -lpthread -lrt
#include "harness.h"

#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define SECONDS 2
#define WAKE_ONE SIGRTMIN + 4

static volatile int waking; /* the sleeper has slept */
static pthread_barrier_t together;

/* What is waited for: that of a limit never comes, that of a waking thread does. */
enum { NEVER, WOKEN, BOTH };
static int words[BOTH], queues[BOTH], sems, full_queues[BOTH], files[BOTH][2], pipes[BOTH][2], full_pipe[2];
static int listeners[BOTH], waiting[BOTH], clients[BOTH], accepted[BOTH], event_fd, epolls[BOTH], fifo_fd = -1;
static int pairs[BOTH][2], full_pairs[BOTH][2];
static mqd_t empty_mqs[BOTH], full_mqs[BOTH];
static sem_t semaphores[BOTH], join_me;
static pthread_mutex_t mutexes[BOTH], inheriting[BOTH];
static pthread_rwlock_t rwlocks[BOTH];
static pthread_mutex_t for_condition = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t conditions[BOTH];
static pthread_t endless, joined;
static volatile int handled;
static unsigned long aio;
static char byte;

static struct timespec until(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_sec += SECONDS;
    return time;
}

/* ---- Waits. Each gives 0 where it ends as it must, else an errno, or -1 where it succeeds and should not. ---- */

static int failed_with(long result, int expected)
{
    return result != -1 ? -1 : errno == expected ? 0 : errno;
}

static int is_zero(long result)
{
    return result == -1 ? errno : result == 0 ? 0 : -1;
}

static int is_positive(long result)
{
    return result == -1 ? errno : result > 0 ? 0 : -1;
}

static int gave(int error, int expected)
{
    return error == expected ? 0 : error == 0 ? -1 : error;
}

static int sleep_until(clockid_t clock)
{
    struct timespec time = until(clock);
    return clock_nanosleep(clock, TIMER_ABSTIME, &time, NULL);
}
static int sleep_for(clockid_t clock)
{
    struct timespec time = {SECONDS, 0};
    return clock_nanosleep(clock, 0, &time, NULL);
}
static int until_realtime(void) { return sleep_until(CLOCK_REALTIME); }
static int until_monotonic(void) { return sleep_until(CLOCK_MONOTONIC); }
static int until_boottime(void) { return sleep_until(CLOCK_BOOTTIME); }
static int until_tai(void) { return sleep_until(CLOCK_TAI); }
static int for_realtime(void) { return sleep_for(CLOCK_REALTIME); }
static int for_boottime(void) { return sleep_for(CLOCK_BOOTTIME); }
static int for_tai(void) { return sleep_for(CLOCK_TAI); }

static int timed_mq_receive(void)
{
    char text[8];
    struct timespec time = until(CLOCK_REALTIME);
    return failed_with(mq_timedreceive(empty_mqs[NEVER], text, sizeof text, NULL, &time), ETIMEDOUT);
}
static int timed_mq_send(void)
{
    struct timespec time = until(CLOCK_REALTIME);
    return failed_with(mq_timedsend(full_mqs[NEVER], &byte, 1, 0, &time), ETIMEDOUT);
}
static int timed_connect(void)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    NEED(getsockname(listeners[NEVER], (struct sockaddr *)&name, &len) == 0);
    return failed_with(connect(waiting[NEVER], (struct sockaddr *)&name, len), EAGAIN);
}
static int timed_accept(void) { return failed_with(accept(accepted[NEVER], NULL, NULL), EAGAIN); }
static int timed_send(void) { return failed_with(send(full_pairs[NEVER][0], &byte, 1, 0), EAGAIN); }
static int timed_semop(void)
{
    struct sembuf take = {NEVER, -1, 0};
    struct timespec time = {SECONDS, 0};
    return failed_with(semtimedop(sems, &take, 1, &time), EAGAIN);
}
static int timed_io_getevents(void)
{
    char events[32];
    long time[2] = {SECONDS, 0};
    return is_zero(syscall(SYS_io_getevents, aio, 1, 1, events, time));
}
static int timed_epoll_pwait2(void)
{
    struct epoll_event event;
    long long time[2] = {SECONDS, 0};
    return is_zero(syscall(441, epolls[NEVER], &event, 1, time, NULL, 8));
}
static int timed_join(void)
{
    struct timespec time = until(CLOCK_REALTIME);
    return gave(pthread_timedjoin_np(endless, NULL, &time), ETIMEDOUT);
}
static int clock_join(void)
{
    struct timespec time = until(CLOCK_MONOTONIC);
    return gave(pthread_clockjoin_np(endless, NULL, CLOCK_MONOTONIC, &time), ETIMEDOUT);
}
static int timed_lock(void)
{
    struct timespec time = until(CLOCK_REALTIME);
    return gave(pthread_mutex_timedlock(&mutexes[NEVER], &time), ETIMEDOUT);
}
static int clock_lock(void)
{
    struct timespec time = until(CLOCK_MONOTONIC);
    return gave(pthread_mutex_clocklock(&mutexes[NEVER], CLOCK_MONOTONIC, &time), ETIMEDOUT);
}
static int timed_lock_pi(void)
{
    struct timespec time = until(CLOCK_REALTIME);
    return gave(pthread_mutex_timedlock(&inheriting[NEVER], &time), ETIMEDOUT);
}
static int clock_lock_pi(void)
{
    struct timespec time = until(CLOCK_MONOTONIC);
    return gave(pthread_mutex_clocklock(&inheriting[NEVER], CLOCK_MONOTONIC, &time), ETIMEDOUT);
}
static int timed_write_lock(void)
{
    struct timespec time = until(CLOCK_REALTIME);
    return gave(pthread_rwlock_timedwrlock(&rwlocks[NEVER], &time), ETIMEDOUT);
}
static int clock_read_lock(void)
{
    struct timespec time = until(CLOCK_MONOTONIC);
    return gave(pthread_rwlock_clockrdlock(&rwlocks[NEVER], CLOCK_MONOTONIC, &time), ETIMEDOUT);
}
static int clock_sem(void)
{
    struct timespec time = until(CLOCK_MONOTONIC);
    return failed_with(sem_clockwait(&semaphores[NEVER], CLOCK_MONOTONIC, &time), ETIMEDOUT);
}
static int wait_condition(clockid_t clock)
{
    struct timespec time = until(clock);
    int error;
    pthread_mutex_lock(&for_condition);
    do
        error = pthread_cond_clockwait(&conditions[NEVER], &for_condition, clock, &time);
    while (error == 0);
    pthread_mutex_unlock(&for_condition);
    return gave(error, ETIMEDOUT);
}
static int timed_condition(void) { return wait_condition(CLOCK_REALTIME); }
static int clock_condition(void) { return wait_condition(CLOCK_MONOTONIC); }

struct waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
};
static long futex_waitv(int which, clockid_t clock)
{
    struct waiter waiter = {0, (uintptr_t)&words[which], 2, 0};
    struct timespec time = until(clock);
    long long limit[2] = {time.tv_sec, time.tv_nsec};
    return syscall(449, &waiter, 1, 0, which == NEVER ? limit : NULL, clock);
}
static int timed_waitv(void) { return failed_with(futex_waitv(NEVER, CLOCK_REALTIME), ETIMEDOUT); }
static int clock_waitv(void) { return failed_with(futex_waitv(NEVER, CLOCK_MONOTONIC), ETIMEDOUT); }

static int message_receive(void)
{
    struct { long type; char text[8]; } message;
    return is_positive(msgrcv(queues[WOKEN], &message, sizeof message.text, 0, 0));
}
static int message_send(void)
{
    struct { long type; char text[8]; } message = {1, ""};
    return is_zero(msgsnd(full_queues[WOKEN], &message, sizeof message.text, 0));
}
static int any_mq_receive(void)
{
    char text[8];
    return is_positive(mq_receive(empty_mqs[WOKEN], text, sizeof text, NULL));
}
static int any_mq_send(void) { return is_zero(mq_send(full_mqs[WOKEN], &byte, 1, 0)); }
static int any_connect(void)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    NEED(getsockname(listeners[WOKEN], (struct sockaddr *)&name, &len) == 0);
    return is_zero(connect(waiting[WOKEN], (struct sockaddr *)&name, len));
}
static int any_accept(void)
{
    int fd = accept(accepted[WOKEN], NULL, NULL);
    return fd < 0 ? errno : is_zero(close(fd));
}
static int any_send(void) { return is_positive(send(full_pairs[WOKEN][0], &byte, 1, 0)); }
static int any_recv(void) { return is_positive(recv(pairs[WOKEN][0], &byte, 1, 0)); }
static int any_read(void) { return is_positive(read(pipes[WOKEN][0], &byte, 1)); }
static int any_write(void) { return is_positive(write(full_pipe[1], &byte, 1)); }
static int any_eventfd(void)
{
    uint64_t value;
    return is_positive(read(event_fd, &value, sizeof value));
}
static int any_semop(void)
{
    struct sembuf take = {WOKEN, -1, 0};
    return is_zero(semop(sems, &take, 1));
}
static int any_flock(void)
{
    int error = is_zero(flock(files[0][1], LOCK_EX));
    return error != 0 ? error : is_zero(flock(files[0][1], LOCK_UN));
}
static int lock_file(int command)
{
    struct flock64 lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int error = is_zero(fcntl64(files[1][1], command, &lock));
    lock.l_type = F_UNLCK;
    return error != 0 ? error : is_zero(fcntl64(files[1][1], command, &lock));
}
static int any_setlkw(void) { return lock_file(F_SETLKW64); }
static int any_ofd_setlkw(void) { return lock_file(F_OFD_SETLKW); }
/* A wait that begins once more may find the word changed. */
static int is_woken(long result)
{
    return result == 0 || errno == EAGAIN ? 0 : errno;
}
static int any_futex(void) { return is_woken(syscall(SYS_futex, &words[WOKEN], 0, 0, NULL, NULL, 0)); }
static int any_waitv(void) { return is_woken(futex_waitv(WOKEN, CLOCK_MONOTONIC)); }
static int any_sem(void) { return is_zero(sem_wait(&semaphores[WOKEN])); }
static int any_join(void) { return pthread_join(joined, NULL); }
static int any_lock(void)
{
    int error = pthread_mutex_lock(&mutexes[WOKEN]);
    return error != 0 ? error : pthread_mutex_unlock(&mutexes[WOKEN]);
}
static int any_lock_pi(void)
{
    int error = pthread_mutex_lock(&inheriting[WOKEN]);
    return error != 0 ? error : pthread_mutex_unlock(&inheriting[WOKEN]);
}
static int any_write_lock(void)
{
    int error = pthread_rwlock_wrlock(&rwlocks[WOKEN]);
    return error != 0 ? error : pthread_rwlock_unlock(&rwlocks[WOKEN]);
}
static int any_condition(void)
{
    pthread_mutex_lock(&for_condition);
    while (!waking)
        pthread_cond_wait(&conditions[WOKEN], &for_condition);
    return pthread_mutex_unlock(&for_condition);
}
static int any_poll(void)
{
    struct pollfd fd = {event_fd, POLLIN, 0};
    return is_positive(poll(&fd, 1, -1));
}
static int any_select(void)
{
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(event_fd, &fds);
    return is_positive(select(event_fd + 1, &fds, NULL, NULL, NULL));
}
static int any_epoll(void)
{
    struct epoll_event event;
    return is_positive(epoll_wait(epolls[WOKEN], &event, 1, -1));
}
static int any_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, WAKE_ONE);
    return is_positive(sigwaitinfo(&set, NULL));
}
/* That it ends with EINTR is what it is for: by a handler, which has run. */
static int any_pause(void)
{
    pause();
    return handled ? 0 : errno;
}
static int any_sigsuspend(void)
{
    sigset_t others;
    sigfillset(&others);
    sigdelset(&others, SIGUSR1);
    sigsuspend(&others);
    return handled ? 0 : errno;
}
static int any_open(void)
{
    int fd = open(test_path("fifo"), O_RDONLY | O_CLOEXEC);
    return fd < 0 ? errno : is_zero(close(fd));
}
static int any_child(void)
{
    siginfo_t info;
    return is_zero(waitid(P_ALL, 0, &info, WEXITED));
}

/* ---- How they are woken, and what then makes them wait once more; both by the sleeping thread. ---- */

static void *end_when_told(void *unused)
{
    while (sem_wait(&join_me) != 0)
        ;
    return unused;
}

/* A listener without a backlog has room for one connection, which waits to be accepted. */
static void fill(int which)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    NEED(getsockname(listeners[which], (struct sockaddr *)&name, &len) == 0);
    NEED((clients[which] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    NEED(connect(clients[which], (struct sockaddr *)&name, len) == 0);
}

static void wake_futex(void)
{
    words[WOKEN] = 1;
    syscall(SYS_futex, &words[WOKEN], 1, INT_MAX, NULL, NULL, 0);
}
static void again_futex(void) { words[WOKEN] = 0; }
static void wake_message_receive(void)
{
    struct { long type; char text[8]; } message = {1, ""};
    NEED(msgsnd(queues[WOKEN], &message, sizeof message.text, 0) == 0);
}
static void wake_message_send(void)
{
    struct { long type; char text[8]; } message;
    NEED(msgrcv(full_queues[WOKEN], &message, sizeof message.text, 0, 0) > 0);
}
static void wake_mq_receive(void) { NEED(mq_send(empty_mqs[WOKEN], &byte, 1, 0) == 0); }
static void wake_mq_send(void)
{
    char text[8];
    NEED(mq_receive(full_mqs[WOKEN], text, sizeof text, NULL) >= 0);
}
static void wake_connect(void) { close(accept(listeners[WOKEN], NULL, NULL)); }
/* The connection that has been made fills it next time. */
static void again_connect(void)
{
    close(clients[WOKEN]);
    clients[WOKEN] = waiting[WOKEN];
    NEED((waiting[WOKEN] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
}
static void wake_accept(void)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(getsockname(accepted[WOKEN], (struct sockaddr *)&name, &len) == 0);
    NEED(connect(fd, (struct sockaddr *)&name, len) == 0);
    close(fd);
}
static void wake_send(void)
{
    char packet;
    while (recv(full_pairs[WOKEN][1], &packet, 1, MSG_DONTWAIT) == 1)
        ;
}
static void fill_pair(int fd)
{
    while (send(fd, &byte, 1, MSG_DONTWAIT) > 0)
        ;
}
static void again_send(void) { fill_pair(full_pairs[WOKEN][0]); }
static void wake_recv(void) { NEED(send(pairs[WOKEN][1], &byte, 1, 0) == 1); }
static void wake_read(void) { NEED(write(pipes[WOKEN][1], &byte, 1) == 1); }
static void wake_write(void)
{
    static char all[65536];
    NEED(read(full_pipe[0], all, sizeof all) > 0);
}
/* With whole pages, so that no room is left in any. */
static void again_write(void)
{
    static char all[65536];
    for (int end = 0; end < 2; end++)
        NEED(fcntl(full_pipe[end], F_SETFL, O_NONBLOCK) == 0);
    while (read(full_pipe[0], all, sizeof all) > 0)
        ;
    while (write(full_pipe[1], all, sizeof all) > 0)
        ;
    for (int end = 0; end < 2; end++)
        NEED(fcntl(full_pipe[end], F_SETFL, 0) == 0);
}
static void wake_event(void) { NEED(eventfd_write(event_fd, 1) == 0); }
static void again_event(void)
{
    struct pollfd fd = {event_fd, POLLIN, 0};
    eventfd_t value;
    if (poll(&fd, 1, 0) == 1)
        eventfd_read(event_fd, &value);
}
static void wake_semop(void)
{
    struct sembuf give = {WOKEN, 1, 0};
    NEED(semop(sems, &give, 1) == 0);
}
static void wake_flock(void) { NEED(flock(files[0][0], LOCK_UN) == 0); }
static void again_flock(void) { NEED(flock(files[0][0], LOCK_EX) == 0); }
static void lock_by_description(short type)
{
    struct flock64 lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    NEED(fcntl64(files[1][0], F_OFD_SETLKW, &lock) == 0);
}
static void wake_setlkw(void) { lock_by_description(F_UNLCK); }
static void again_setlkw(void) { lock_by_description(F_WRLCK); }
static void wake_sem(void) { sem_post(&semaphores[WOKEN]); }
static void wake_join(void) { sem_post(&join_me); }
static void again_join(void) { NEED(pthread_create(&joined, NULL, end_when_told, NULL) == 0); }
static void wake_lock(void) { pthread_mutex_unlock(&mutexes[WOKEN]); }
static void again_lock(void) { pthread_mutex_lock(&mutexes[WOKEN]); }
static void wake_lock_pi(void) { pthread_mutex_unlock(&inheriting[WOKEN]); }
static void again_lock_pi(void) { pthread_mutex_lock(&inheriting[WOKEN]); }
static void wake_write_lock(void) { pthread_rwlock_unlock(&rwlocks[WOKEN]); }
static void again_write_lock(void) { pthread_rwlock_wrlock(&rwlocks[WOKEN]); }
static void wake_condition(void)
{
    /* Who has seen that it is not yet time waits by now. */
    pthread_mutex_lock(&for_condition);
    pthread_mutex_unlock(&for_condition);
    pthread_cond_broadcast(&conditions[WOKEN]);
}
static void wake_signal(void) { kill(getpid(), WAKE_ONE); }
static void wake_open(void) { NEED((fifo_fd = open(test_path("fifo"), O_RDWR | O_CLOEXEC)) >= 0); }
static void again_open(void) { close(fifo_fd); }
static void wake_pause(void);
static void wake_sigsuspend(void);
static pid_t child;
static void wake_child(void) { kill(child, SIGKILL); }
static void again_child(void)
{
    pid_t parent = getpid();
    NEED((child = fork()) >= 0);
    for (; child == 0; usleep(10000))
        if (getppid() != parent)
            _exit(0);
}

#define LIMITED(call, on_clock) {.name = #call, .wait = call, .clock = on_clock}
#define WAKES(call, by, and_then) {.name = #call, .wait = call, .wake = by, .again = and_then}
static struct kind {
    const char *name;
    int (*wait)(void);
    clockid_t clock; /* that the limit counts on */
    void (*wake)(void), (*again)(void);
    pthread_t thread;
    char failed[128];
} kinds[] = {
    LIMITED(until_realtime, CLOCK_REALTIME),
    LIMITED(until_monotonic, CLOCK_MONOTONIC),
    LIMITED(until_boottime, CLOCK_BOOTTIME),
    LIMITED(until_tai, CLOCK_TAI),
    LIMITED(for_realtime, CLOCK_MONOTONIC),
    LIMITED(for_boottime, CLOCK_BOOTTIME),
    LIMITED(for_tai, CLOCK_MONOTONIC),
    LIMITED(timed_mq_receive, CLOCK_REALTIME),
    LIMITED(timed_mq_send, CLOCK_REALTIME),
    LIMITED(timed_accept, CLOCK_MONOTONIC),
    LIMITED(timed_connect, CLOCK_MONOTONIC),
    LIMITED(timed_send, CLOCK_MONOTONIC),
    LIMITED(timed_semop, CLOCK_MONOTONIC),
    LIMITED(timed_epoll_pwait2, CLOCK_MONOTONIC),
    LIMITED(timed_join, CLOCK_REALTIME),
    LIMITED(clock_join, CLOCK_MONOTONIC),
    LIMITED(timed_lock, CLOCK_REALTIME),
    LIMITED(clock_lock, CLOCK_MONOTONIC),
    LIMITED(timed_lock_pi, CLOCK_REALTIME),
    LIMITED(clock_lock_pi, CLOCK_MONOTONIC),
    LIMITED(timed_write_lock, CLOCK_REALTIME),
    LIMITED(clock_read_lock, CLOCK_MONOTONIC),
    LIMITED(clock_sem, CLOCK_MONOTONIC),
    LIMITED(timed_condition, CLOCK_REALTIME),
    LIMITED(clock_condition, CLOCK_MONOTONIC),
    LIMITED(timed_waitv, CLOCK_REALTIME),
    LIMITED(clock_waitv, CLOCK_MONOTONIC),
    WAKES(message_receive, wake_message_receive, NULL),
    WAKES(message_send, wake_message_send, NULL),
    WAKES(any_mq_receive, wake_mq_receive, NULL),
    WAKES(any_mq_send, wake_mq_send, NULL),
    WAKES(any_connect, wake_connect, again_connect),
    WAKES(any_accept, wake_accept, NULL),
    WAKES(any_send, wake_send, again_send),
    WAKES(any_recv, wake_recv, NULL),
    WAKES(any_read, wake_read, NULL),
    WAKES(any_write, wake_write, again_write),
    WAKES(any_semop, wake_semop, NULL),
    WAKES(any_flock, wake_flock, again_flock),
    WAKES(any_setlkw, wake_setlkw, again_setlkw),
    WAKES(any_ofd_setlkw, wake_setlkw, again_setlkw),
    WAKES(any_futex, wake_futex, again_futex),
    WAKES(any_waitv, wake_futex, again_futex),
    WAKES(any_sem, wake_sem, NULL),
    WAKES(any_join, wake_join, again_join),
    WAKES(any_lock, wake_lock, again_lock),
    WAKES(any_lock_pi, wake_lock_pi, again_lock_pi),
    WAKES(any_write_lock, wake_write_lock, again_write_lock),
    WAKES(any_condition, wake_condition, NULL),
    WAKES(any_poll, wake_event, again_event),
    WAKES(any_select, wake_event, again_event),
    WAKES(any_epoll, wake_event, again_event),
    WAKES(any_signal, wake_signal, NULL),
    WAKES(any_pause, wake_pause, NULL),
    WAKES(any_sigsuspend, wake_sigsuspend, NULL),
    WAKES(any_open, wake_open, again_open),
    /* Would take what another waits for. */
    WAKES(any_eventfd, wake_event, NULL),
    /* With a result of its own; only by name. */
    LIMITED(timed_io_getevents, CLOCK_MONOTONIC),
    WAKES(any_child, wake_child, again_child),
};
enum { KINDS = sizeof kinds / sizeof *kinds, NUMBERED = KINDS - 2, TOGETHER = NUMBERED - 1 };

/* Of the main thread; NULL: each has a thread. */
static struct kind *chosen;

static int is_used(const struct kind *kind)
{
    return chosen == kind || (chosen == NULL && kind < kinds + TOGETHER);
}

static void wake_by_handler(int (*wait)(void))
{
    for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
        if (kind->wait == wait)
            pthread_kill(kind->thread, SIGUSR1);
}

static void wake_pause(void)
{
    wake_by_handler(any_pause);
}

static void wake_sigsuspend(void)
{
    wake_by_handler(any_sigsuspend);
}

static void on_signal(int number)
{
    handled = number;
}

static void wait_in(struct kind *kind)
{
    struct timespec before, after;
    pthread_barrier_wait(&together);
    if (kind->wake == NULL)
        clock_gettime(kind->clock, &before);
    errno = 0;
    int error = kind->wait(), too_early = !waking;
    if (kind->wake == NULL) {
        clock_gettime(kind->clock, &after);
        too_early = after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9 < SECONDS;
    }
    if (error != 0 || too_early)
        snprintf(kind->failed, sizeof kind->failed, "%s ends with %d%s", kind->name, error, too_early ? ", early" : "");
    pthread_barrier_wait(&together);
}

static void *waiter(void *kind)
{
    for (;;)
        wait_in(kind);
    return NULL;
}

static void *sleeper(void *unused)
{
    for (;;) {
        struct timespec limit = {SECONDS, 0};
        for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
            if (is_used(kind) && kind->again)
                kind->again();
        waking = handled = 0;
        pthread_barrier_wait(&together);
        NEED(clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL) == 0);
        waking = 1;
        for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
            if (is_used(kind) && kind->wake)
                kind->wake();
        pthread_barrier_wait(&together);
    }
    return unused;
}

static mqd_t open_mq(int number, int messages)
{
    char name[64];
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 8};
    snprintf(name, sizeof name, "/selfckpt-wait-%d-%d", (int)getpid(), number);
    mqd_t mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
    NEED(mq != (mqd_t)-1 && mq_unlink(name) == 0);
    for (; messages > 0; messages--)
        NEED(mq_send(mq, &byte, 1, 0) == 0);
    return mq;
}

/* A name that the kernel chooses. */
static int listen_somewhere(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name.sun_family) == 0 && listen(fd, 0) == 0);
    return fd;
}

static void set_up(int which)
{
    const struct timeval limit = {SECONDS, 0};
    pthread_mutexattr_t attributes;
    empty_mqs[which] = open_mq(which * 2, 0);
    full_mqs[which] = open_mq(which * 2 + 1, 1);
    NEED(pipe(pipes[which]) == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[which]) == 0);
    /* Packets take the same room when they have been sent once more, bytes less. */
    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, full_pairs[which]) == 0);
    fill_pair(full_pairs[which][0]);
    listeners[which] = listen_somewhere();
    fill(which);
    accepted[which] = listen_somewhere();
    NEED((waiting[which] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    if (which == NEVER) {
        NEED(setsockopt(waiting[which], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
        NEED(setsockopt(full_pairs[which][0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
        NEED(setsockopt(accepted[which], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    }
    NEED(sem_init(&semaphores[which], 0, 0) == 0 && pthread_cond_init(&conditions[which], NULL) == 0);
    NEED(pthread_rwlock_init(&rwlocks[which], NULL) == 0 && pthread_mutex_init(&mutexes[which], NULL) == 0);
    NEED(pthread_mutexattr_init(&attributes) == 0);
    NEED(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    NEED(pthread_mutex_init(&inheriting[which], &attributes) == 0);
    for (int i = 0; i < 2; i++)
        NEED((files[which][i] = open(test_path(which ? "ofd" : "flock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) >= 0);
}

/* Objects that would outlive a program that the test kills: only where they are waited for. */
static int uses_system_v(void)
{
    return chosen == NULL || chosen->wait == message_receive || chosen->wait == message_send ||
           chosen->wait == timed_semop || chosen->wait == any_semop;
}

static void set_up_system_v(void)
{
    struct { long type; char text[8]; } message = {1, ""};
    NEED((queues[WOKEN] = msgget(IPC_PRIVATE, 0600)) >= 0 && (full_queues[WOKEN] = msgget(IPC_PRIVATE, 0600)) >= 0);
    while (msgsnd(full_queues[WOKEN], &message, sizeof message.text, IPC_NOWAIT) == 0)
        ;
    NEED((sems = semget(IPC_PRIVATE, BOTH, 0600)) >= 0);
    for (int i = 0; i < BOTH; i++) {
        /* Changed once, by which the kernel knows it as this process's. */
        struct sembuf both[] = {{(unsigned short)i, 1, 0}, {(unsigned short)i, -1, 0}};
        NEED(semop(sems, both, 2) == 0);
    }
}

static void remove_system_v(void)
{
    msgctl(queues[WOKEN], IPC_RMID, NULL);
    msgctl(full_queues[WOKEN], IPC_RMID, NULL);
    semctl(sems, 0, IPC_RMID);
}

/* Holds for ever what the waits with a limit wait for. */
static void *holder(void *ready)
{
    pthread_mutex_lock(&mutexes[NEVER]);
    pthread_mutex_lock(&inheriting[NEVER]);
    pthread_rwlock_wrlock(&rwlocks[NEVER]);
    sem_post(ready);
    for (;;)
        pause();
    return NULL;
}

static void choose(const char *what)
{
    for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
        if (strcmp(kind->name, what) == 0)
            chosen = kind;
    if (chosen == NULL && atoi(what) >= NUMBERED)
        skip("there is no further kind");
    if (chosen == NULL)
        chosen = &kinds[atoi(what)];
}

int main(int argc, char **argv)
{
    start(argc, argv);
    sem_t holding;
    sigset_t set;
    struct epoll_event event = {.events = EPOLLIN};
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t thread;
    if (argc > 2)
        choose(argv[2]);
    sigemptyset(&set);
    sigaddset(&set, WAKE_ONE);
    NEED(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    for (int which = 0; which < BOTH; which++)
        set_up(which);
    if (uses_system_v())
        set_up_system_v();
    NEED(pipe(full_pipe) == 0 && mkfifo(test_path("fifo"), 0600) == 0);
    NEED((event_fd = eventfd(0, EFD_CLOEXEC)) >= 0);
    for (int i = 0; i < BOTH; i++) {
        int fd = i == NEVER ? pipes[NEVER][0] : event_fd;
        NEED((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) >= 0 && epoll_ctl(epolls[i], EPOLL_CTL_ADD, fd, &event) == 0);
    }
    if (chosen && chosen->wait == timed_io_getevents)
        NEED(syscall(SYS_io_setup, 4, &aio) == 0);
    NEED(sem_init(&join_me, 0, 0) == 0 && sem_init(&holding, 0, 0) == 0);
    NEED(pthread_create(&endless, NULL, holder, &holding) == 0);
    while (sem_wait(&holding) != 0)
        ;
    NEED(pthread_barrier_init(&together, NULL, chosen ? 2 : TOGETHER + 2) == 0);
    NEED(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    for (struct kind *kind = kinds; kind < kinds + KINDS; kind++) {
        kind->thread = pthread_self();
        if (chosen == NULL && is_used(kind))
            NEED(pthread_create(&kind->thread, NULL, waiter, kind) == 0);
    }
    ready();
    do {
        char name[32];
        int round = next_round();
        for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
            kind->failed[0] = 0;
        snprintf(name, sizeof name, "began.%d", round);
        test_publish(name, "", 0);
        if (chosen) {
            wait_in(chosen);
        } else {
            pthread_barrier_wait(&together);
            pthread_barrier_wait(&together);
        }
        if (broken())
            strcpy(kinds[0].failed, "broken");
        for (struct kind *kind = kinds; kind < kinds + KINDS; kind++)
            EXPECT(kind->failed[0] == 0, "%s", kind->failed);
    } while (report());
    if (uses_system_v())
        remove_system_v();
    return finish();
}
