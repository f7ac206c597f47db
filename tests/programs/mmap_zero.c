/*
 * Much address space, little memory: 1 GB never touched, 64 MB of pages that were read or written
 * with zeros, 64 MB with every second page in use. The test looks at the image's size; the program
 * sees that the bytes are right and that a restart has not filled the memory.
 */
#include "harness.h"
#include <sys/mman.h>

#define MB ((size_t)1 << 20)
enum { PAGE = 4096 };

static char *map(size_t len)
{
    char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(p != MAP_FAILED);
    return p;
}

static long resident_pages(void)
{
    char text[256];
    long size, resident;
    slurp("/proc/self/statm", text, sizeof text);
    NEED(sscanf(text, "%ld %ld", &size, &resident) == 2);
    return resident;
}

static long mapped_and_resident(char *start, size_t len)
{
    static unsigned char vector[65536];
    long n = 0;
    for (size_t at = 0; at < len; at += sizeof vector * PAGE) {
        size_t piece = len - at < sizeof vector * PAGE ? len - at : sizeof vector * PAGE;
        NEED(mincore(start + at, piece, vector) == 0);
        for (size_t i = 0; i < piece / PAGE; i++)
            n += vector[i] & 1;
    }
    return n;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    char *untouched = map(1024 * MB), *zeros = map(64 * MB), *sparse = map(64 * MB);
    madvise(sparse, 64 * MB, MADV_NOHUGEPAGE);
    madvise(zeros, 64 * MB, MADV_NOHUGEPAGE);
    madvise(untouched, 1024 * MB, MADV_NOHUGEPAGE);
    volatile char sink = 0;
    for (size_t i = 0; i < 64 * MB; i += PAGE)
        if (i % (4 * PAGE) == 0)
            ((volatile char *)zeros)[i] = 0;
        else
            sink += zeros[i];
    uint32_t seed = 3;
    for (size_t i = 0; i < 64 * MB; i += 2 * PAGE)
        *(uint32_t *)(sparse + i + 8) = pattern_at(seed, i);
    long before = resident_pages();
    ready();
    do {
        int round = next_round();
        if (broken()) {
            memset(untouched, 0, 40 * MB);
            untouched[500 * MB] = 1;
        }
        long n = mapped_and_resident(untouched, 1024 * MB);
        EXPECT(n == 0, "%ld pages of the untouched gigabyte are resident", n);
        EXPECT(resident_pages() < before + 2000, "%ld pages are resident instead of %ld",
               resident_pages(), before);
        n = 0;
        for (size_t i = 0; i < 64 * MB; i += 2 * PAGE)
            n += *(uint32_t *)(sparse + i + 8) != pattern_at(seed, i) || *(uint32_t *)(sparse + i) != 0;
        EXPECT(n == 0, "%ld of the used pages have changed", n);
        n = mapped_and_resident(sparse, 64 * MB);
        EXPECT(n <= (long)(32 * MB / PAGE), "%ld pages of the sparse area are resident", n);
        EXPECT(all_zero(zeros, 64 * MB), "the zero pages are no longer zero");
        seed = (uint32_t)round + 50;
        for (size_t i = 0; i < 64 * MB; i += 2 * PAGE)
            *(uint32_t *)(sparse + i + 8) = pattern_at(seed, i);
        before = resident_pages();
    } while (report());
    return finish();
}
