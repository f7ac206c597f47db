/*
 * The simplest job: counter [LINES [MICROSECONDS [EXIT-STATUS]]] prints numbered lines, each with a
 * number that depends on all before it, and waits between them. Not a test of its own: the reference
 * for tests of the command line and of whole outputs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long lines = argc > 1 ? atol(argv[1]) : 100;
    unsigned pause = argc > 2 ? (unsigned)atol(argv[2]) : 20000;
    uint32_t sum = 1;
    for (long i = 1; i <= lines; i++) {
        for (int j = 0; j < 1000; j++)
            sum = sum * 1664525u + 1013904223u + (uint32_t)i;
        printf("%ld %08x\n", i, sum);
        fflush(stdout);
        if (pause)
            usleep(pause);
    }
    return argc > 3 ? atoi(argv[3]) : 0;
}
