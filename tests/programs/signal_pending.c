/*
 * Pending signals: blocked standard ones of the process and of the thread, queued real-time ones
 * with their values, in order, none lost and none doubled, with what sent them.
 */
#include "harness.h"
#include <signal.h>

enum { QUEUED = 12, RT = 3 };

struct expected {
    int sig, code, value, pid, thread;
};
static struct expected expected[4 + QUEUED];
static int count;
static sigset_t used;

static void sent(int sig, int code, int value, int thread)
{
    expected[count++] = (struct expected){sig, code, value, getpid(), thread};
}

static void send_all(int round)
{
    count = 0;
    kill(getpid(), SIGTERM);
    sent(SIGTERM, SI_USER, 0, 0);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    sent(SIGUSR1, SI_TKILL, 0, 1);
    union sigval value = {.sival_int = round * 7};
    sigqueue(getpid(), SIGHUP, value);
    sent(SIGHUP, SI_QUEUE, value.sival_int, 0);
    for (int i = 0; i < QUEUED; i++) {
        value.sival_int = round * 1000 + i;
        int sig = SIGRTMIN + 3 + i % RT;
        if (i % 2 == 1) { /* to the thread: two of each number */
            siginfo_t info = {0};
            info.si_code = SI_QUEUE;
            info.si_pid = getpid();
            info.si_uid = getuid();
            info.si_value = value;
            NEED(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, &info) == 0);
            sent(sig, SI_QUEUE, value.sival_int, 1);
        } else {
            NEED(sigqueue(getpid(), sig, value) == 0);
            sent(sig, SI_QUEUE, value.sival_int, 0);
        }
    }
}

/* The kernel's own: glibc's turns SI_TKILL into SI_USER. */
static int take(const sigset_t *set, siginfo_t *info)
{
    struct {
        long sec, nsec;
    } now = {0, 0};
    return (int)syscall(SYS_rt_sigtimedwait, set, info, &now, 8);
}

/* SigPnd and ShdPnd of /proc/self/status. */
static void pending(unsigned long long *thread, unsigned long long *process)
{
    static char status[8192];
    slurp("/proc/self/status", status, sizeof status);
    char *p = strstr(status, "SigPnd:"), *q = strstr(status, "ShdPnd:");
    NEED(p && q);
    *thread = strtoull(p + 7, NULL, 16);
    *process = strtoull(q + 7, NULL, 16);
}

int main(int argc, char **argv)
{
    siginfo_t info;
    start(argc, argv);
    sigemptyset(&used);
    sigaddset(&used, SIGTERM);
    sigaddset(&used, SIGUSR1);
    sigaddset(&used, SIGHUP);
    for (int i = 0; i < RT; i++)
        sigaddset(&used, SIGRTMIN + 3 + i);
    NEED(sigprocmask(SIG_BLOCK, &used, NULL) == 0);
    send_all(0);
    unsigned long long want_thread, want_process, thread, process;
    pending(&want_thread, &want_process);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, SIGRTMIN + 3);
            take(&one, &info);
        }
        pending(&thread, &process);
        EXPECT(thread == want_thread, "SigPnd %016llx instead of %016llx", thread, want_thread);
        EXPECT(process == want_process, "ShdPnd %016llx instead of %016llx", process, want_process);
        /* By signal: the thread's own first, then the process's, each in the order they were sent. */
        for (int sig = 1; sig <= SIGRTMAX; sig++) {
            sigset_t one;
            if (sigismember(&used, sig) != 1)
                continue;
            sigemptyset(&one);
            sigaddset(&one, sig);
            for (int of_thread = 1; of_thread >= 0; of_thread--)
                for (int i = 0; i < count; i++) {
                    struct expected *e = &expected[i];
                    if (e->sig != sig || e->thread != of_thread)
                        continue;
                    memset(&info, 0, sizeof info);
                    int got = take(&one, &info);
                    EXPECT(got == sig, "signal %d with value %d is missing", sig, e->value);
                    if (got != sig)
                        continue;
                    EXPECT(info.si_code == e->code, "signal %d: code %d instead of %d", sig,
                           info.si_code, e->code);
                    EXPECT(info.si_pid == e->pid && info.si_uid == getuid(),
                           "signal %d: from pid %d uid %u instead of %d %u", sig, info.si_pid,
                           info.si_uid, e->pid, getuid());
                    if (e->code == SI_QUEUE)
                        EXPECT(info.si_value.sival_int == e->value, "signal %d: value %d instead of %d",
                               sig, info.si_value.sival_int, e->value);
                }
        }
        int extra = take(&used, &info);
        EXPECT(extra < 0, "signal %d is there once too often", extra);
        while (take(&used, &info) > 0)
            ;
        send_all(round);
        pending(&want_thread, &want_process);
    } while (report());
    return finish();
}
