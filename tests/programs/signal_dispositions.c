/*
 * All dispositions, as the kernel tells them: handlers, flags, masks, restorers. SIGUSR2 is left to
 * the library; what it reads as must not change either.
 */
#include "harness.h"
#include <signal.h>

struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint32_t mask[2];
};

static int kernel_action(int sig, const struct kernel_sigaction *set, struct kernel_sigaction *old)
{
    return (int)syscall(SYS_rt_sigaction, sig, set, old, 8);
}

static void handler_a(int sig)
{
    (void)sig;
}
static void handler_b(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    (void)context;
}

static void set_all(uint32_t seed)
{
    static const unsigned long flags[] = {
        SA_RESTART, SA_SIGINFO, SA_ONSTACK, SA_NODEFER, SA_RESETHAND, SA_NOCLDSTOP | SA_RESTART,
        SA_NOCLDWAIT, SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER, 0,
    };
    for (int sig = 1; sig <= 64; sig++) {
        uint32_t r = pattern_at(seed, (size_t)sig);
        struct kernel_sigaction action = {handler_a, flags[r % 9], NULL, {0, 0}};
        if (sig == SIGKILL || sig == SIGSTOP || sig == SIGUSR2)
            continue;
        if (r % 7 == 0)
            action.handler = (void *)SIG_IGN;
        else if (r % 11 == 0)
            action.handler = (void *)SIG_DFL;
        else if (action.flags & SA_SIGINFO)
            action.handler = (void *)handler_b;
        action.mask[0] = pattern_at(seed + 1, (size_t)sig) & ~(1u << (SIGKILL - 1)) & ~(1u << (SIGSTOP - 1));
        action.mask[1] = pattern_at(seed + 2, (size_t)sig);
        if (r % 3 == 0)
            action.mask[0] = action.mask[1] = 0;
        NEED(kernel_action(sig, &action, NULL) == 0);
    }
}

int main(int argc, char **argv)
{
    static struct kernel_sigaction want[65], now;
    struct sigaction libc_want[65], libc_now;
    start(argc, argv);
    uint32_t seed = 1;
    set_all(seed);
    memset(libc_want, 0, sizeof libc_want);
    for (int sig = 1; sig <= 64; sig++) {
        NEED(kernel_action(sig, NULL, &want[sig]) == 0);
        sigaction(sig, NULL, &libc_want[sig]);
    }
    ready();
    do {
        int round = next_round();
        if (broken()) {
            signal(SIGTERM, SIG_DFL);
            signal(SIGHUP, SIG_DFL);
            struct kernel_sigaction other = want[40];
            other.mask[1] ^= 16;
            kernel_action(40, &other, NULL);
        }
        for (int sig = 1; sig <= 64; sig++) {
            EXPECT(kernel_action(sig, NULL, &now) == 0, "signal %d", sig);
            EXPECT(same_bytes(&now, &want[sig], sizeof now),
                   "signal %d: handler %p flags %#lx restorer %p mask %08x%08x instead of handler %p "
                   "flags %#lx restorer %p mask %08x%08x",
                   sig, now.handler, now.flags, now.restorer, now.mask[1], now.mask[0],
                   want[sig].handler, want[sig].flags, want[sig].restorer, want[sig].mask[1],
                   want[sig].mask[0]);
            memset(&libc_now, 0, sizeof libc_now);
            sigaction(sig, NULL, &libc_now);
            EXPECT(libc_now.sa_handler == libc_want[sig].sa_handler &&
                       libc_now.sa_flags == libc_want[sig].sa_flags,
                   "signal %d by sigaction(): flags %#x instead of %#x", sig, libc_now.sa_flags,
                   libc_want[sig].sa_flags);
        }
        set_all(++seed);
        for (int sig = 1; sig <= 64; sig++) {
            kernel_action(sig, NULL, &want[sig]);
            sigaction(sig, NULL, &libc_want[sig]);
        }
        (void)round;
    } while (report());
    return finish();
}
