/* ymm0 to ymm7, all 256 bits, with the upper halves in use and not in use. */
#include "harness.h"

void spin_avx(const void *in, void *out, uint32_t turns);
asm(".text\n"
    ".globl spin_avx\n"
    "spin_avx:\n"
    "  mov 4(%esp), %eax\n mov 8(%esp), %edx\n mov 12(%esp), %ecx\n"
    "  vmovups 0(%eax), %ymm0\n vmovups 32(%eax), %ymm1\n vmovups 64(%eax), %ymm2\n"
    "  vmovups 96(%eax), %ymm3\n vmovups 128(%eax), %ymm4\n vmovups 160(%eax), %ymm5\n"
    "  vmovups 192(%eax), %ymm6\n vmovups 224(%eax), %ymm7\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  vmovups %ymm0, 0(%edx)\n vmovups %ymm1, 32(%edx)\n vmovups %ymm2, 64(%edx)\n"
    "  vmovups %ymm3, 96(%edx)\n vmovups %ymm4, 128(%edx)\n vmovups %ymm5, 160(%edx)\n"
    "  vmovups %ymm6, 192(%edx)\n vmovups %ymm7, 224(%edx)\n"
    "  vzeroupper\n"
    "  ret\n");

static unsigned char in[256], out[256];
static int bad = -1;

static void spin(void)
{
    spin_avx(in, out, 60000);
    for (int i = 0; i < 8 && bad < 0; i++)
        if (!same_bytes(in + 32 * i, out + 32 * i, 32))
            bad = i;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (!__builtin_cpu_supports("avx"))
        skip("no AVX");
    pattern_fill(in, sizeof in, 1);
    idle = spin;
    ready();
    do {
        int round = next_round();
        if (broken()) { /* as an xrstor without the AVX component leaves it */
            memset(out + 32 * 5 + 16, 0, 16);
            for (int i = 0; i < 8; i++)
                if (!same_bytes(in + 32 * i, out + 32 * i, 32))
                    bad = i;
        }
        EXPECT(bad < 0, "ymm%d changed", bad);
        pattern_fill(in, sizeof in, (uint32_t)round + 1);
        if (round % 3 == 2) /* upper halves zero: the component may be in its initial state */
            for (int i = 0; i < 8; i++)
                memset(in + 32 * i + 16, 0, 16);
    } while (report());
    return finish();
}
