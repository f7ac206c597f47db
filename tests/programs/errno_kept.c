/* A program that looks at nothing but its errno, while checkpoints are taken one after another. */
#include "harness.h"

static volatile int wrong, seen;
static volatile uint32_t turns;

static void spin(void)
{
    int want = 4000 + (int)(turns++ % 100);
    errno = want;
    for (int i = 0; i < 300000; i++)
        if (*(volatile int *)&errno != want && !wrong) {
            seen = errno;
            wrong = 1;
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
            seen = EINTR;
        }
        EXPECT(!wrong, "errno became %d", seen);
        wrong = 0;
    } while (report());
    return finish();
}
