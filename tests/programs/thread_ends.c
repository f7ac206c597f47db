/* The end of threads: one that has ended and waits to be joined, one that others join already, detached ones, one whose
 * cancellation is held back; their cleanup handlers, the destructors of their data, and threads made after the
 * restart. An argument "tids" adds what sends a signal to the thread's id: one that is cancelled inside a call, and one
 * that is cancelled anywhere. */
#include "harness.h"
#include "semaphores.h"
#include <pthread.h>

static sem_t gate[4], joined, destroyed, cleaned, detached_end, standing;
static pthread_key_t key;
static void *joined_value;
static volatile unsigned turns;
static const char value[] = "value";

static void destroy(void *data)
{
    if (data == value)
        sem_post(&destroyed);
}

static void clean(void *semaphore)
{
    sem_post(semaphore);
}

static void *end_at_once(void *argument)
{
    return argument;
}

static void *end_at_gate(void *argument)
{
    pthread_setspecific(key, value);
    down(&gate[0]);
    return argument;
}

static void *join_other(void *other)
{
    if (pthread_join((pthread_t)(uintptr_t)other, &joined_value) == 0)
        sem_post(&joined);
    return NULL;
}

static void *end_detached(void *unused)
{
    down(&gate[1]);
    sem_post(&detached_end);
    return unused;
}

/* Its cancellation is asked for before the checkpoint, and comes when it lets it. */
static void *hold_back(void *unused)
{
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    pthread_cleanup_push(clean, &cleaned);
    sem_post(&standing);
    down(&gate[2]);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return unused;
}

static void *wait_for_cancel(void *unused)
{
    pthread_setspecific(key, value);
    pthread_cleanup_push(clean, &cleaned);
    down(&gate[3]);
    pthread_cleanup_pop(0);
    return unused;
}

static void *work_until_cancel(void *unused)
{
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    for (;;)
        turns++;
    return unused;
}

int main(int argc, char **argv)
{
    pthread_attr_t detached;
    start(argc, argv);
    int tids = argc > 2 && strcmp(argv[2], "tids") == 0;
    for (int i = 0; i < 4; i++)
        NEED(sem_init(&gate[i], 0, 0) == 0);
    NEED(sem_init(&joined, 0, 0) == 0 && sem_init(&destroyed, 0, 0) == 0 && sem_init(&cleaned, 0, 0) == 0);
    NEED(sem_init(&detached_end, 0, 0) == 0 && sem_init(&standing, 0, 0) == 0);
    NEED(pthread_key_create(&key, destroy) == 0);
    NEED(pthread_attr_init(&detached) == 0 && pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0);
    int round = 0;
    do {
        pthread_t ended, other, joiner, first_detached, late_detached, held, waiting = 0, working = 0;
        int n = 0;
        n |= pthread_create(&ended, NULL, end_at_once, (void *)(uintptr_t)(100 + round));
        n |= pthread_create(&other, NULL, end_at_gate, (void *)(uintptr_t)(200 + round));
        n |= pthread_create(&joiner, NULL, join_other, (void *)(uintptr_t)other);
        n |= pthread_create(&first_detached, &detached, end_detached, NULL);
        n |= pthread_create(&late_detached, NULL, end_detached, NULL);
        n |= pthread_create(&held, NULL, hold_back, NULL);
        if (tids) {
            n |= pthread_create(&waiting, NULL, wait_for_cancel, NULL);
            n |= pthread_create(&working, NULL, work_until_cancel, NULL);
        }
        if (round > 0)
            EXPECT(n == 0, "new threads: %d", n);
        NEED(n == 0 && came(&standing) && pthread_cancel(held) == 0);
        if (round == 0)
            ready();
        else if (!report())
            break;

        round = next_round();
        void *result = NULL;
        EXPECT(pthread_join(ended, &result) == 0 && (uintptr_t)result == 99u + (unsigned)round, "got %p", result);
        sem_post(&gate[0]);
        EXPECT(came(&joined), "the joining thread does not end");
        EXPECT((uintptr_t)joined_value == 199u + (unsigned)round, "it got %p", joined_value);
        EXPECT(came(&destroyed), "no destructor of the thread that has ended");
        EXPECT(pthread_join(joiner, NULL) == 0, "join");

        EXPECT(pthread_join(first_detached, NULL) == EINVAL, "a detached thread can be joined");
        EXPECT(pthread_detach(late_detached) == 0, "detach");
        sem_post(&gate[1]);
        sem_post(&gate[1]);
        EXPECT(came(&detached_end) && came(&detached_end), "the detached threads do not end");

        EXPECT(sem_trywait(&cleaned) != 0, "cancelled already");
        sem_post(&gate[2]);
        EXPECT(came(&cleaned), "the cancellation that was held back does not come");
        EXPECT(pthread_join(held, &result) == 0 && result == PTHREAD_CANCELED, "got %p", result);
        if (tids) {
            unsigned before = turns;
            for (int i = 0; i < 20000 && turns == before; i++)
                usleep(500);
            EXPECT(turns != before, "the thread that never waits stands still");
            EXPECT(pthread_cancel(working) == 0, "cancel");
            EXPECT(pthread_join(working, &result) == 0 && result == PTHREAD_CANCELED, "got %p", result);
            EXPECT(pthread_cancel(waiting) == 0, "cancel");
            EXPECT(came(&cleaned) && came(&destroyed), "the cancelled thread has not cleaned up");
            EXPECT(pthread_join(waiting, &result) == 0 && result == PTHREAD_CANCELED, "got %p", result);
        }
        if (broken())
            joined_value = NULL;
        EXPECT(joined_value != NULL, "spoilt");
    } while (1);
    return finish();
}
