/*
 * AC set for as long as the program waits, so that every checkpoint begins with alignment checks on:
 * the kernel does not clear it for a handler, and code that reads a word at an odd address then dies
 * of SIGBUS.
 */
#include "harness.h"
#include <setjmp.h>
#include <signal.h>

static uint32_t lost;
static sigjmp_buf escape;

void spin_ac(uint32_t turns, uint32_t *after);
asm(".text\n"
    ".globl spin_ac\n"
    "spin_ac:\n"
    "  mov 4(%esp), %ecx\n"
    "  mov 8(%esp), %edx\n"
    "  pushf\n"
    "  pushf\n"
    "  orl $0x40000, (%esp)\n"
    "  popf\n"
    "1: pause\n"
    "  dec %ecx\n"
    "  jnz 1b\n"
    "  pushf\n"
    "  pop %eax\n"
    "  popf\n"
    "  mov %eax, (%edx)\n"
    "  ret\n");

static void spin(void)
{
    uint32_t after;
    spin_ac(100000, &after);
    if (!(after & 0x40000))
        lost = 1;
}

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(escape, 1);
}

/* The alignment check really works: a word at an odd address gives SIGBUS. */
static int faults(void)
{
    static uint32_t words[4];
    uint32_t value;
    volatile int caught = 0;
    if (sigsetjmp(escape, 1) == 0)
        asm volatile("pushf\n orl $0x40000, (%%esp)\n popf\n"
                     "mov 1(%1), %0\n"
                     "pushf\n andl $~0x40000, (%%esp)\n popf\n"
                     : "=r"(value)
                     : "r"(words)
                     : "memory", "cc");
    else {
        caught = 1;
        asm volatile("pushf\n andl $~0x40000, (%%esp)\n popf\n" ::: "memory", "cc");
    }
    return caught;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    signal(SIGBUS, on_bus);
    if (!faults())
        skip("no alignment checks here");
    idle = spin;
    ready();
    do {
        next_round();
        if (broken())
            lost = 1;
        EXPECT(!lost, "AC is no longer set");
        EXPECT(faults(), "a misaligned read no longer faults");
    } while (report());
    return finish();
}
