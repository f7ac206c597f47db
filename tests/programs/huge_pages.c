/*
 * Huge pages of hugetlbfs, as private memory and as a memfd: after a restart the contents are there, in pages of normal
 * size. argv[2] is their number of bytes.
 */
#include "harness.h"
#include <sys/mman.h>

static size_t size;

static size_t page_size_at(char *address)
{
    return (size_t)smaps_number(address, "KernelPageSize") * 1024;
}

int main(int argc, char **argv)
{
    uint32_t seed = 1;
    start(argc, argv);
    size = argc > 2 ? (size_t)atoi(argv[2]) : 2 << 20;
    char *private = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    int memfd = memfd_create("huge", MFD_HUGETLB);
    if (private == MAP_FAILED || memfd < 0 || ftruncate(memfd, (off_t)size) != 0)
        skip("there are no huge pages");
    char *file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (file == MAP_FAILED)
        skip("there are no huge pages");
    pattern_fill(private, size, seed);
    pattern_fill(file, size, seed);
    NEED(page_size_at(private) == size && page_size_at(file) == size);
    int gone = 0;
    ready();
    do {
        uint32_t word;
        seed = (uint32_t)next_round();
        gone |= restarted();
        if (broken())
            private[size - 1] ^= 1;
        EXPECT(pattern_check(private, size, seed) < 0, "private memory");
        EXPECT(pattern_check(file, size, seed) < 0, "the memfd");
        EXPECT((page_size_at(private) == size) == !gone, "pages of %zu", page_size_at(private));
        pattern_fill(private, size, seed + 1);
        pattern_fill(file, size, seed + 1);
        /* Reading huge pages by their descriptor goes with either. */
        EXPECT(pread(memfd, &word, 4, 4096) == 4 && word == pattern_at(seed + 1, 1024), "another file: %x", word);
    } while (report());
    return finish();
}
