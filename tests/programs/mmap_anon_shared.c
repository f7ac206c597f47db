/*
 * Shared anonymous memory: contents, the shared flag (a forked child's write is seen), and two
 * mappings of the same memory that stay the same memory.
 */
#include "harness.h"
#include <sys/mman.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 40 };

static int child_write_is_seen(volatile uint32_t *word)
{
    int status;
    *word = 1;
    pid_t child = fork();
    if (child == 0) {
        *word = 2;
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return *word == 2;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(map != MAP_FAILED);
    /* the same memory a second time, elsewhere */
    char *alias = mremap(map, 0, 4 * PAGE, MREMAP_MAYMOVE);
    NEED(alias != MAP_FAILED && alias != map);
    uint32_t seed = 1;
    for (int i = 0; i < PAGES; i += 2)
        pattern_fill(map + i * PAGE, PAGE, seed + (uint32_t)i);
    NEED(pattern_check(alias, PAGE, seed) < 0);
    NEED(mprotect(map + 8 * PAGE, PAGE, PROT_NONE) == 0);
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(mmap(map, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                      -1, 0) == map);
        NEED(mprotect(map + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
        for (int i = 0; i < PAGES; i++)
            if (i % 2 == 0)
                EXPECT(pattern_check(map + i * PAGE, PAGE, seed + (uint32_t)i) < 0, "page %d changed", i);
            else
                EXPECT(all_zero(map + i * PAGE, PAGE), "page %d is not zero", i);
        struct vma vma;
        EXPECT(vma_at((uintptr_t)map, &vma) && strcmp(vma.perms, "rw-s") == 0, "it is now %s", vma.perms);
        EXPECT(child_write_is_seen((uint32_t *)(map + PAGE)), "a child's write is not seen");
        EXPECT(*(uint32_t *)(alias + PAGE) == 2, "the second mapping shows other memory");
        *(uint32_t *)(map + PAGE) = 0;
        seed = (uint32_t)round * 1000;
        for (int i = 0; i < PAGES; i += 2)
            pattern_fill(i < 4 ? alias + i * PAGE : map + i * PAGE, PAGE, seed + (uint32_t)i);
        NEED(mprotect(map + 8 * PAGE, PAGE, PROT_NONE) == 0);
    } while (report());
    return finish();
}
