/*
 * The program waits inside a handler, on the alternate stack, called while another handler was
 * running; the masks of both are in force, and all of it unwinds properly in the end.
 */
#include "harness.h"
#include <signal.h>
#include <sys/mman.h>

enum { SIZE = 65536 };
static char *area;
static volatile int unwound, result;

static int blocked(int sig)
{
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    return sigismember(&now, sig);
}

static int on_area(const void *p)
{
    return (const char *)p >= area && (const char *)p < area + SIZE;
}

static void inner(int sig, siginfo_t *info, void *context)
{
    uint32_t local[200];
    (void)info;
    (void)context;
    uint32_t seed = 1;
    pattern_fill(local, sizeof local, seed);
    ready();
    do {
        int round = next_round();
        stack_t now;
        if (broken()) {
            sigset_t one;
            sigemptyset(&one);
            sigaddset(&one, SIGWINCH);
            sigprocmask(SIG_UNBLOCK, &one, NULL);
        }
        EXPECT(sig == SIGRTMIN + 5, "the handler's argument changed");
        EXPECT(on_area(local), "not on the alternate stack");
        NEED(sigaltstack(NULL, &now) == 0);
        EXPECT(now.ss_flags == SS_ONSTACK && now.ss_sp == area && now.ss_size == SIZE,
               "sigaltstack says %p+%zu flags %#x", now.ss_sp, now.ss_size, now.ss_flags);
        EXPECT(pattern_check(local, sizeof local, seed) < 0, "a local array changed");
        EXPECT(blocked(SIGUSR1) && blocked(SIGRTMIN + 5) && blocked(SIGWINCH) && !blocked(SIGTERM),
               "the mask inside: USR1 %d RTMIN+5 %d WINCH %d TERM %d", blocked(SIGUSR1),
               blocked(SIGRTMIN + 5), blocked(SIGWINCH), blocked(SIGTERM));
        seed = (uint32_t)round + 5;
        pattern_fill(local, sizeof local, seed);
    } while (report());
    result = finish();
    unwound = 1;
}

static void outer(int sig)
{
    union sigval value = {.sival_int = 42};
    if (sig != SIGUSR1 || unwound)
        _exit(50);
    sigqueue(getpid(), SIGRTMIN + 5, value);
    if (unwound != 1 || blocked(SIGRTMIN + 5) || !blocked(SIGUSR1))
        _exit(51);
    unwound = 2;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = outer, .sa_flags = SA_ONSTACK};
    start(argc, argv);
    area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    stack_t stack = {.ss_sp = area, .ss_size = SIZE};
    NEED(sigaltstack(&stack, NULL) == 0);
    NEED(sigaction(SIGUSR1, &action, NULL) == 0);
    action.sa_sigaction = inner;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaddset(&action.sa_mask, SIGWINCH);
    NEED(sigaction(SIGRTMIN + 5, &action, NULL) == 0);
    raise(SIGUSR1);
    if (unwound != 2 || blocked(SIGUSR1))
        return 52;
    NEED(sigaltstack(NULL, &stack) == 0);
    return stack.ss_flags == 0 ? result : 53;
}
