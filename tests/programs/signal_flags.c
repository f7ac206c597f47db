/*
 * Handlers under way whose flags matter: one of SA_NODEFER that has called itself twice, with SA_RESETHAND on others
 * that have been used up and not, on an alternate stack that SS_AUTODISARM has switched off for as long. (In a 32-bit
 * program the kernel does not switch it on again afterwards.)
 */
#include "harness.h"
#include <signal.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
enum { DEEPEST = 3, SIZE = 65536, ALWAYS = SIGUSR1, ONCE = SIGWINCH, USED_UP = SIGURG };
static char area[SIZE];
static volatile int depth, once, result;

static int is_blocked(int number)
{
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    return sigismember(&now, number);
}

static int is_default(int number)
{
    struct sigaction now;
    NEED(sigaction(number, NULL, &now) == 0);
    return now.sa_handler == SIG_DFL;
}

static void on_once(int number)
{
    once += number == ONCE ? 1 : 100;
}

static void arm(int number)
{
    struct sigaction action = {.sa_handler = on_once, .sa_flags = (int)SA_RESETHAND};
    NEED(sigaction(number, &action, NULL) == 0);
}

static void in_the_deepest(void)
{
    ready();
    do {
        stack_t stack;
        next_round();
        if (broken())
            arm(USED_UP);
        EXPECT(depth == DEEPEST, "%d calls deep", depth);
        EXPECT(!is_blocked(ALWAYS), "SA_NODEFER's signal is blocked");
        NEED(sigaltstack(NULL, &stack) == 0);
        EXPECT(stack.ss_flags == SS_DISABLE, "the alternate stack has flags %#x", stack.ss_flags);
        EXPECT(is_default(USED_UP), "a handler of SA_RESETHAND that had run is there again");
        EXPECT(!is_default(ONCE), "a handler of SA_RESETHAND that had not run is gone");
        once = 0;
        raise(ONCE);
        raise(ONCE);
        EXPECT(once == 1 && is_default(ONCE), "a handler of SA_RESETHAND has run %d times", once);
        arm(ONCE);
    } while (report());
    result = finish();
}

static void on_always(int number)
{
    depth++;
    if (depth < DEEPEST)
        raise(number);
    else
        in_the_deepest();
    depth--;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_handler = on_always, .sa_flags = SA_NODEFER | SA_ONSTACK};
    stack_t stack = {.ss_sp = area, .ss_size = SIZE, .ss_flags = (int)SS_AUTODISARM};
    NEED(sigaltstack(&stack, NULL) == 0 && sigaction(ALWAYS, &action, NULL) == 0);
    arm(ONCE);
    arm(USED_UP);
    raise(USED_UP);
    once = 0;
    raise(ALWAYS);
    return depth == 0 ? result : 50;
}
