/*
 * A shared file mapping: what is written to it is in the file, and the other way round, before and
 * after a restart. Each round writes a page of its own, so that the pages of earlier rounds have one
 * right contents whether or not a restart puts the file back.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 64 };

int main(int argc, char **argv)
{
    static char zeros[PAGES * PAGE], buffer[PAGE];
    start(argc, argv);
    int fd = open(test_path("shared"), O_RDWR | O_CREAT | O_TRUNC, 0644);
    NEED(fd >= 0);
    NEED(write(fd, zeros, sizeof zeros) == (ssize_t)sizeof zeros);
    char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *readonly = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    NEED(map != MAP_FAILED && readonly != MAP_FAILED);
    close(fd);
    pattern_fill(map, PAGE, 1);
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(mmap(map, PAGES * PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == map);
        for (int i = 0; i < round && i < PAGES; i++) {
            EXPECT(pattern_check(map + i * PAGE, PAGE, (uint32_t)i + 1) < 0, "page %d changed", i);
            EXPECT(pattern_check(readonly + i * PAGE, PAGE, (uint32_t)i + 1) < 0,
                   "page %d of the second mapping changed", i);
        }
        struct vma vma;
        EXPECT(vma_at((uintptr_t)map, &vma) && strcmp(vma.perms, "rw-s") == 0 &&
                   strcmp(vma.name, test_path("shared")) == 0,
               "the mapping is now %s '%s'", vma.perms, vma.name);
        EXPECT(vma_at((uintptr_t)readonly, &vma) && strcmp(vma.perms, "r--s") == 0,
               "the second mapping is now %s", vma.perms);
        int next = round % PAGES;
        pattern_fill(map + next * PAGE, PAGE, (uint32_t)next + 1);
        fd = open(test_path("shared"), O_RDWR);
        NEED(fd >= 0);
        EXPECT(pread(fd, buffer, PAGE, next * PAGE) == PAGE, "cannot read the file");
        EXPECT(pattern_check(buffer, PAGE, (uint32_t)next + 1) < 0,
               "what is written to the mapping does not reach the file");
        /* and from the file into the mapping */
        EXPECT(pwrite(fd, "written", 8, (PAGES - 1) * PAGE + 100) == 8, "cannot write the file");
        EXPECT(strcmp(readonly + (PAGES - 1) * PAGE + 100, "written") == 0,
               "what is written to the file does not reach the mapping");
        EXPECT(pwrite(fd, "\0\0\0\0\0\0\0", 8, (PAGES - 1) * PAGE + 100) == 8, "cannot write");
        close(fd);
    } while (report());
    return finish();
}
