/*
 * Huge pages of hugetlbfs, as private and as shared memory, and as a memfd with and without a mapping, one page of which
 * nobody has touched. argv[2] is their number of bytes. After a restart they are huge again; while DIR/normal is there,
 * they are of normal size since one.
 */
#include "harness.h"
#include <sys/mman.h>

static size_t size;

static size_t page_size_at(char *address)
{
    return (size_t)smaps_number(address, "KernelPageSize") * 1024;
}

static char *map(int flags, int fd)
{
    char *memory = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        skip("there are no huge pages");
    return memory;
}

int main(int argc, char **argv)
{
    uint32_t seed = 1;
    start(argc, argv);
    size = argc > 2 ? (size_t)atoi(argv[2]) : 2 << 20;
    int memfd = memfd_create("huge", MFD_HUGETLB), alone = memfd_create("alone", MFD_HUGETLB);
    if (memfd < 0 || alone < 0 || ftruncate(memfd, (off_t)(2 * size)) != 0 || ftruncate(alone, (off_t)(2 * size)) != 0)
        skip("there are no huge pages");
    char *private = map(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    char *shared = map(MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1);
    char *file = map(MAP_SHARED, memfd), *kept = map(MAP_SHARED, alone);
    pattern_fill(kept, size, 77);
    NEED(munmap(kept, 2 * size) == 0);
    char *memory[] = {private, shared, file};
    for (int i = 0; i < 3; i++) {
        pattern_fill(memory[i], size, seed + i);
        NEED(page_size_at(memory[i]) == size);
    }
    NEED(mprotect(shared, size, PROT_READ) == 0);
    int normal = 0;
    ready();
    do {
        uint32_t word;
        seed = (uint32_t)next_round();
        normal |= restarted() && access(test_path("normal"), F_OK) == 0;
        if (broken())
            private[size - 1] ^= 1;
        for (int i = 0; i < 3; i++) {
            EXPECT(pattern_check(memory[i], size, seed + i) < 0, "memory %d", i);
            EXPECT((page_size_at(memory[i]) == size) == !normal, "memory %d: pages of %zu", i, page_size_at(memory[i]));
        }
        NEED(mprotect(shared, size, PROT_READ | PROT_WRITE) == 0);
        for (int i = 0; i < 3; i++)
            pattern_fill(memory[i], size, seed + 1 + i);
        NEED(mprotect(shared, size, PROT_READ) == 0);
        /* Reading huge pages by their descriptor goes with either. */
        EXPECT(pread(memfd, &word, 4, 4096) == 4 && word == pattern_at(seed + 3, 1024), "another file: %x", word);
        EXPECT(pread(alone, &word, 4, 4096) == 4 && word == pattern_at(77, 1024), "file without a mapping: %x", word);
        EXPECT(pread(alone, &word, 4, (off_t)(2 * size - 4)) == 4 && word == 0, "what nobody has touched: %x", word);
        struct stat status;
        EXPECT(fstat(alone, &status) == 0 && status.st_size == (off_t)(2 * size), "length of the file");
        EXPECT((status.st_blksize == (long)size) == !normal, "its pages: %ld", (long)status.st_blksize);
    } while (report());
    return finish();
}
