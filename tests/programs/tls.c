/* Thread-local storage of the main thread: __thread variables, errno, gs and its descriptor. */
#include "harness.h"
#include <asm/ldt.h>
#include <pthread.h>

static __thread uint32_t initialised[256] = {1, 2, 3};
static __thread uint32_t zeroed[4096];

static uint32_t gs_selector(void)
{
    uint32_t gs = 0;
    asm volatile("mov %%gs, %0" : "=r"(gs));
    return gs & 0xffff;
}

static uint32_t gs_word(uint32_t offset)
{
    uint32_t value;
    asm volatile("mov %%gs:(%1), %0" : "=r"(value) : "r"(offset));
    return value;
}

int main(int argc, char **argv)
{
    struct user_desc desc, before;
    start(argc, argv);
    uint32_t gs = gs_selector(), self = gs_word(0), guard = gs_word(0x14), sysinfo = gs_word(0x10);
    pthread_t thread = pthread_self();
    memset(&before, 0, sizeof before);
    before.entry_number = gs >> 3;
    NEED(syscall(SYS_get_thread_area, &before) == 0);
    uint32_t seed = 7;
    pattern_fill(initialised, sizeof initialised, seed);
    pattern_fill(zeroed, sizeof zeroed, seed + 1);
    pthread_key_t key;
    NEED(pthread_key_create(&key, NULL) == 0);
    NEED(pthread_setspecific(key, &seed) == 0);
    void *address = initialised;
    ready();
    do {
        int round = next_round();
        if (broken()) {
            memset(initialised, 0, sizeof initialised);
            initialised[0] = 1;
        }
        EXPECT(gs_selector() == gs, "gs %#x instead of %#x", gs_selector(), gs);
        EXPECT(gs_word(0) == self, "gs:0 is %#x instead of %#x", gs_word(0), self);
        EXPECT(gs_word(0x10) == sysinfo, "gs:16 is %#x instead of %#x", gs_word(0x10), sysinfo);
        EXPECT(gs_word(0x14) == guard, "the stack guard changed");
        EXPECT(pthread_self() == thread, "pthread_self() changed");
        EXPECT((void *)initialised == address, "a __thread variable has moved");
        EXPECT(pattern_check(initialised, sizeof initialised, seed) < 0, "initialised TLS changed");
        EXPECT(pattern_check(zeroed, sizeof zeroed, seed + 1) < 0, "zeroed TLS changed");
        EXPECT(pthread_getspecific(key) == &seed, "pthread_getspecific lost its value");
        memset(&desc, 0, sizeof desc);
        desc.entry_number = gs >> 3;
        EXPECT(syscall(SYS_get_thread_area, &desc) == 0, "get_thread_area: errno %d", errno);
        EXPECT(same_bytes(&desc, &before, sizeof desc), "the TLS descriptor has base %#x, not %#x",
               desc.base_addr, before.base_addr);
        seed = (uint32_t)round * 100;
        pattern_fill(initialised, sizeof initialised, seed);
        pattern_fill(zeroed, sizeof zeroed, seed + 1);
    } while (report());
    return finish();
}
