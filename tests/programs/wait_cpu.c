/*
 * Sleeps on clocks of CPU time, which only go on while the process, or a thread of it, computes: in each round the main
 * thread and others begin one each, and a thread computes for half of what they wait for. When the test has published
 * "burn.N", it computes until all have ended, and each must have seen it compute for the whole, no less and not once more.
 */
// libs: -lpthread
#include "harness.h"

#include <pthread.h>
#include <time.h>

#define LIMIT 600 /* ms */
#define SLACK 150 /* Less than the half that is missing, or comes once more. */
#define LONGEST (4 * LIMIT)

static pthread_barrier_t together;
static pthread_t computing;
static volatile long computed; /* ms */
static volatile int ended;
static int round_now;

static struct timespec in(long ms, struct timespec from)
{
    from.tv_sec += ms / 1000;
    from.tv_nsec += ms % 1000 * 1000000;
    from.tv_sec += from.tv_nsec / 1000000000;
    from.tv_nsec %= 1000000000;
    return from;
}

static int for_limit(clockid_t clock)
{
    const struct timespec limit = in(LIMIT, (struct timespec){0, 0});
    return clock_nanosleep(clock, 0, &limit, NULL);
}
static int until_limit(clockid_t clock)
{
    struct timespec until;
    if (clock_gettime(clock, &until) != 0)
        return errno;
    until = in(LIMIT, until);
    return clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL);
}
static clockid_t of_thread(void)
{
    clockid_t clock = 0;
    NEED(pthread_getcpuclockid(computing, &clock) == 0);
    return clock;
}
static clockid_t of_pid(void)
{
    clockid_t clock = 0;
    NEED(clock_getcpuclockid(getpid(), &clock) == 0);
    return clock;
}
static int process_for(void) { return for_limit(CLOCK_PROCESS_CPUTIME_ID); }
static int process_until(void) { return until_limit(CLOCK_PROCESS_CPUTIME_ID); }
static int thread_for(void) { return for_limit(of_thread()); }
static int thread_until(void) { return until_limit(of_thread()); }
static int pid_for(void) { return for_limit(of_pid()); }
static int pid_until(void) { return until_limit(of_pid()); }
static int system_call(void)
{
    long limit[2] = {LIMIT / 1000, LIMIT % 1000 * 1000000}, rest[2];
    return syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, limit, rest) == 0 ? 0 : errno;
}

static struct kind {
    const char *name;
    int (*sleep)(void);
    char failed[96];
} kinds[] = {
    {"process_for", process_for, ""}, /* by the main thread */
    {"process_until", process_until, ""},
    {"thread_for", thread_for, ""},
    {"thread_until", thread_until, ""},
    {"pid_for", pid_for, ""},
    {"pid_until", pid_until, ""},
    {"system_call", system_call, ""},
};
#define KINDS ((int)(sizeof kinds / sizeof kinds[0]))

static void sleep_once(struct kind *kind)
{
    pthread_barrier_wait(&together);
    long before = computed;
    int error = kind->sleep();
    long took = computed - before;
    if (error != 0 || took < LIMIT - SLACK || took > LIMIT + SLACK)
        snprintf(kind->failed, sizeof kind->failed, "%s ended with %d after %ld ms", kind->name, error, took);
    __sync_fetch_and_add(&ended, 1);
    pthread_barrier_wait(&together);
}

static void *sleeper(void *kind)
{
    for (;;)
        sleep_once(kind);
    return NULL;
}

static long own_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* From where it was, since a restart begins the thread's clock anew. */
static void compute(long ms)
{
    long from = computed, start = own_time();
    while (computed < from + ms && ended < KINDS)
        computed = from + own_time() - start;
}

static void *computer(void *unused)
{
    for (;;) {
        char name[32];
        pthread_barrier_wait(&together);
        compute(LIMIT / 2);
        snprintf(name, sizeof name, "began.%d", round_now);
        test_publish(name, "", 0);
        snprintf(name, sizeof name, "burn.%d", round_now);
        while (access(test_path(name), F_OK) != 0)
            usleep(1500);
        compute(LONGEST);
        pthread_barrier_wait(&together);
    }
    return unused;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    pthread_t thread;
    NEED(pthread_barrier_init(&together, NULL, KINDS + 1) == 0);
    NEED(pthread_create(&computing, NULL, computer, NULL) == 0);
    for (int i = 1; i < KINDS; i++)
        NEED(pthread_create(&thread, NULL, sleeper, &kinds[i]) == 0);
    ready();
    do {
        round_now = next_round();
        ended = 0;
        for (int i = 0; i < KINDS; i++)
            kinds[i].failed[0] = 0;
        sleep_once(&kinds[0]);
        if (broken())
            strcpy(kinds[0].failed, "broken");
        for (int i = 0; i < KINDS; i++)
            EXPECT(kinds[i].failed[0] == 0, "%s", kinds[i].failed);
    } while (report());
    return finish();
}
