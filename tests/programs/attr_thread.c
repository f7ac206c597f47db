/*
 * Attributes of threads, each with its own: nice value, policy, CPUs, I/O priority, timer slack and the
 * signal at the parent's death.
 */
// libs: -lpthread
#include "harness.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { THREADS = 4 };

struct state {
    int nice, policy, ioprio, death;
    long slack;
    cpu_set_t cpus;
};

static struct worker {
    pthread_t thread;
    sem_t go, done;
    struct state set, found;
} workers[THREADS];
static int one_cpu;

static void look(struct state *out)
{
    errno = 0;
    out->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    out->policy = sched_getscheduler(0);
    out->ioprio = (int)syscall(SYS_ioprio_get, 1, 0);
    out->slack = prctl(PR_GET_TIMERSLACK);
    out->death = -1;
    prctl(PR_GET_PDEATHSIG, &out->death);
    CPU_ZERO(&out->cpus);
    sched_getaffinity(0, sizeof out->cpus, &out->cpus);
}

static void set(int number)
{
    struct sched_param param = {0};
    if (number % 2 == 1)
        sched_setscheduler(0, number % 4 == 1 ? SCHED_BATCH : SCHED_IDLE, &param);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 3 + number);
    syscall(SYS_ioprio_set, 1, 0, 2 << 13 | (number + 1)); /* best effort */
    prctl(PR_SET_TIMERSLACK, 70000 + number);
    if (number > 1)
        prctl(PR_SET_PDEATHSIG, SIGUSR1);
    if (number == 2) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(one_cpu, &cpus);
        sched_setaffinity(0, sizeof cpus, &cpus);
    }
}

static void *work(void *arg)
{
    struct worker *self = arg;
    set((int)(self - workers));
    look(&self->set);
    sem_post(&self->done);
    for (;;) {
        while (sem_wait(&self->go) != 0)
            ;
        look(&self->found);
        sem_post(&self->done);
    }
    return NULL;
}

static void compare(const char *who, const struct state *want, const struct state *have)
{
    EXPECT(have->nice == want->nice, "%s: nice %d instead of %d", who, have->nice, want->nice);
    EXPECT(have->policy == want->policy, "%s: policy %d instead of %d", who, have->policy, want->policy);
    EXPECT(have->ioprio == want->ioprio, "%s: I/O priority %x instead of %x", who, have->ioprio, want->ioprio);
    EXPECT(have->slack == want->slack, "%s: slack %ld instead of %ld", who, have->slack, want->slack);
    EXPECT(have->death == want->death, "%s: death signal %d instead of %d", who, have->death, want->death);
    EXPECT(CPU_EQUAL(&have->cpus, &want->cpus), "%s: %d CPUs instead of %d", who, CPU_COUNT(&have->cpus),
           CPU_COUNT(&want->cpus));
}

int main(int argc, char **argv)
{
    struct state mine, now;
    start(argc, argv);
    look(&mine);
    while (!CPU_ISSET(one_cpu, &mine.cpus))
        one_cpu++;
    for (int i = 0; i < THREADS; i++) {
        NEED(sem_init(&workers[i].go, 0, 0) == 0 && sem_init(&workers[i].done, 0, 0) == 0);
        NEED(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        while (sem_wait(&workers[i].done) != 0)
            ;
    }
    NEED(workers[3].set.policy == SCHED_IDLE && workers[3].set.nice == 6 && workers[3].set.slack == 70003);
    NEED(prctl(PR_SET_TIMERSLACK, 91234) == 0);
    NEED(prctl(PR_SET_PDEATHSIG, SIGHUP) == 0);
    look(&mine);
    ready();
    do {
        next_round();
        if (broken())
            prctl(PR_SET_TIMERSLACK, 50000);
        look(&now);
        compare("main", &mine, &now);
        for (int i = 0; i < THREADS; i++) {
            char who[32];
            snprintf(who, sizeof who, "thread %d", i);
            sem_post(&workers[i].go);
            while (sem_wait(&workers[i].done) != 0)
                ;
            compare(who, &workers[i].set, &workers[i].found);
        }
    } while (report());
    return finish();
}
