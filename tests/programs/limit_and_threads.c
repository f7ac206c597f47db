/*
 * Children that set the first limit of a socket before they make threads, after it, or while another one makes some,
 * of the memory of those before: glibc keeps words there that must be the same in a new thread and in its maker.
 * With argv[2], a library that is loaded first has a function send of its own, which returns 4711, and stays what is
 * called.
 */
// libs: -lpthread
#include "harness.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { CHILDREN = 60 };
static volatile int made, enough;

static void *nothing(void *unused)
{
    return unused;
}

static void *make_threads(void *unused)
{
    while (!enough) {
        pthread_t thread;
        NEED(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
        made++;
    }
    return unused;
}

static void child(int number)
{
    const struct timeval limit = {100, 0};
    pthread_t creator;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    NEED(fd >= 0);
    if (number % 3 == 0)
        NEED(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    if (number % 3 == 1) {
        pthread_t before;
        NEED(pthread_create(&before, NULL, nothing, NULL) == 0 && pthread_join(before, NULL) == 0);
        NEED(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    }
    NEED(pthread_create(&creator, NULL, make_threads, NULL) == 0);
    while (made < 20)
        sched_yield();
    for (volatile int i = 0; i < number * 100; i++)
        ;
    NEED(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    for (int before = made; made < before + 20;)
        sched_yield();
    enough = 1;
    NEED(pthread_join(creator, NULL) == 0);
    _exit(broken());
}

static void limit_after_a_thread(void)
{
    const struct timeval limit = {100, 0};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    NEED(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    close(fd);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (argc > 2)
        limit_after_a_thread();
    ready();
    do {
        next_round();
        if (argc > 2) {
            ssize_t result = send(-1, NULL, 0, 0);
            EXPECT(result == 4711 && !broken(), "send returns %zd", result);
            continue;
        }
        int failed = 0, last = 0;
        for (int i = 0; i < CHILDREN; i++) {
            int status;
            pid_t pid = fork();
            NEED(pid >= 0);
            if (pid == 0)
                child(i);
            NEED(waitpid(pid, &status, 0) == pid);
            if (status != 0) {
                failed++;
                last = status;
            }
        }
        EXPECT(failed == 0, "%d children failed, the last with status %#x", failed, last);
    } while (report());
    return finish();
}
