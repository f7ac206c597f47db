/* Waiting for a semaphore, for programs with threads. After harness.h. */
#include <errno.h>
#include <semaphore.h>
#include <time.h>

static TEST_UNUSED void down(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        ;
}

/* Of main's alone: a thread that does not come is a failure that says what was waited for. */
static TEST_UNUSED int came(sem_t *semaphore)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    int result;
    while ((result = sem_timedwait(semaphore, &limit)) != 0 && errno == EINTR)
        ;
    return result == 0;
}
