/*
 * A job as a batch system gets it: batch_app INPUT [MICROSECONDS] reads INPUT line by line, prints a
 * number for each that depends on all before it, and takes its time. Not a test of its own: its whole
 * output is compared.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    FILE *input = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!input) {
        perror(argc > 1 ? argv[1] : "batch_app INPUT");
        return 1;
    }
    char line[256];
    uint32_t sum = 1;
    for (long n = 1; fgets(line, sizeof line, input); n++) {
        for (int j = 0; line[j]; j++)
            sum = sum * 1664525u + (unsigned char)line[j];
        printf("%ld %08x\n", n, sum);
        fflush(stdout);
        usleep(argc > 2 ? (unsigned)atol(argv[2]) : 50000);
    }
    return 0;
}
