/* xmm0 to xmm7, and MXCSR: rounding, flush to zero, denormals are zero, masks, sticky flags. */
#include "harness.h"

void spin_sse(const void *in, void *out, uint32_t turns, uint32_t *mxcsr);
asm(".text\n"
    ".globl spin_sse\n"
    "spin_sse:\n"
    "  push %ebx\n"
    "  mov 8(%esp), %eax\n mov 12(%esp), %edx\n mov 16(%esp), %ecx\n mov 20(%esp), %ebx\n"
    "  ldmxcsr (%ebx)\n"
    "  movups 0(%eax), %xmm0\n movups 16(%eax), %xmm1\n movups 32(%eax), %xmm2\n"
    "  movups 48(%eax), %xmm3\n movups 64(%eax), %xmm4\n movups 80(%eax), %xmm5\n"
    "  movups 96(%eax), %xmm6\n movups 112(%eax), %xmm7\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  movups %xmm0, 0(%edx)\n movups %xmm1, 16(%edx)\n movups %xmm2, 32(%edx)\n"
    "  movups %xmm3, 48(%edx)\n movups %xmm4, 64(%edx)\n movups %xmm5, 80(%edx)\n"
    "  movups %xmm6, 96(%edx)\n movups %xmm7, 112(%edx)\n"
    "  stmxcsr (%ebx)\n"
    "  pushl $0x1f80\n"
    "  ldmxcsr (%esp)\n"
    "  pop %ebx\n"
    "  pop %ebx\n"
    "  ret\n");

static unsigned char in[128], out[128];
static int bad = -1;
static uint32_t wrong_mxcsr, wanted_mxcsr;
static unsigned turn;

static void spin(void)
{
    static const uint32_t words[] = {0x1f80, 0x9f80 | 0x2000, 0x5fc0 | 0x3f, 0x7f80, 0x1f80 | 0x15};
    uint32_t want = words[turn++ % 5], now = want;
    spin_sse(in, out, 60000, &now);
    if (now != want && !wrong_mxcsr) {
        wrong_mxcsr = now;
        wanted_mxcsr = want;
    }
    for (int i = 0; i < 8 && bad < 0; i++)
        if (!same_bytes(in + 16 * i, out + 16 * i, 16))
            bad = i;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (!__builtin_cpu_supports("sse2"))
        skip("no SSE2");
    pattern_fill(in, sizeof in, 1);
    idle = spin;
    ready();
    do {
        int round = next_round();
        if (broken()) {
            bad = 7;
            wrong_mxcsr = 1;
        }
        EXPECT(bad < 0, "xmm%d changed", bad);
        EXPECT(wrong_mxcsr == 0, "MXCSR %#x instead of %#x", wrong_mxcsr, wanted_mxcsr);
        pattern_fill(in, sizeof in, (uint32_t)round + 1);
    } while (report());
    return finish();
}
