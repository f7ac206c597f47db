/*
 * Attributes of threads, the main one among them, each with its own: nice value, policy and what belongs to it, CPUs,
 * I/O priority, timer slack and the signal at the parent's death.
 */
// libs: -lpthread
#include "harness.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
enum { THREADS = 7, FIFO = 4, ROUND_ROBIN, DEADLINE };

/* struct sched_attr of the kernel, its first version. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

struct state {
    struct scheduling sched;
    int nice, ioprio, death;
    long slack;
    cpu_set_t cpus;
};

static struct worker {
    pthread_t thread;
    sem_t go, done;
    struct state set, found;
} workers[THREADS];
static int one_cpu, nice_before;

static void look(struct state *out)
{
    errno = 0;
    out->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    memset(&out->sched, 0, sizeof out->sched);
    syscall(SYS_sched_getattr, 0, &out->sched, sizeof out->sched, 0);
    out->ioprio = (int)syscall(SYS_ioprio_get, 1, 0);
    out->slack = prctl(PR_GET_TIMERSLACK);
    out->death = -1;
    prctl(PR_GET_PDEATHSIG, &out->death);
    CPU_ZERO(&out->cpus);
    sched_getaffinity(0, sizeof out->cpus, &out->cpus);
}

static void bind_to_one_cpu(void)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(one_cpu, &cpus);
    NEED(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
}

/* What only root may stays as it was for others. */
static void set_sched(struct scheduling sched)
{
    sched.size = sizeof sched;
    NEED(syscall(SYS_sched_setattr, 0, &sched, 0) == 0 || errno == EPERM || errno == EBUSY);
}

static void set(int number)
{
    int nice = nice_before + 3 + number;
    NEED(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice) == 0);
    switch (number) {
    case 1:
        set_sched((struct scheduling){.policy = SCHED_BATCH, .nice = nice, .flags = 1 /* SCHED_FLAG_RESET_ON_FORK */});
        break;
    case 2:
        bind_to_one_cpu();
        break;
    case 3:
        set_sched((struct scheduling){.policy = SCHED_IDLE, .nice = nice});
        break;
    case FIFO:
        set_sched((struct scheduling){.policy = SCHED_FIFO, .priority = 3});
        break;
    case ROUND_ROBIN:
        set_sched((struct scheduling){.policy = SCHED_RR, .priority = 5});
        break;
    case DEADLINE:
        set_sched((struct scheduling){
            .policy = SCHED_DEADLINE, .runtime = 10000000, .deadline = 40000000, .period = 50000000});
        break;
    }
    syscall(SYS_ioprio_set, 1, 0, 2 << 13 | (number + 1)); /* best effort */
    prctl(PR_SET_TIMERSLACK, 70000 + number);
    if (number > 1)
        prctl(PR_SET_PDEATHSIG, SIGUSR1);
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
    EXPECT(same_bytes(&have->sched, &want->sched, sizeof have->sched),
           "%s: policy %u flags %llx priority %u %llu of %llu every %llu instead of %u %llx %u %llu of %llu every %llu", who,
           have->sched.policy, (unsigned long long)have->sched.flags, have->sched.priority,
           (unsigned long long)have->sched.runtime, (unsigned long long)have->sched.deadline,
           (unsigned long long)have->sched.period, want->sched.policy, (unsigned long long)want->sched.flags,
           want->sched.priority, (unsigned long long)want->sched.runtime, (unsigned long long)want->sched.deadline,
           (unsigned long long)want->sched.period);
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
    nice_before = mine.nice;
    while (!CPU_ISSET(one_cpu, &mine.cpus))
        one_cpu++;
    for (int i = 0; i < THREADS; i++) {
        NEED(sem_init(&workers[i].go, 0, 0) == 0 && sem_init(&workers[i].done, 0, 0) == 0);
        NEED(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        while (sem_wait(&workers[i].done) != 0)
            ;
    }
    NEED(workers[3].set.sched.policy == SCHED_IDLE && workers[3].set.slack == 70003);
    bind_to_one_cpu();
    NEED(setpriority(PRIO_PROCESS, 0, nice_before + 2) == 0);
    set_sched((struct scheduling){.policy = SCHED_BATCH, .nice = nice_before + 2});
    syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7);
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
