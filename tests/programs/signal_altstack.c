/*
 * The alternate signal stack while the program is not on it: set, set with SS_AUTODISARM, and not
 * set at all. signal_nested waits on it.
 */
#include "harness.h"
#include <signal.h>
#include <sys/mman.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static volatile uintptr_t handler_stack;

static void handler(int sig)
{
    int here;
    (void)sig;
    handler_stack = (uintptr_t)&here;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    stack_t want = {0}, now;
    enum { SIZE = 65536 };
    start(argc, argv);
    char *area = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    NEED(sigaction(SIGUSR1, &action, NULL) == 0);
    want = (stack_t){.ss_sp = area, .ss_size = SIZE};
    NEED(sigaltstack(&want, NULL) == 0);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            stack_t none = {.ss_flags = SS_DISABLE};
            sigaltstack(&none, NULL);
        }
        NEED(sigaltstack(NULL, &now) == 0);
        EXPECT(now.ss_flags == want.ss_flags, "flags %#x instead of %#x", now.ss_flags, want.ss_flags);
        if (!(want.ss_flags & SS_DISABLE))
            EXPECT(now.ss_sp == want.ss_sp && now.ss_size == want.ss_size,
                   "stack %p+%zu instead of %p+%zu", now.ss_sp, now.ss_size, want.ss_sp, want.ss_size);
        raise(SIGUSR1);
        int on = handler_stack - (uintptr_t)want.ss_sp < want.ss_size; /* unsigned */
        EXPECT(on == !(want.ss_flags & SS_DISABLE), "the handler ran at %#lx", (unsigned long)handler_stack);
        /* In the order in which each of them sees a restart. */
        if (round % 3 == 1)
            want = (stack_t){.ss_sp = area + SIZE, .ss_size = SIZE / 2, .ss_flags = (int)SS_AUTODISARM};
        else if (round % 3 == 2)
            want = (stack_t){.ss_sp = area, .ss_size = SIZE};
        else
            want = (stack_t){.ss_flags = SS_DISABLE};
        NEED(sigaltstack(&want, NULL) == 0);
    } while (report());
    return finish();
}
