/*
 * ckpt_exclude(): whole pages are not saved, and read as zeros after a restart; what ckpt_include() takes
 * back is saved, and so is all around.
 */
#include "harness.h"
#include <selfckpt.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 64 };

static char *area;
static char cache[16 * PAGE]; /* .bss */

static int excluded(int page)
{
    return page >= 10 && page < 50 && page != 20;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    /* Page 9 and page 50 are touched in part only. */
    NEED(ckpt_exclude(area + 10 * PAGE - 100, 40 * PAGE + 200) == 0);
    NEED(ckpt_include(area + 20 * PAGE + 50, 1) == 0);
    NEED(ckpt_exclude(cache, sizeof cache) == 0);
    if (ckpt_available())
        NEED(ckpt_exclude((void *)-PAGE, 2 * PAGE) == -1 && errno == EINVAL);
    pattern_fill(area, PAGES * PAGE, 0);
    pattern_fill(cache, sizeof cache, 500);
    ready();
    do {
        int round = next_round();
        if (broken())
            memset(area, 0, PAGE);
        for (int i = 0; i < PAGES; i++) {
            char *page = area + i * PAGE;
            uint32_t *word = (uint32_t *)page;
            int kept = *word == pattern_at((uint32_t)(round - 1), (size_t)i * PAGE / 4);
            if (restarted() && excluded(i))
                EXPECT(all_zero(page, PAGE), "page %d is not zero", i);
            else
                EXPECT(kept, "page %d is lost", i);
        }
        if (restarted())
            EXPECT(all_zero(cache + PAGE, sizeof cache - 2 * PAGE), "the cache is not zero");
        pattern_fill(area, PAGES * PAGE, (uint32_t)round);
        pattern_fill(cache, sizeof cache, 500);
    } while (report());
    return finish();
}
