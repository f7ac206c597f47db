/* zmm0 to zmm7 (all that 32-bit code has) and the mask registers k0 to k7. */
#include "harness.h"

void spin_avx512(const void *in, void *out, uint32_t turns);
asm(".text\n"
    ".globl spin_avx512\n"
    "spin_avx512:\n"
    "  mov 4(%esp), %eax\n mov 8(%esp), %edx\n mov 12(%esp), %ecx\n"
    "  vmovups 0(%eax), %zmm0\n vmovups 64(%eax), %zmm1\n vmovups 128(%eax), %zmm2\n"
    "  vmovups 192(%eax), %zmm3\n vmovups 256(%eax), %zmm4\n vmovups 320(%eax), %zmm5\n"
    "  vmovups 384(%eax), %zmm6\n vmovups 448(%eax), %zmm7\n"
    "  kmovq 512(%eax), %k0\n kmovq 520(%eax), %k1\n kmovq 528(%eax), %k2\n kmovq 536(%eax), %k3\n"
    "  kmovq 544(%eax), %k4\n kmovq 552(%eax), %k5\n kmovq 560(%eax), %k6\n kmovq 568(%eax), %k7\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  vmovups %zmm0, 0(%edx)\n vmovups %zmm1, 64(%edx)\n vmovups %zmm2, 128(%edx)\n"
    "  vmovups %zmm3, 192(%edx)\n vmovups %zmm4, 256(%edx)\n vmovups %zmm5, 320(%edx)\n"
    "  vmovups %zmm6, 384(%edx)\n vmovups %zmm7, 448(%edx)\n"
    "  kmovq %k0, 512(%edx)\n kmovq %k1, 520(%edx)\n kmovq %k2, 528(%edx)\n kmovq %k3, 536(%edx)\n"
    "  kmovq %k4, 544(%edx)\n kmovq %k5, 552(%edx)\n kmovq %k6, 560(%edx)\n kmovq %k7, 568(%edx)\n"
    "  vzeroupper\n"
    "  ret\n");

static unsigned char in[576], out[576];
static int bad;

static void spin(void)
{
    spin_avx512(in, out, 60000);
    bad |= !same_bytes(in, out, sizeof in);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw"))
        skip("no AVX-512");
    pattern_fill(in, sizeof in, 1);
    idle = spin;
    ready();
    do {
        int round = next_round();
        if (broken())
            bad = 1;
        EXPECT(!bad, "a zmm or a mask register changed");
        pattern_fill(in, sizeof in, (uint32_t)round + 1);
    } while (report());
    return finish();
}
