/* The blocked signals, all 64 but SIGUSR2, which asks for the checkpoint. */
#include "harness.h"
#include <signal.h>

static uint64_t kernel_mask(const uint64_t *set)
{
    uint64_t old = 0;
    NEED(syscall(SYS_rt_sigprocmask, SIG_SETMASK, set, &old, 8) == 0);
    return old;
}

#define BIT(sig) (1ull << ((sig)-1))
#define NEVER (BIT(SIGKILL) | BIT(SIGSTOP) | BIT(SIGUSR2))

int main(int argc, char **argv)
{
    start(argc, argv);
    uint64_t want = (0x5a5a5a5aa5a5a5a5ull | BIT(33) | BIT(64) | BIT(1)) & ~NEVER;
    kernel_mask(&want);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            uint64_t other = want & 0xffffffff;
            kernel_mask(&other);
        }
        uint64_t now = kernel_mask(NULL);
        EXPECT(now == want, "mask %016llx instead of %016llx", (unsigned long long)now,
               (unsigned long long)want);
        want = ((uint64_t)pattern_at((uint32_t)round, 1) << 32 | pattern_at((uint32_t)round, 2)) & ~NEVER;
        if (round == 2)
            want = ~NEVER;
        kernel_mask(&want);
    } while (report());
    return finish();
}
