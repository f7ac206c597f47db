/* The heap: malloc'ed blocks of many sizes, brk where it was and going on from there. */
#include "harness.h"
#include <malloc.h>

enum { BLOCKS = 600 };
static struct block {
    uint32_t *data;
    size_t size;
    uint32_t seed;
} blocks[BLOCKS];

static size_t size_of(uint32_t seed)
{
    uint32_t r = pattern_at(seed, 99);
    if (r % 50 == 0)
        return 200000 + (r >> 8) % 400000; /* by mmap */
    return 16 + (r >> 8) % (r % 7 == 0 ? 40000 : 300);
}

static void allocate(struct block *block, uint32_t seed)
{
    block->seed = seed;
    block->size = size_of(seed) & ~(size_t)3;
    block->data = malloc(block->size);
    NEED(block->data != NULL);
    pattern_fill(block->data, block->size, seed);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    mallopt(M_TRIM_THRESHOLD, 1 << 30); /* or free() would give memory back by brk */
    for (uint32_t i = 0; i < BLOCKS; i++)
        allocate(&blocks[i], i + 1);
    /* A piece of the heap that is the program's own. */
    size_t own = 40960;
    uint32_t own_seed = 5;
    char *piece = sbrk((intptr_t)own);
    NEED(piece != (void *)-1);
    pattern_fill(piece, own, own_seed);
    void *end = sbrk(0);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            sbrk(4096);
            blocks[17].data[0] ^= 1;
        }
        EXPECT(sbrk(0) == end, "the break is %p instead of %p", sbrk(0), end);
        EXPECT(pattern_check(piece, own, own_seed) < 0, "memory that sbrk gave has changed");
        for (int i = 0; i < BLOCKS; i++)
            EXPECT(pattern_check(blocks[i].data, blocks[i].size, blocks[i].seed) < 0,
                   "block %d of %zu bytes has changed", i, blocks[i].size);
        struct vma vma;
        EXPECT(vma_at((uintptr_t)piece, &vma) && strcmp(vma.name, "[heap]") == 0,
               "the heap's mapping is called '%s'", vma.name);
        /* malloc goes on working, with what it remembered. */
        for (int i = 0; i < BLOCKS; i++)
            if ((i + round) % 3 == 0) {
                free(blocks[i].data);
                allocate(&blocks[i], (uint32_t)(round * 1000 + i));
            }
        /* The break goes on from where it stands, contiguously, with zeros. */
        void *grown = sbrk(0), *more = sbrk(12288);
        EXPECT(more == grown, "sbrk gave %p instead of %p", more, grown);
        if (more != (void *)-1)
            EXPECT(all_zero(more, 12288), "new heap memory is not zero");
        EXPECT((char *)sbrk(0) == (char *)grown + 12288, "the break has not moved by 12288");
        EXPECT(sbrk(-12288) != (void *)-1, "the break does not shrink");
        end = sbrk(0);
    } while (report());
    return finish();
}
