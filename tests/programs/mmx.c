/* The eight MMX registers. */
#include "harness.h"

void spin_mmx(const void *in, void *out, uint32_t turns);
asm(".text\n"
    ".globl spin_mmx\n"
    "spin_mmx:\n"
    "  mov 4(%esp), %eax\n mov 8(%esp), %edx\n mov 12(%esp), %ecx\n"
    "  movq 0(%eax), %mm0\n movq 8(%eax), %mm1\n movq 16(%eax), %mm2\n movq 24(%eax), %mm3\n"
    "  movq 32(%eax), %mm4\n movq 40(%eax), %mm5\n movq 48(%eax), %mm6\n movq 56(%eax), %mm7\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  movq %mm0, 0(%edx)\n movq %mm1, 8(%edx)\n movq %mm2, 16(%edx)\n movq %mm3, 24(%edx)\n"
    "  movq %mm4, 32(%edx)\n movq %mm5, 40(%edx)\n movq %mm6, 48(%edx)\n movq %mm7, 56(%edx)\n"
    "  emms\n"
    "  ret\n");

static uint64_t in[8], out[8];
static int bad = -1;

static void spin(void)
{
    spin_mmx(in, out, 60000);
    for (int i = 0; i < 8 && bad < 0; i++)
        if (in[i] != out[i])
            bad = i;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (!__builtin_cpu_supports("mmx"))
        skip("no MMX");
    pattern_fill(in, sizeof in, 1);
    idle = spin;
    ready();
    do {
        int round = next_round();
        if (broken())
            bad = out[3] == in[3] ? 3 : 2;
        EXPECT(bad < 0, "mm%d changed", bad);
        pattern_fill(in, sizeof in, (uint32_t)round + 1);
    } while (report());
    return finish();
}
