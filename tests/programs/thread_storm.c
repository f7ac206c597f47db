/* Threads that never rest: in malloc, in printf with stdio's lock held, starting and joining threads, and handing
 * numbers on through a queue. Nothing may be lost or done twice. */
#include "harness.h"
#include <pthread.h>

enum { WORKERS = 6, QUEUE = 16 };
static volatile int stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static unsigned queue[QUEUE], queued, put_at, get_at;
static uint64_t sum_put, sum_got;
static unsigned made, joined, printed, allocated, wrong;
static FILE *sink;

static void *produce(void *unused)
{
    (void)unused;
    unsigned n = 0;
    while (!stop) {
        n++;
        pthread_mutex_lock(&lock);
        while (queued == QUEUE)
            pthread_cond_wait(&not_full, &lock);
        queue[put_at++ % QUEUE] = n;
        queued++;
        sum_put += n;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    while (queued == QUEUE)
        pthread_cond_wait(&not_full, &lock);
    queue[put_at++ % QUEUE] = 0;
    queued++;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *consume(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (queued == 0)
            pthread_cond_wait(&not_empty, &lock);
        unsigned n = queue[get_at++ % QUEUE];
        queued--;
        sum_got += n;
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&lock);
        if (n == 0)
            return NULL;
    }
}

static void *allocate(void *unused)
{
    (void)unused;
    while (!stop) {
        unsigned size = 16 + pattern_at(1, allocated) % 5000;
        unsigned *block = malloc(size);
        block[0] = block[size / 4 - 1] = size;
        block = realloc(block, size * 2);
        if (block[0] != size || block[size / 4 - 1] != size)
            wrong++;
        free(block);
        allocated++;
    }
    return NULL;
}

static void *print(void *unused)
{
    (void)unused;
    while (!stop) {
        if (fprintf(sink, "%08u\n", printed % 100000000) != 9)
            wrong++;
        printed++;
    }
    return NULL;
}

static void *short_life(void *argument)
{
    return (char *)argument + 1;
}

static void *create(void *unused)
{
    (void)unused;
    while (!stop) {
        pthread_t thread;
        void *result;
        if (pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)made) != 0) {
            wrong++;
            break;
        }
        made++;
        if (pthread_join(thread, &result) != 0 || (uintptr_t)result != made)
            wrong++;
        joined++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static void *(*const bodies[WORKERS])(void *) = {produce, consume, allocate, allocate, print, create};
    pthread_t threads[WORKERS];
    start(argc, argv);
    NEED((sink = fopen("/dev/null", "w")) != NULL);
    for (int i = 0; i < WORKERS; i++)
        NEED(pthread_create(&threads[i], NULL, bodies[i], NULL) == 0);
    ready();
    do {
        next_round();
        unsigned before[] = {allocated, printed, joined};
        while (allocated == before[0] || printed == before[1] || joined == before[2])
            usleep(500); /* each goes on; one that does not is a test that does not end */
        if (broken())
            sum_got++;
        EXPECT(wrong == 0, "%u wrong results", wrong);
        if (test_last) {
            stop = 1;
            for (int i = 0; i < WORKERS; i++)
                EXPECT(pthread_join(threads[i], NULL) == 0, "join");
            EXPECT(wrong == 0 && made == joined, "%u wrong, %u made, %u joined", wrong, made, joined);
            EXPECT(queued == 0 && sum_put == sum_got, "%llu put, %llu got", (unsigned long long)sum_put,
                   (unsigned long long)sum_got);
        }
    } while (report());
    return finish();
}
