/* Blocks SIGUSR2, which asks for a checkpoint, by the bare system call: the command must say why it waits. */
#include "harness.h"

static unsigned long long mask(const unsigned long long *set)
{
    unsigned long long old = 0;
    NEED(syscall(SYS_rt_sigprocmask, 2, set, &old, 8) == 0);
    return old;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    const unsigned long long usr2 = 1 << 11;
    mask(&usr2);
    ready();
    do {
        next_round();
        EXPECT(!broken() && mask(NULL) == usr2, "SIGUSR2 is not blocked");
    } while (report());
    return finish();
}
