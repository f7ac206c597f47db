/*
 * TF: the program steps itself through a loop and counts the SIGTRAPs. A checkpoint in the middle
 * must neither lose one nor add one.
 */
#include "harness.h"
#include <signal.h>
#include <ucontext.h>

static volatile unsigned long steps;
static volatile int wrong_code;
static unsigned long expected;
static unsigned long wrong_count;

void step_loop(uint32_t turns);
asm(".text\n"
    ".globl step_loop\n"
    "step_loop:\n"
    "  mov 4(%esp), %ecx\n"
    "  pushf\n"
    "  pushf\n"
    "  orl $0x100, (%esp)\n"
    "  popf\n"
    "1: nop\n"
    "  dec %ecx\n"
    "  jnz 1b\n"
    "  popf\n"
    "  ret\n");

static void on_trap(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (info->si_code != TRAP_TRACE)
        wrong_code = info->si_code;
    steps++;
}

static unsigned long count(void)
{
    steps = 0;
    step_loop(2000);
    return steps;
}

static void spin(void)
{
    unsigned long n = count();
    if (n != expected && wrong_count == 0)
        wrong_count = n + 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    start(argc, argv);
    NEED(sigaction(SIGTRAP, &action, NULL) == 0);
    expected = count();
    NEED(expected >= 6000 && expected < 6010);
    idle = spin;
    ready();
    do {
        next_round();
        if (broken())
            wrong_count = 7;
        EXPECT(wrong_count == 0, "%lu steps instead of %lu", wrong_count - 1, expected);
        EXPECT(wrong_code == 0, "a SIGTRAP with si_code %d", wrong_code);
        EXPECT(count() == expected, "%lu steps instead of %lu", steps, expected);
    } while (report());
    return finish();
}
