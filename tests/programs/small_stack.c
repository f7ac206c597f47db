/*
 * The whole program runs on a stack of 16 KiB (makecontext) with a guard page below it: a checkpoint
 * must get by with what the kernel's signal frame leaves.
 */
#include "harness.h"
#include <sys/mman.h>
#include <ucontext.h>

enum { SIZE = 16384 };
static ucontext_t back, own;
static char *area;
static int result;
static uint32_t waste_seed = 9;

/* Waits some 3 KiB further down; the signal frame lands below that. */
static TEST_NOINLINE void wait_deep(int depth)
{
    volatile uint32_t local[128];
    pattern_fill(local, sizeof local, waste_seed + (uint32_t)depth);
    if (depth > 0)
        wait_deep(depth - 1);
    else
        usleep(1500);
    if (pattern_check(local, sizeof local, waste_seed + (uint32_t)depth) >= 0)
        waste_seed = 0;
}

static void idle_deep(void)
{
    wait_deep(4);
}

static TEST_NOINLINE void check(void)
{
    int local;
    EXPECT((char *)&local >= area && (char *)&local < area + SIZE, "on another stack");
    EXPECT(waste_seed == 9, "a local array changed");
}

static void body(void)
{
    if (broken()) {
        waste_seed = 0;
    }
    idle = idle_deep;
    ready();
    do {
        next_round();
        check();
    } while (report());
    result = finish();
}

int main(int argc, char **argv)
{
    start(argc, argv);
    char *map = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(map != MAP_FAILED && mprotect(map, 4096, PROT_NONE) == 0);
    area = map + 4096;
    NEED(getcontext(&own) == 0);
    own.uc_stack.ss_sp = area;
    own.uc_stack.ss_size = SIZE;
    own.uc_link = &back;
    makecontext(&own, body, 0);
    NEED(swapcontext(&back, &own) == 0);
    return result;
}
