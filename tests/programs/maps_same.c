/*
 * The list of mappings is the same: ranges, protections, offsets, names. Neighbours that differ in
 * nothing count as one, as the kernel merges some of them and not others.
 */
#include "harness.h"
#include <sys/mman.h>

enum { MAX = 500 };
struct list {
    struct vma vma[MAX];
    int n;
};
static struct list before, after;
static char maps[1 << 18];

static void read_list(struct list *list)
{
    slurp("/proc/self/maps", maps, sizeof maps);
    list->n = 0;
    for (char *line = maps; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        struct vma *vma = &list->vma[list->n];
        if (!vma_parse(line, vma))
            continue;
        if (vma->name[0] != '/')
            vma->offset = 0;
        struct vma *last = list->n ? vma - 1 : NULL;
        if (last && last->end == vma->start && strcmp(last->perms, vma->perms) == 0 &&
            strcmp(last->name, vma->name) == 0 &&
            (vma->name[0] != '/' || last->offset + (last->end - last->start) == vma->offset))
            last->end = vma->end;
        else
            list->n++;
        NEED(list->n < MAX);
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    setvbuf(stdout, NULL, _IONBF, 0);
    free(malloc(1000)); /* there is a heap */
    char *extra = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(extra != MAP_FAILED);
    mprotect(extra + 4096, 4096, PROT_NONE);
    read_list(&before);
    read_list(&before); /* the stack may have grown by the first one */
    ready();
    do {
        next_round();
        if (broken())
            mprotect(extra + 8192, 4096, PROT_READ);
        read_list(&after);
        EXPECT(after.n == before.n, "%d mappings instead of %d", after.n, before.n);
        for (int i = 0, j = 0; i < before.n || j < after.n;) {
            struct vma *b = i < before.n ? &before.vma[i] : NULL, *a = j < after.n ? &after.vma[j] : NULL;
            if (b && (!a || b->start < a->start)) {
                EXPECT(0, "gone: %lx-%lx %s %lx %s", b->start, b->end, b->perms, b->offset, b->name);
                i++;
            } else if (a && (!b || a->start < b->start)) {
                EXPECT(0, "new: %lx-%lx %s %lx %s", a->start, a->end, a->perms, a->offset, a->name);
                j++;
            } else {
                EXPECT(a->end == b->end && strcmp(a->perms, b->perms) == 0 &&
                           a->offset == b->offset && strcmp(a->name, b->name) == 0,
                       "%lx-%lx %s %lx %s instead of %lx-%lx %s %lx %s", a->start, a->end, a->perms,
                       a->offset, a->name, b->start, b->end, b->perms, b->offset, b->name);
                i++;
                j++;
            }
        }
    } while (report());
    return finish();
}
