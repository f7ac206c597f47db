/*
 * TCP connections that are being made: in each round the main thread and others wait in connect(2) to listeners that have
 * no room. When the test has published "accept.N", one of them gets room, and those who wait for it must get their
 * connection; for the other, a limit of 2 s (SO_SNDTIMEO) must run out.
 */
// libs: -lpthread
#include "harness.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#define LIMIT 2
#define LONG 60

enum { ROOM, NEVER, BOTH };
static int listeners[BOTH], fillers[BOTH];
static pthread_barrier_t together;
static volatile int connected;

static int begin(int limit)
{
    const struct timeval time = {limit, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0);
    return fd;
}

static int connect_to(int fd, int which)
{
    struct sockaddr_in name;
    socklen_t len = sizeof name;
    NEED(getsockname(listeners[which], (struct sockaddr *)&name, &len) == 0);
    return connect(fd, (struct sockaddr *)&name, len) == 0 ? 0 : errno;
}

/* Without a backlog there is room for one connection. */
static void fill(int which)
{
    fillers[which] = begin(LONG);
    NEED(connect_to(fillers[which], which) == 0);
}

static struct kind {
    int which, limit;
    char failed[96];
} kinds[] = {
    {ROOM, LONG, ""}, /* by the main thread */
    {ROOM, LONG, ""},
    {ROOM, 0, ""}, /* without a limit */
    {NEVER, LIMIT, ""},
};
enum { KINDS = sizeof kinds / sizeof *kinds, CONNECTED = KINDS - 1 };

static void connect_once(struct kind *kind)
{
    struct timespec before, after;
    int fd = begin(kind->limit);
    pthread_barrier_wait(&together);
    clock_gettime(CLOCK_MONOTONIC, &before);
    int error = connect_to(fd, kind->which);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    int early = kind->which == NEVER && ms < LIMIT * 1000 - 1;
    if (error != (kind->which == NEVER ? EINPROGRESS : 0) || early)
        snprintf(kind->failed, sizeof kind->failed, "ended with %d after %ld ms", error, ms);
    close(fd);
    if (kind->which == ROOM)
        __sync_fetch_and_add(&connected, 1);
    pthread_barrier_wait(&together);
}

static void *connecting(void *kind)
{
    for (;;)
        connect_once(kind);
    return NULL;
}

/* Connections are taken until all have had theirs, and the next one fills the listener for the next round. */
static void *accepting(void *unused)
{
    for (int round = 1;; round++) {
        char name[32];
        struct pollfd fd = {listeners[ROOM], POLLIN, 0};
        pthread_barrier_wait(&together);
        snprintf(name, sizeof name, "began.%d", round);
        test_publish(name, "", 0);
        snprintf(name, sizeof name, "accept.%d", round);
        while (access(test_path(name), F_OK) != 0)
            usleep(1500);
        while (connected < CONNECTED || poll(&fd, 1, 0) == 1)
            if (poll(&fd, 1, 100) == 1)
                close(accept(listeners[ROOM], NULL, NULL));
        close(fillers[ROOM]);
        fill(ROOM);
        pthread_barrier_wait(&together);
    }
    return unused;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    pthread_t thread;
    for (int which = 0; which < BOTH; which++) {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        NEED((listeners[which] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        NEED(setsockopt(listeners[which], SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0);
        NEED(bind(listeners[which], (struct sockaddr *)&name, sizeof name) == 0 && listen(listeners[which], 0) == 0);
        fill(which);
    }
    NEED(pthread_barrier_init(&together, NULL, KINDS + 1) == 0);
    NEED(pthread_create(&thread, NULL, accepting, NULL) == 0);
    for (int i = 1; i < KINDS; i++)
        NEED(pthread_create(&thread, NULL, connecting, &kinds[i]) == 0);
    ready();
    do {
        next_round();
        connected = 0;
        for (int i = 0; i < KINDS; i++)
            kinds[i].failed[0] = 0;
        connect_once(&kinds[0]);
        if (broken())
            strcpy(kinds[0].failed, "broken");
        for (int i = 0; i < KINDS; i++)
            EXPECT(kinds[i].failed[0] == 0, "connect %d %s", i, kinds[i].failed);
    } while (report());
    return finish();
}
