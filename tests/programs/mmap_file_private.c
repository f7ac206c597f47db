/*
 * Private file mappings: pages that were written (copies of the program's own) among clean ones, a
 * file longer than the mapping and one shorter than it, with the page that has no file behind it.
 */
#include "harness.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static sigjmp_buf escape;

static void on_bus(int sig)
{
    (void)sig;
    siglongjmp(escape, 1);
}

static int faults(volatile char *p)
{
    if (sigsetjmp(escape, 1))
        return 1;
    (void)*p;
    return 0;
}

static int make_file(const char *name, size_t len, uint32_t seed)
{
    static char data[64 * PAGE];
    int fd = open(test_path(name), O_RDWR | O_CREAT | O_TRUNC, 0644);
    NEED(fd >= 0 && len <= sizeof data);
    pattern_fill(data, sizeof data, seed);
    NEED(write(fd, data, len) == (ssize_t)len);
    return fd;
}

/* What the file holds from offset on, len bytes. */
static int same_as_file(const char *page, uint32_t seed, size_t offset, size_t len)
{
    for (size_t i = 0; i < len / 4; i++)
        if (((const uint32_t *)page)[i] != pattern_at(seed, offset / 4 + i))
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    signal(SIGBUS, on_bus);
    /* 20 pages; mapped are pages 2 to 11 */
    int fd = make_file("long", 20 * PAGE, 1);
    char *longer = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * PAGE);
    char *readonly = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, fd, 5 * PAGE);
    close(fd);
    /* three and a half pages; mapped are five */
    fd = make_file("short", 3 * PAGE + PAGE / 2, 2);
    char *shorter = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    NEED(longer != MAP_FAILED && readonly != MAP_FAILED && shorter != MAP_FAILED);
    uint32_t seed = 10;
    for (int i = 0; i < 10; i += 3)
        pattern_fill(longer + i * PAGE, PAGE, seed + (uint32_t)i);
    pattern_fill(shorter + PAGE, PAGE, seed + 50);
    memset(shorter + 3 * PAGE + 3000, 0x5a, 500); /* beyond the end of the file, within its page */
    /* A page of a private mapping that was written and then made read only. */
    pattern_fill(longer + 7 * PAGE, PAGE, 99);
    NEED(mprotect(longer + 7 * PAGE, PAGE, PROT_READ) == 0);
    NEED(faults(shorter + 4 * PAGE));
    ready();
    do {
        int round = next_round();
        if (broken()) {
            NEED(mmap(shorter + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                      -1, 0) == shorter + 4 * PAGE);
            pattern_fill(longer + 3 * PAGE, PAGE, 0);
        }
        for (int i = 0; i < 10; i++) {
            char *page = longer + i * PAGE;
            if (i == 7)
                EXPECT(pattern_check(page, PAGE, 99) < 0, "the read-only copy changed");
            else if (i % 3 == 0)
                EXPECT(pattern_check(page, PAGE, seed + (uint32_t)i) < 0, "written page %d changed", i);
            else
                EXPECT(same_as_file(page, 1, (size_t)(i + 2) * PAGE, PAGE), "clean page %d changed", i);
        }
        EXPECT(same_as_file(readonly, 1, 5 * PAGE, 3 * PAGE), "the read-only mapping changed");
        EXPECT(same_as_file(shorter, 2, 0, PAGE), "a clean page of the short file changed");
        EXPECT(pattern_check(shorter + PAGE, PAGE, seed + 50) < 0, "a written page changed");
        EXPECT(same_as_file(shorter + 3 * PAGE, 2, 3 * PAGE, PAGE / 2), "the half page changed");
        int n = 0;
        for (int i = 0; i < 500; i++)
            n += shorter[3 * PAGE + 3000 + i] != 0x5a;
        EXPECT(n == 0, "bytes behind the end of the file were lost");
        EXPECT(faults(shorter + 4 * PAGE), "the page behind the end of the file does not fault");
        struct vma vma;
        EXPECT(vma_at((uintptr_t)readonly, &vma) && strcmp(vma.name, test_path("long")) == 0 &&
                   vma.offset == 5 * PAGE && strcmp(vma.perms, "r--p") == 0,
               "the read-only mapping is now %s %lx %s", vma.perms, vma.offset, vma.name);
        EXPECT(vma_at((uintptr_t)shorter, &vma) && strcmp(vma.name, test_path("short")) == 0,
               "the short file's mapping is now called '%s'", vma.name);
        seed = (uint32_t)round * 100;
        for (int i = 0; i < 10; i += 3)
            pattern_fill(longer + i * PAGE, PAGE, seed + (uint32_t)i);
        pattern_fill(shorter + PAGE, PAGE, seed + 50);
    } while (report());
    return finish();
}
