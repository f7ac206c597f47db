/*
 * All eight general registers, esp and ebp among them, at odd values.
 *
 * The idle function loads them and compares them in a loop, for some milliseconds, without a system
 * call; esp points to the struct below, at an address that no compiler would choose, so the signal
 * frame lands there too. ss:esp is also how the loop finds its numbers, hence no register is spared.
 */
#include "harness.h"

struct frame { /* what esp points to */
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp;
    uint32_t turns;
    uint32_t bad; /* set to a register's number when it is wrong */
    uint32_t saved_esp;
};

void spin_regs(struct frame *frame);
asm(".text\n"
    ".globl spin_regs\n"
    "spin_regs:\n"
    "  mov 4(%esp), %eax\n"
    "  push %ebx\n push %esi\n push %edi\n push %ebp\n"
    "  mov %esp, 40(%eax)\n"
    "  mov %eax, %esp\n"
    "  mov 0(%esp), %eax\n mov 4(%esp), %ebx\n mov 8(%esp), %ecx\n mov 12(%esp), %edx\n"
    "  mov 16(%esp), %esi\n mov 20(%esp), %edi\n mov 24(%esp), %ebp\n"
    "1: cmp 0(%esp), %eax\n jne 11f\n"
    "  cmp 4(%esp), %ebx\n jne 12f\n"
    "  cmp 8(%esp), %ecx\n jne 13f\n"
    "  cmp 12(%esp), %edx\n jne 14f\n"
    "  cmp 16(%esp), %esi\n jne 15f\n"
    "  cmp 20(%esp), %edi\n jne 16f\n"
    "  cmp 24(%esp), %ebp\n jne 17f\n"
    "  cmp 28(%esp), %esp\n jne 18f\n"
    "  decl 32(%esp)\n jnz 1b\n"
    "  jmp 9f\n"
    "11: movl $1, 36(%esp)\n jmp 9f\n"
    "12: movl $2, 36(%esp)\n jmp 9f\n"
    "13: movl $3, 36(%esp)\n jmp 9f\n"
    "14: movl $4, 36(%esp)\n jmp 9f\n"
    "15: movl $5, 36(%esp)\n jmp 9f\n"
    "16: movl $6, 36(%esp)\n jmp 9f\n"
    "17: movl $7, 36(%esp)\n jmp 9f\n"
    "18: movl $8, 36(%esp)\n"
    "9:\n"
    "  mov 40(%esp), %esp\n"
    "  pop %ebp\n pop %edi\n pop %esi\n pop %ebx\n"
    "  ret\n");

static char area[65536 + 64];
static struct frame *frame;
static uint32_t seed = 1;
static uint32_t first_bad;

static void fill(void)
{
    frame = (struct frame *)(area + 65536 - sizeof *frame - 3 - seed % 13);
    uint32_t *word = &frame->eax;
    for (int i = 0; i < 7; i++)
        word[i] = pattern_at(seed, (size_t)i);
    frame->esp = (uint32_t)(uintptr_t)frame;
}

static void spin(void)
{
    frame->turns = 500000;
    frame->bad = 0;
    spin_regs(frame);
    if (frame->bad && !first_bad)
        first_bad = frame->bad;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    fill();
    idle = spin;
    ready();
    do {
        next_round();
        if (broken()) {
            frame->esp ^= 4;
            spin();
        }
        EXPECT(first_bad == 0, "register %u (of eax ebx ecx edx esi edi ebp esp, from 1) changed",
               first_bad);
        seed++;
        fill();
    } while (report());
    return finish();
}
