/*
 * Three threads that block every signal, SIGUSR2 included, through libc, and a handler of the program's own for
 * SIGUSR2: requests for checkpoints come through, disturb no wait for signals and call no handler; what the program
 * reads back is what it has set. One thread waits in sigwait for all signals but SIGUSR1, one in ppoll for that one,
 * one is started with the mask of its attributes.
 */
#include "harness.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

static volatile int handled, let_out, ended_polls, waited_for;
static pthread_t waiter, poller, third;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int seen[3];
static int asked, answered;

static void handler(int signal)
{
    if (signal == SIGUSR1)
        let_out++;
    handled++;
}

/* Whether the mask of this thread holds all signals that libc lets a program block. */
static int all_blocked(void)
{
    sigset_t now;
    sigemptyset(&now);
    if (pthread_sigmask(SIG_BLOCK, NULL, &now) != 0)
        return -1;
    for (int signal = 1; signal <= 64; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && signal != 32 && signal != 33 && !sigismember(&now, signal))
            return 0;
    return 1;
}

static void *wait_for_signals(void *unused)
{
    sigset_t all;
    (void)unused;
    sigfillset(&all);
    sigdelset(&all, SIGUSR1);
    for (;;) {
        int signal = 0;
        if (sigwait(&all, &signal) != 0)
            test_die("sigwait failed");
        if (signal == SIGURG)
            continue; /* fd_owner, at the same time, sends it to the whole process group. */
        pthread_mutex_lock(&lock);
        seen[0] = all_blocked();
        waited_for = signal;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* Is let out by SIGUSR1 alone. */
static void *poll_for_ever(void *unused)
{
    sigset_t others;
    (void)unused;
    sigfillset(&others);
    sigdelset(&others, SIGUSR1);
    for (;;) {
        if (ppoll(NULL, 0, NULL, &others) != -1 || errno != EINTR)
            test_die("ppoll failed");
        if (ended_polls == let_out)
            continue; /* a checkpoint may end it */
        pthread_mutex_lock(&lock);
        seen[1] = all_blocked();
        ended_polls++;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *look_when_asked(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (answered == asked)
            pthread_cond_wait(&cond, &lock);
        seen[2] = all_blocked();
        answered = asked;
        pthread_cond_broadcast(&cond);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    sigset_t all, old;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_NODEFER}, now, usr1 = action;
    pthread_attr_t attributes;

    start(argc, argv);
    sigfillset(&all);
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    NEED(sigaction(SIGUSR2, &action, &now) == 0);
    NEED(now.sa_handler == SIG_DFL && now.sa_flags == 0);
    usr1.sa_mask = all;
    usr1.sa_flags = 0;
    NEED(sigaction(SIGUSR1, &usr1, NULL) == 0);

    NEED(pthread_attr_init(&attributes) == 0 && pthread_attr_setsigmask_np(&attributes, &all) == 0);
    NEED(pthread_create(&third, &attributes, look_when_asked, NULL) == 0);
    NEED(pthread_sigmask(SIG_BLOCK, &all, &old) == 0);
    NEED(!sigismember(&old, SIGUSR2));
    NEED(pthread_create(&waiter, NULL, wait_for_signals, NULL) == 0);
    NEED(pthread_create(&poller, NULL, poll_for_ever, NULL) == 0);
    int fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    NEED(fd >= 0);
    ready();
    for (int last = 0;;) {
        next_round();
        struct signalfd_siginfo info;
        EXPECT(read(fd, &info, sizeof info) == -1 && errno == EAGAIN, "a signal for the signalfd");
        pthread_mutex_lock(&lock);
        EXPECT(handled == last, "the handler for SIGUSR2 was called %d times", handled - last);
        EXPECT(waited_for == 0, "sigwait gave %d", waited_for);
        EXPECT(ended_polls == last, "ppoll ended %d times", ended_polls);
        kill(getpid(), SIGTERM);
        kill(getpid(), SIGUSR1);
        asked++;
        pthread_cond_broadcast(&cond);
        while (waited_for == 0 || ended_polls == last || answered != asked)
            pthread_cond_wait(&cond, &lock);
        EXPECT(waited_for == SIGTERM, "sigwait gave %d", waited_for);
        EXPECT(handled == last + 1, "the handler for SIGUSR1 was called %d times", handled - last);
        for (int i = 0; i < 3; i++)
            EXPECT(seen[i] == 1, "thread %d: %d", i, seen[i]);
        last = ended_polls;
        waited_for = 0;
        pthread_mutex_unlock(&lock);

        EXPECT(all_blocked() == !broken(), "the mask has changed");
        EXPECT(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == handler, "another handler");
        EXPECT(now.sa_flags == (SA_RESTART | SA_NODEFER), "flags %x", (unsigned)now.sa_flags);
        EXPECT(sigismember(&now.sa_mask, SIGHUP) && !sigismember(&now.sa_mask, SIGUSR2), "another mask");
        EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && sigismember(&now.sa_mask, SIGUSR2), "the mask of SIGUSR1");
        if (!report())
            return finish();
    }
}
