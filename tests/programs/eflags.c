/*
 * The flags that a program can set: CF PF AF ZF SF OF, DF, AC, ID. The idle loop counts with lea and
 * jecxz, which leave them alone.
 */
#include "harness.h"

uint32_t spin_flags(uint32_t flags, uint32_t turns);
asm(".text\n"
    ".globl spin_flags\n"
    "spin_flags:\n"
    "  mov 8(%esp), %ecx\n"
    "  pushf\n" /* the caller's */
    "  pushl 8(%esp)\n"
    "  popf\n"
    "1: jecxz 2f\n"
    "  lea -1(%ecx), %ecx\n"
    "  jmp 1b\n"
    "2: pushf\n"
    "  pop %eax\n"
    "  popf\n"
    "  ret\n");

enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, DF = 0x400, OF = 0x800, AC = 0x40000, ID = 0x200000 };
#define ARITHMETIC (CF | PF | AF | ZF | SF | OF)

static const uint32_t patterns[] = {
    DF,
    AC,
    ID,
    DF | AC | ID | ARITHMETIC,
    ARITHMETIC,
    CF | AF | SF | ID,
    PF | ZF | OF | AC | DF,
    0,
};
#define MASK (ARITHMETIC | DF | AC | ID)

static uint32_t wrong_wanted, wrong_seen;
static int wrong;
static unsigned turn;

static void spin(void)
{
    /* Every idle call takes the next pattern: a checkpoint falls into some of them. */
    uint32_t want = patterns[turn++ % (sizeof patterns / sizeof *patterns)];
    uint32_t seen = spin_flags(want | 0x202, 800000) & MASK;
    if (seen != want && !wrong) {
        wrong = 1;
        wrong_wanted = want;
        wrong_seen = seen;
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    idle = spin;
    ready();
    do {
        next_round();
        if (broken()) {
            wrong = 1;
            wrong_wanted = DF;
            wrong_seen = spin_flags(0x202, 10) & MASK;
        }
        EXPECT(!wrong, "flags %#x became %#x", wrong_wanted, wrong_seen);
        wrong = 0;
    } while (report());
    return finish();
}
