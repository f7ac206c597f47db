/*
 * Sealed memory (mseal, Linux 6.10): what it holds and that nothing of it can be changed but, where it is writable, its
 * contents.
 */
#include "harness.h"
#include <sys/mman.h>

#define PAGE 4096
#define LEN (4 * PAGE)
#define MSEAL 462

static int sealed(char *start)
{
    return mprotect(start, PAGE, PROT_READ) == -1 && errno == EPERM && munmap(start + LEN - PAGE, PAGE) == -1 &&
           errno == EPERM && mremap(start, LEN, 2 * LEN, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM;
}

static char *map(int flags, uint32_t seed)
{
    char *start = mmap(NULL, LEN, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    NEED(start != MAP_FAILED);
    pattern_fill(start, LEN, seed);
    return start;
}

int main(int argc, char **argv)
{
    uint32_t seed = 1;
    start(argc, argv);
    char *writable = map(MAP_PRIVATE, seed), *readable = map(MAP_PRIVATE, 1000), *shared = map(MAP_SHARED, seed);
    char *plain = map(MAP_PRIVATE, 2000);
    NEED(mprotect(readable, LEN, PROT_READ) == 0);
    if (syscall(MSEAL, readable, LEN, 0) != 0)
        skip("the kernel has no mseal");
    NEED((broken() || syscall(MSEAL, writable, LEN, 0) == 0) && syscall(MSEAL, shared, LEN, 0) == 0);
    ready();
    do {
        seed = (uint32_t)next_round();
        EXPECT(pattern_check(writable, LEN, seed) < 0, "private memory");
        EXPECT(pattern_check(shared, LEN, seed) < 0, "shared memory");
        EXPECT(pattern_check(readable, LEN, 1000) < 0, "memory that is only read");
        EXPECT(sealed(writable), "private memory is not sealed");
        EXPECT(sealed(shared), "shared memory is not sealed");
        EXPECT(sealed(readable), "memory that is only read is not sealed");
        EXPECT(mprotect(plain, PAGE, PROT_READ | PROT_WRITE) == 0, "memory is sealed that was not: errno %d", errno);
        if (!broken()) {
            pattern_fill(writable, LEN, seed + 1);
            pattern_fill(shared, LEN, seed + 1);
        }
    } while (report());
    return finish();
}
