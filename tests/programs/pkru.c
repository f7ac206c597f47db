/* The protection-key register, a key in use, and a page that carries it. */
#include "harness.h"
#include <cpuid.h>
#include <sys/mman.h>

static uint32_t rdpkru(void)
{
    uint32_t eax, edx;
    asm volatile(".byte 0x0f, 0x01, 0xee" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static void wrpkru(uint32_t value)
{
    asm volatile(".byte 0x0f, 0x01, 0xef" ::"a"(value), "c"(0), "d"(0));
}

int main(int argc, char **argv)
{
    unsigned a, b, c = 0, d;
    start(argc, argv);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c & 1 << 4))
        skip("no protection keys");
    int key = pkey_alloc(0, 0);
    if (key < 0)
        skip("no protection key to be had");
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(page != MAP_FAILED);
    pattern_fill(page, 4096, 5);
    NEED(pkey_mprotect(page, 4096, PROT_READ | PROT_WRITE, key) == 0);
    uint32_t want = rdpkru() | 3u << 2 * key;
    wrpkru(want);
    ready();
    do {
        int round = next_round();
        if (broken())
            wrpkru(0x55555554);
        EXPECT(rdpkru() == want, "PKRU %#x instead of %#x", rdpkru(), want);
        EXPECT(smaps_number(page, "ProtectionKey") == key, "the page has key %ld instead of %d", smaps_number(page, "ProtectionKey"), key);
        wrpkru(want & ~(3u << 2 * key));
        EXPECT(pattern_check(page, 4096, 5) < 0, "the page's contents changed");
        want ^= (round & 1 ? 1u : 2u) << 2 * key;
        if ((want >> 2 * key & 3) == 0)
            want |= 3u << 2 * key;
        wrpkru(want);
    } while (report());
    return finish();
}
