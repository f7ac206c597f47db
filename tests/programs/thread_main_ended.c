/* The main thread has ended by pthread_exit; another thread goes on and starts and joins more of them. */
#include "harness.h"
#include <pthread.h>

static pthread_t first;

static void *twice(void *argument)
{
    return (void *)(2 * (uintptr_t)argument);
}

static void *go_on(void *unused)
{
    (void)unused;
    if (pthread_join(first, NULL) != 0)
        test_die("cannot join the main thread");
    ready();
    do {
        int round = next_round();
        pthread_t thread;
        void *result = NULL;
        EXPECT(syscall(SYS_gettid) != getpid(), "the main thread is not gone");
        EXPECT(pthread_create(&thread, NULL, twice, (void *)(uintptr_t)round) == 0, "pthread_create");
        EXPECT(pthread_join(thread, &result) == 0, "pthread_join");
        if (broken())
            result = NULL;
        EXPECT((uintptr_t)result == 2 * (uintptr_t)round, "the new thread gave %p", result);
    } while (report());
    exit(finish());
}

int main(int argc, char **argv)
{
    pthread_t thread;
    start(argc, argv);
    first = pthread_self();
    NEED(pthread_create(&thread, NULL, go_on, NULL) == 0);
    pthread_exit(NULL);
}
