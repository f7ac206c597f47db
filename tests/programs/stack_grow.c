/*
 * The stack: deep frames keep their contents while the checkpoint is taken at the bottom, and it
 * grows on afterwards; a MAP_GROWSDOWN mapping of the program's own does too.
 */
#include "harness.h"
#include <sys/mman.h>

#define MB ((size_t)1 << 20)
static int result;
static char *growing; /* lowest page of the mapping as it was made */
static size_t grown;

static TEST_NOINLINE int dig(int depth, int levels, uint32_t seed, void (*bottom)(void))
{
    uint32_t frame[4096];
    int wrong = 0;
    pattern_fill(frame, sizeof frame, seed + (uint32_t)depth);
    if (depth < levels)
        wrong = dig(depth + 1, levels, seed, bottom);
    else if (bottom)
        bottom();
    return wrong + (pattern_check(frame, sizeof frame, seed + (uint32_t)depth) >= 0);
}

static void grow(size_t bytes, uint32_t seed)
{
    for (size_t i = 0; i < bytes; i += 4096) {
        grown += 4096;
        *(volatile uint32_t *)(growing - grown + 16) = pattern_at(seed, grown);
    }
}

static void body(void)
{
    ready();
    do {
        int round = next_round();
        struct vma vma;
        if (broken()) {
            munmap(growing - grown, grown);
            grow(0, 1);
        }
        EXPECT(vma_at((uintptr_t)growing, &vma) && vma.start <= (uintptr_t)(growing - grown),
               "the growing mapping begins at %#lx instead of %p", vma.start, (void *)(growing - grown));
        if (vma.start <= (uintptr_t)(growing - grown))
            for (size_t i = 4096; i <= grown; i += 4096)
                EXPECT(*(uint32_t *)(growing - i + 16) == pattern_at(1, i), "%zu below is wrong", i);
        EXPECT(vma_at((uintptr_t)&round, &vma) && strcmp(vma.name, "[stack]") == 0,
               "the stack is called '%s'", vma.name);
        int wrong = dig(0, 40 + 20 * (round % 5), (uint32_t)round * 7, NULL);
        EXPECT(wrong == 0, "%d of the new frames were wrong", wrong);
        if (grown < 2 * MB && !broken())
            grow(40960, 1);
    } while (report());
    result = finish();
}

int main(int argc, char **argv)
{
    start(argc, argv);
    char *room = mmap(NULL, 16 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(room != MAP_FAILED);
    NEED(munmap(room, 16 * MB) == 0);
    growing = mmap(room + 12 * MB, 65536, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    NEED(growing == room + 12 * MB);
    grow(81920, 1);
    int wrong = dig(0, 60, 3, body);
    if (wrong) {
        fprintf(stderr, "%d frames above the checkpoint were wrong\n", wrong);
        return 1;
    }
    return result;
}
