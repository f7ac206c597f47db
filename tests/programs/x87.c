/*
 * The x87 unit: eight registers deep, or half empty with another top of stack; control word
 * (precision, rounding, masks), status word, tags; infinities, NaNs, denormals. frstor loads an
 * image, the loop holds it, fnsave takes it out again.
 */
#include "harness.h"

struct x87 { /* the layout of fnsave in 32-bit protected mode */
    uint16_t cw, pad0, sw, pad1, tw, pad2;
    uint32_t fip;
    uint16_t fcs, fop;
    uint32_t fdp;
    uint16_t fds, pad3;
    unsigned char st[8][10];
};
_Static_assert(sizeof(struct x87) == 108, "fnsave writes 108 bytes");

void spin_x87(const struct x87 *in, struct x87 *out, uint32_t turns);
asm(".text\n"
    ".globl spin_x87\n"
    "spin_x87:\n"
    "  mov 4(%esp), %eax\n"
    "  mov 8(%esp), %edx\n"
    "  mov 12(%esp), %ecx\n"
    "  frstor (%eax)\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  fnsave (%edx)\n"
    "  fninit\n"
    "  ret\n");

static struct x87 images[6];
static unsigned turn;
static char wrong[300];

/* An image with the registers that were pushed by the given statements. */
#define MAKE(image, control, ...)                                                                  \
    do {                                                                                           \
        uint16_t cw_ = control;                                                                    \
        asm volatile("fninit" ::: "memory");                                                       \
        asm volatile(__VA_ARGS__);                                                                 \
        asm volatile("fldcw %0" ::"m"(cw_));                                                       \
        asm volatile("fnsave %0" : "=m"(image));                                                   \
        (image).fip = (image).fcs = (image).fop = (image).fdp = (image).fds = 0;                   \
    } while (0)

static void make_images(void)
{
    /* full stack */
    MAKE(images[0], 0x037f, "fld1; fldpi; fldl2t; fldl2e; fldlg2; fldln2; fldz; fld1");
    /* three registers, top = 5, single precision, rounding up */
    MAKE(images[1], 0x087f, "fldpi; fldl2t; fld1; fldz; fdivrp");
    /* infinity, a NaN; zero-divide and invalid flags set; truncation, double precision */
    MAKE(images[2], 0x0e7f, "fld1; fldz; fdivrp; fldz; fldz; fdivp; fld1; fchs; fsqrt");
    /* empty, top turned */
    MAKE(images[3], 0x077f, "fincstp; fincstp; fincstp; fldz; fcompp");
    /* full, rounding down; condition codes set */
    MAKE(images[4], 0x077f, "fld1; fldpi; fldl2t; fldl2e; fldlg2; fldln2; fldz; fld1; fxam; fchs");
    images[5] = images[0];
    for (int i = 0; i < 8; i++) /* denormals and odd bits of every place */
        for (int j = 0; j < 10; j++)
            images[5].st[i][j] = j >= 8 ? 0 : (unsigned char)(j == 7 ? 0x40 + i : i * 17 + j * 31 + 1);
    images[5].tw = 0xaaaa; /* special */
}

static void compare(const struct x87 *want, struct x87 now)
{
    if (wrong[0])
        return;
    if (now.cw != want->cw || now.sw != want->sw || now.tw != want->tw ||
        !same_bytes(now.st, want->st, sizeof now.st)) {
        int i = 0;
        while (i < 7 && same_bytes(now.st[i], want->st[i], 10))
            i++;
        snprintf(wrong, sizeof wrong,
                 "image %u: cw %#x sw %#x tw %#x instead of cw %#x sw %#x tw %#x; st%d begins %#x, not %#x",
                 (turn - 1) % 6, now.cw, now.sw, now.tw, want->cw, want->sw, want->tw, i,
                 now.st[i][0], want->st[i][0]);
    }
}

static void spin(void)
{
    struct x87 now;
    const struct x87 *want = &images[turn++ % 6];
    spin_x87(want, &now, 60000);
    compare(want, now);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    make_images();
    idle = spin;
    ready();
    do {
        next_round();
        if (broken()) {
            struct x87 changed = images[1];
            changed.st[2][9] ^= 1;
            compare(&images[1], changed);
        }
        EXPECT(wrong[0] == 0, "%s", wrong);
    } while (report());
    return finish();
}
