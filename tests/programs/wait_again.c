/*
 * Waits that a checkpoint must not end early: the main thread and another one each wait in the system call
 * that argv[2] names, again and again, until the test lets them go on. None may return EINTR. With argv[3] the
 * checkpoints are of a kind of their own: "events" has functions called around them, "blocked" and "child" have them
 * refused.
 */
// libs: -lpthread
#include "harness.h"
#include <selfckpt.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/select.h>

static const char *call;
static int empty_pipe[2];
static sem_t never;
static volatile int waits, early;
static int last_errno;

/* Returns 0 when the wait ended as it has to: by its time. */
static int wait_once(long ms)
{
    struct timespec now, left = {ms / 1000, ms % 1000 * 1000000};
    errno = 0;
    if (strcmp(call, "select") == 0) {
        struct timeval time = {ms / 1000, ms % 1000 * 1000};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(empty_pipe[0], &set);
        return select(empty_pipe[0] + 1, &set, NULL, NULL, &time);
    }
    if (strcmp(call, "ppoll") == 0) {
        struct pollfd fd = {empty_pipe[0], POLLIN, 0};
        return ppoll(&fd, 1, &left, NULL);
    }
    if (strcmp(call, "poll") == 0)
        return poll(NULL, 0, (int)ms);
    if (strcmp(call, "poll_raw") == 0)
        return (int)syscall(SYS_poll, NULL, 0, ms);
    if (strcmp(call, "nanosleep") == 0)
        return nanosleep(&left, &now);
    if (strcmp(call, "pselect") == 0)
        return pselect(0, NULL, NULL, NULL, &left, NULL);
    clock_gettime(strcmp(call, "sleep_monotonic") == 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME, &now);
    left.tv_sec += now.tv_sec;
    left.tv_nsec += now.tv_nsec;
    if (left.tv_nsec >= 1000000000) {
        left.tv_sec++;
        left.tv_nsec -= 1000000000;
    }
    if (strcmp(call, "sleep_until") == 0)
        return -clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &left, NULL);
    if (strcmp(call, "sleep_monotonic") == 0)
        return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &left, NULL);
    if (strcmp(call, "sem_timedwait") == 0)
        return sem_timedwait(&never, &left) == -1 && errno == ETIMEDOUT ? 0 : -1;
    test_die("unknown call %s", call);
    return -1;
}

static void *waiter(void *unused)
{
    for (;;) {
        if (wait_once(700) != 0) {
            last_errno = errno;
            early++;
        }
        waits++;
    }
    return unused;
}

static void idle_wait(void)
{
    if (wait_once(150) != 0) {
        last_errno = errno;
        early++;
    }
}

static void on_event(enum ckpt_event event, void *unused)
{
    (void)event, (void)unused;
    usleep(1000);
}

static void set_manner(const char *manner)
{
    if (strcmp(manner, "events") == 0) {
        NEED(ckpt_on(CKPT_CHECKPOINT, on_event, NULL) == 0 && ckpt_on(CKPT_RESTART, on_event, NULL) == 0);
    } else if (strcmp(manner, "blocked") == 0) {
        NEED(ckpt_block() == 0);
    } else if (strcmp(manner, "child") == 0) {
        pid_t parent = getpid(), child = fork();
        NEED(child >= 0);
        for (; child == 0; usleep(10000))
            if (getppid() != parent)
                _exit(0);
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;
    start(argc, argv);
    if (argc > 3)
        set_manner(argv[3]);
    call = argc > 2 ? argv[2] : "select";
    NEED(pipe(empty_pipe) == 0 && sem_init(&never, 0, 0) == 0);
    NEED(pthread_create(&thread, NULL, waiter, NULL) == 0);
    idle = idle_wait;
    ready();
    do {
        next_round();
        int before = waits;
        if (broken())
            early++;
        while (waits == before && early == 0)
            idle_wait();
        EXPECT(early == 0, "%d waits in %s ended early, errno %d", early, call, last_errno);
        early = 0;
    } while (report());
    return finish();
}
