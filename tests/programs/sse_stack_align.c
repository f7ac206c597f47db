/*
 * The stack pointer at every offset within 16 bytes when the checkpoint is taken: a handler's code
 * that stores SSE registers on its stack must not rely on what the program left.
 */
#include "harness.h"

void spin_esp(uint32_t offset, uint32_t turns);
asm(".text\n"
    ".globl spin_esp\n"
    "spin_esp:\n"
    "  push %ebp\n"
    "  mov %esp, %ebp\n"
    "  mov 12(%ebp), %ecx\n"
    "  sub 8(%ebp), %esp\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  mov %ebp, %esp\n"
    "  pop %ebp\n"
    "  ret\n");

static uint32_t turn;
static void spin(void)
{
    spin_esp(turn++ % 64, 40000);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    idle = spin;
    ready();
    do {
        uint32_t before = turn;
        next_round();
        EXPECT(turn >= before && !broken(), "it does not go on");
    } while (report());
    return finish();
}
