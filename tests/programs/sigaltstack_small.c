/* The program waits in a handler on an alternate stack of 8 KiB, with a guard page below it. */
#include "harness.h"
#include <signal.h>
#include <sys/mman.h>

enum { SIZE = 8192 };
static char *area;
static volatile sig_atomic_t wrong;

static void handler(int sig)
{
    volatile uint32_t local[64];
    (void)sig;
    pattern_fill(local, sizeof local, 3);
    usleep(1500);
    if (pattern_check(local, sizeof local, 3) >= 0 || (char *)local < area || (char *)local >= area + SIZE)
        wrong = 1;
}

static void wait_in_handler(void)
{
    raise(SIGUSR1);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    stack_t now;
    start(argc, argv);
    char *map = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(map != MAP_FAILED && mprotect(map, 4096, PROT_NONE) == 0);
    area = map + 4096;
    stack_t stack = {.ss_sp = area, .ss_size = SIZE};
    NEED(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    idle = wait_in_handler;
    ready();
    do {
        next_round();
        if (broken())
            wrong = 1;
        EXPECT(!wrong, "on another stack, or a local array changed");
        NEED(sigaltstack(NULL, &now) == 0);
        EXPECT(now.ss_sp == area && now.ss_size == SIZE && now.ss_flags == 0,
               "sigaltstack says %p+%zu flags %#x", now.ss_sp, now.ss_size, now.ss_flags);
        wrong = 0;
    } while (report());
    return finish();
}
