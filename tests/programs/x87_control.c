/*
 * The x87 control word as the program's own setting for good (fesetround and precision), unlike
 * x87.c through all system calls and library calls.
 */
#include "harness.h"

static uint16_t control(void)
{
    uint16_t cw;
    asm volatile("fnstcw %0" : "=m"(cw));
    return cw;
}

int main(int argc, char **argv)
{
    static const uint16_t words[] = {0x0c7f, 0x087f, 0x007f, 0x0b7f};
    start(argc, argv);
    uint16_t want = 0x067f;
    asm volatile("fldcw %0" ::"m"(want));
    ready();
    do {
        int round = next_round();
        if (broken())
            asm volatile("fninit");
        EXPECT(control() == want, "control word %#x instead of %#x", control(), want);
        want = words[round % 4];
        asm volatile("fldcw %0" ::"m"(want));
    } while (report());
    return finish();
}
