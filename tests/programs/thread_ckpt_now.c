/*
 * Four threads call ckpt_now() at once, over and over while a round lasts; a call that falls into another
 * thread's checkpoint is served by that one. Results are generations that never fall, or 0 after a restart.
 */
#include "harness.h"
#include <pthread.h>
#include <selfckpt.h>

enum { THREADS = 4 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int wrong, calls, restarts, last_result, last_errno;
static volatile int quiet;

static void *call(void *unused)
{
    int newest = 0;
    (void)unused;
    for (;;) {
        errno = 0;
        int result = ckpt_now();
        int error = errno;
        pthread_mutex_lock(&lock);
        calls++;
        if (result == 0)
            restarts++;
        if (result < 0 || error != 0 || (result > 0 && result < newest)) {
            wrong++;
            last_result = result;
            last_errno = error;
        }
        pthread_mutex_unlock(&lock);
        newest = result > newest ? result : newest;
        usleep(20000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (ckpt_available())
        for (int i = 0; i < THREADS; i++) {
            pthread_t thread;
            NEED(pthread_create(&thread, NULL, call, NULL) == 0);
        }
    ready();
    do {
        next_round();
        pthread_mutex_lock(&lock);
        int broke = wrong + (broken() ? 1 : 0);
        EXPECT(broke == 0, "%d of %d calls were wrong; the last one returned %d, errno %d", broke, calls, last_result,
               last_errno);
        pthread_mutex_unlock(&lock);
    } while (report());
    return finish();
}
