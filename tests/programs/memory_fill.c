/*
 * memory_fill SIZE_MB [dense|sparse|zeros] [DIR]
 *
 * For measurements: fills SIZE_MB with bytes that do not repeat (dense), writes every second page
 * only (sparse), or half of the pages with bytes and half with zeros (zeros). Then, with DIR, it
 * checks all of it in each round, as the test programs do; without, it prints READY and waits.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096 };
enum kind { DENSE, SPARSE, ZEROS };
static uint32_t *memory;
static size_t pages;
static enum kind kind;

static uint32_t word(size_t page, size_t index)
{
    uint32_t x = (uint32_t)page * 2654435761u + (uint32_t)index * 40503u + 12345u;
    return x ^ x >> 13 ^ x << 7;
}

static void fill(void)
{
    for (size_t page = 0; page < pages; page++) {
        uint32_t *p = memory + page * (PAGE / 4);
        if (kind == SPARSE && page % 2)
            continue;
        for (size_t i = 0; i < PAGE / 4; i++)
            p[i] = kind == ZEROS && page % 2 ? 0 : word(page, i);
    }
}

static size_t count_wrong(void)
{
    size_t wrong = 0;
    for (size_t page = 0; page < pages; page++) {
        const uint32_t *p = memory + page * (PAGE / 4);
        if (kind == SPARSE && page % 2)
            continue; /* a look at them would use memory */
        for (size_t i = 0; i < PAGE / 4; i++)
            if (p[i] != (kind == ZEROS && page % 2 ? 0 : word(page, i))) {
                wrong++;
                break;
            }
    }
    return wrong;
}

int main(int argc, char **argv)
{
    if (argc < 2 || atol(argv[1]) <= 0)
        test_die("usage: %s SIZE_MB [dense|sparse|zeros] [DIR]", argv[0]);
    const char *name = argc > 2 ? argv[2] : "dense";
    kind = strcmp(name, "sparse") == 0 ? SPARSE : strcmp(name, "zeros") == 0 ? ZEROS : DENSE;
    size_t size = (size_t)atol(argv[1]) << 20;
    pages = size / PAGE;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(memory != MAP_FAILED);
    if (kind == SPARSE)
        madvise(memory, size, MADV_NOHUGEPAGE);
    fill();
    if (argc < 4) {
        printf("READY\n");
        fflush(stdout);
        for (;;)
            pause();
    }
    char *arguments[] = {argv[0], argv[3], NULL};
    start(2, arguments);
    ready();
    do {
        next_round();
        if (broken())
            memory[0] ^= 1;
        EXPECT(count_wrong() == 0, "%zu of %zu pages are wrong", count_wrong(), pages);
    } while (report());
    return finish();
}
