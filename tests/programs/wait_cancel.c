/*
 * Threads that are cancelled in a wait that checkpoints have interrupted: in each round some begin to wait, and when the
 * test has published "cancel.N", they are cancelled, and what they have left to be cleaned up must be, as the unwinder
 * finds it (destructors of C++ are the same to it). With argv[2] it is only the last of the waits, until a moment.
 */
// flags: -fexceptions
// libs: -lpthread
#include "harness.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

enum { WAITS = 4, LONG = 60 };
static int cleaned[WAITS], sockets[2];

static void clean(void *place)
{
    *(int *)place = 1;
}

static void *wait_in(void *number)
{
    const struct timespec limit = {LONG, 0};
    int kind = (int)(intptr_t)number;
    pthread_cleanup_push(clean, &cleaned[kind]);
    if (kind == 0)
        nanosleep(&limit, NULL);
    else if (kind == 1)
        poll(NULL, 0, LONG * 1000);
    else if (kind == 2)
        recv(sockets[0], &kind, 1, 0);
    else {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LONG;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    pthread_cleanup_pop(0);
    return NULL;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    pthread_t threads[WAITS];
    const int first = argc > 2 ? WAITS - 1 : 0;
    char name[32];
    const struct timeval limit = {LONG, 0};
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    NEED(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    ready();
    do {
        int round = next_round();
        memset(cleaned, 0, sizeof cleaned);
        for (intptr_t i = first; i < WAITS; i++)
            NEED(pthread_create(&threads[i], NULL, wait_in, (void *)i) == 0);
        snprintf(name, sizeof name, "began.%d", round);
        test_publish(name, "", 0);
        snprintf(name, sizeof name, "cancel.%d", round);
        while (access(test_path(name), F_OK) != 0)
            idle();
        for (int i = first; i < WAITS; i++) {
            void *result;
            NEED(pthread_cancel(threads[i]) == 0 && pthread_join(threads[i], &result) == 0);
            EXPECT(result == PTHREAD_CANCELED, "wait %d was not cancelled", i);
            EXPECT(cleaned[i] && !broken(), "wait %d left something", i);
        }
    } while (report());
    return finish();
}
