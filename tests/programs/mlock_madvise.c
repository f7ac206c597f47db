/*
 * Locked and advised memory: VmFlags, as /proc/self/smaps tells them, are the same after a restart
 * (soft-dirty apart).
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096, LEN = 16 * PAGE };
static struct area {
    const char *what;
    int advice; /* -1: mlock, -2: mlock on fault, -3: nothing */
    int applied;
    char *start;
    char flags[256];
} areas[] = {
    {"mlock", -1, 0, 0, ""},
    {"mlock2 MLOCK_ONFAULT", -2, 0, 0, ""},
    {"MADV_DONTFORK", MADV_DONTFORK, 0, 0, ""},
    {"MADV_DONTDUMP", MADV_DONTDUMP, 0, 0, ""},
    {"MADV_WIPEONFORK", MADV_WIPEONFORK, 0, 0, ""},
    {"MADV_HUGEPAGE", MADV_HUGEPAGE, 0, 0, ""},
    {"MADV_NOHUGEPAGE", MADV_NOHUGEPAGE, 0, 0, ""},
    {"MADV_SEQUENTIAL", MADV_SEQUENTIAL, 0, 0, ""},
    {"MADV_RANDOM", MADV_RANDOM, 0, 0, ""},
    {"MADV_MERGEABLE", MADV_MERGEABLE, 0, 0, ""},
    {"nothing", -3, 0, 0, ""},
};
#define AREAS (sizeof areas / sizeof *areas)

static void read_flags(const char *address, char *out, size_t size)
{
    static char smaps[1 << 19];
    struct vma vma;
    int inside = 0;
    out[0] = 0;
    slurp("/proc/self/smaps", smaps, sizeof smaps);
    for (char *line = smaps; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (vma_parse(line, &vma)) {
            inside = vma.start <= (uintptr_t)address && (uintptr_t)address < vma.end;
            continue;
        }
        if (!inside || strncmp(line, "VmFlags:", 8) != 0)
            continue;
        size_t len = 0;
        for (const char *p = line + 8; *p && *p != '\n'; p += *p == ' ' ? 1 : 2)
            if (*p != ' ' && memcmp(p, "sd", 2) != 0 && len + 4 < size) {
                memcpy(out + len, p, 2);
                out[len + 2] = ' ';
                out[len += 3] = 0;
            }
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    for (size_t i = 0; i < AREAS; i++) {
        struct area *a = &areas[i];
        /* a hole on either side, so that neighbours do not merge */
        char *room = mmap(NULL, LEN + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NEED(room != MAP_FAILED);
        a->start = room + PAGE;
        NEED(mprotect(a->start, LEN, PROT_READ | PROT_WRITE) == 0);
        pattern_fill(a->start, LEN / 2, (uint32_t)i);
        if (a->advice == -1)
            a->applied = mlock(a->start, LEN) == 0;
        else if (a->advice == -2)
            a->applied = syscall(SYS_mlock2, a->start, LEN, 1) == 0;
        else
            a->applied = a->advice < 0 || madvise(a->start, LEN, a->advice) == 0;
        read_flags(a->start, a->flags, sizeof a->flags);
        NEED(a->flags[0]);
    }
    ready();
    do {
        next_round();
        if (broken()) {
            munlock(areas[0].start, LEN);
            madvise(areas[2].start, LEN, MADV_DOFORK);
        }
        for (size_t i = 0; i < AREAS; i++) {
            struct area *a = &areas[i];
            char flags[256];
            read_flags(a->start, flags, sizeof flags);
            if (a->applied)
                EXPECT(strcmp(flags, a->flags) == 0, "%s: VmFlags '%s' instead of '%s'", a->what,
                       flags, a->flags);
            EXPECT(pattern_check(a->start, LEN / 2, (uint32_t)i) < 0, "%s: contents", a->what);
            EXPECT(all_zero(a->start + LEN / 2, LEN / 2), "%s: zeros", a->what);
        }
    } while (report());
    return finish();
}
