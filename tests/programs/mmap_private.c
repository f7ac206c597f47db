/*
 * Private anonymous memory: contents under every protection (none, read, execute only, all), holes
 * between the pages, many protections side by side, a mapping without reserve.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGES = 48, PAGE = 4096 };

static const int protections[] = {
    PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_EXEC, PROT_READ | PROT_EXEC,
    PROT_READ | PROT_WRITE | PROT_EXEC,
};
static char *area;
static uint32_t seeds[PAGES];

static int is_hole(int page)
{
    return page % 16 == 15;
}

static int protection_of(int page)
{
    return protections[page / 2 % 6];
}

static void text_of(int protection, char text[5])
{
    text[0] = protection & PROT_READ ? 'r' : '-';
    text[1] = protection & PROT_WRITE ? 'w' : '-';
    text[2] = protection & PROT_EXEC ? 'x' : '-';
    text[3] = 'p';
    text[4] = 0;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) {
        seeds[i] = (uint32_t)i + 1;
        if (is_hole(i)) {
            NEED(munmap(area + i * PAGE, PAGE) == 0);
            continue;
        }
        pattern_fill(area + i * PAGE, PAGE, seeds[i]);
        NEED(mprotect(area + i * PAGE, PAGE, protection_of(i)) == 0);
    }
    char *noreserve = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(noreserve != MAP_FAILED);
    pattern_fill(noreserve + 40960, PAGE, 77);
    /* An address that the program chose itself, and one at the lowest place allowed. */
    char *chosen = mmap((void *)0x20000000, 8 * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    char *low = mmap((void *)0x10000, 4 * PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    NEED(chosen == (void *)0x20000000 && low == (void *)0x10000);
    pattern_fill(chosen, 8 * PAGE, 78);
    pattern_fill(low, 4 * PAGE, 79);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            NEED(mprotect(area + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
            pattern_fill(chosen, PAGE, 1);
        }
        for (int i = 0; i < PAGES; i++) {
            struct vma vma;
            char *page = area + i * PAGE, want[5];
            int mapped = vma_at((uintptr_t)page, &vma);
            if (is_hole(i)) {
                EXPECT(!mapped, "page %d was a hole and is now %s", i, vma.perms);
                continue;
            }
            EXPECT(mapped, "page %d is gone", i);
            if (!mapped)
                continue;
            text_of(protection_of(i), want);
            EXPECT(strcmp(vma.perms, want) == 0, "page %d is %s instead of %s", i, vma.perms, want);
            NEED(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
            EXPECT(pattern_check(page, PAGE, seeds[i]) < 0, "page %d has other contents", i);
            seeds[i] = (uint32_t)(round * 100 + i);
            pattern_fill(page, PAGE, seeds[i]);
            NEED(mprotect(page, PAGE, protection_of(i)) == 0);
        }
        EXPECT(pattern_check(noreserve + 40960, PAGE, 77) < 0, "the unreserved mapping changed");
        EXPECT(all_zero(noreserve, 40960), "the unreserved mapping is no longer zero");
        EXPECT(pattern_check(chosen, 8 * PAGE, 78) < 0, "the mapping at 0x20000000 changed");
        EXPECT(pattern_check(low, 4 * PAGE, 79) < 0, "the mapping at 0x10000 changed");
    } while (report());
    return finish();
}
