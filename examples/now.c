/*
 * The smallest real use of ckpt_now(): a long loop that takes a checkpoint of itself every so often.
 *
 *   gcc -m32 -O2 -Iinclude -o now examples/now.c
 *   ./now                                     runs without the library, and takes no checkpoints
 *   LD_PRELOAD=$PWD/build/libselfckpt.so ./now
 *   selfckpt restart .                        goes on from the newest image in this directory
 */
#include <selfckpt.h>

#include <stdio.h>
#include <string.h>

enum { STEPS = 100000000, EVERY = 25000000 };

static void checkpoint(int step)
{
    int generation = ckpt_now();
    if (generation > 0)
        fprintf(stderr, "step %d: generation %d is written\n", step, generation);
    else if (generation == 0)
        fprintf(stderr, "step %d: restarted from generation %d\n", step, ckpt_generation());
    else
        fprintf(stderr, "step %d: no checkpoint: %s\n", step, strerror(errno));
}

int main(void)
{
    if (!ckpt_available())
        fprintf(stderr, "runs without checkpoints: libselfckpt.so is not loaded\n");
    unsigned sum = 1;
    for (int step = 1; step <= STEPS; step++) {
        sum = sum * 1664525u + 1013904223u;
        if (ckpt_available() && step % EVERY == 0)
            checkpoint(step);
    }
    printf("%u\n", sum);
    return 0;
}
