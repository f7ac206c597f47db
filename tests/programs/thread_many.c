/* A thousand threads (or argv[2] of them) that wait for a broadcast. */
#include "harness.h"
#include <limits.h>
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER, all_counted = PTHREAD_COND_INITIALIZER;
static int threads = 1000, counted, waiting;
static unsigned turn;
static unsigned long long sum;

static void *wait_for_turns(void *argument)
{
    unsigned seen = 0;
    pthread_mutex_lock(&mutex);
    for (;;) {
        if (++waiting == threads)
            pthread_cond_signal(&all_counted);
        while (turn == seen)
            pthread_cond_wait(&turned, &mutex);
        seen++;
        sum += (uintptr_t)argument;
        if (++counted == threads)
            pthread_cond_signal(&all_counted);
    }
    return NULL;
}

/* With the mutex held; false after ten seconds. */
static int wait_for_all(const int *number)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    while (*number < threads)
        if (pthread_cond_timedwait(&all_counted, &mutex, &limit) == ETIMEDOUT)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    pthread_attr_t small;
    start(argc, argv);
    if (argc > 2)
        threads = atoi(argv[2]);
    NEED(threads > 0 && pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 64 * 1024) == 0);
    for (int i = 1; i <= threads; i++) {
        pthread_t thread;
        NEED(pthread_create(&thread, &small, wait_for_turns, (void *)(intptr_t)i) == 0);
    }
    pthread_mutex_lock(&mutex);
    NEED(wait_for_all(&waiting));
    pthread_mutex_unlock(&mutex);
    ready();
    do {
        unsigned round = (unsigned)next_round();
        unsigned long long each = (unsigned long long)threads * (unsigned)(threads + 1) / 2;
        pthread_mutex_lock(&mutex);
        EXPECT(counted == 0 && sum == (round - 1) * each, "%d came by themselves, sum %llu", counted, sum);
        waiting = 0;
        turn++;
        pthread_cond_broadcast(&turned);
        EXPECT(wait_for_all(&counted), "%d of %d threads came", counted, threads);
        EXPECT(wait_for_all(&waiting), "%d of %d threads wait again", waiting, threads);
        if (broken())
            sum++;
        EXPECT(sum == round * each, "sum %llu instead of %llu", sum, round * each);
        counted = 0;
        pthread_mutex_unlock(&mutex);
    } while (report());
    return finish();
}
