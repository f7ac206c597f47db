/*
 * Segment selectors: fs by a TLS entry of the program's own (set_thread_area), es by an LDT entry
 * (modify_ldt). Reads through them must give the bytes that their bases point to.
 */
#include "harness.h"
#include <asm/ldt.h>

static uint32_t tls_words[16], ldt_words[16], ldt_fs_words[16];
static int tls_slot;
static uint32_t fs_selector, es_selector, ldt_fs_selector, user_ds;

struct seen {
    uint32_t fs, es, fs_word, es_word;
};

/* Loads fs and es, loops, reads the selectors and a word through each. */
void spin_segments(uint32_t fs, uint32_t es, uint32_t turns, struct seen *seen);
asm(".text\n"
    ".globl spin_segments\n"
    "spin_segments:\n"
    "  push %ebx\n"
    "  mov %es, %ebx\n"
    "  mov 8(%esp), %eax\n mov %eax, %fs\n"
    "  mov 12(%esp), %eax\n mov %eax, %es\n"
    "  mov 16(%esp), %ecx\n"
    "1: pause\n dec %ecx\n jnz 1b\n"
    "  mov 20(%esp), %edx\n"
    "  xor %eax, %eax\n mov %fs, %eax\n mov %eax, 0(%edx)\n"
    "  xor %eax, %eax\n mov %es, %eax\n mov %eax, 4(%edx)\n"
    "  mov %fs:4, %eax\n mov %eax, 8(%edx)\n"
    "  mov %es:8, %eax\n mov %eax, 12(%edx)\n"
    "  mov %ebx, %es\n"
    "  pop %ebx\n"
    "  ret\n");

static struct seen seen;
static int use_ldt_fs;

static void spin(void)
{
    use_ldt_fs ^= 1;
    struct seen now;
    spin_segments(use_ldt_fs ? ldt_fs_selector : fs_selector, es_selector, 60000, &now);
    uint32_t fs = use_ldt_fs ? ldt_fs_selector : fs_selector;
    uint32_t word = use_ldt_fs ? ldt_fs_words[1] : tls_words[1];
    if ((now.fs != fs || now.es != es_selector || now.fs_word != word ||
         now.es_word != ldt_words[2]) && seen.es == 0)
        seen = now;
}

static void ldt(int entry, void *base, size_t limit)
{
    struct user_desc desc = {.entry_number = (unsigned)entry,
                             .base_addr = (unsigned)(uintptr_t)base,
                             .limit = (unsigned)limit - 1,
                             .seg_32bit = 1,
                             .useable = 1};
    NEED(syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc) == 0);
}

static int get_slot(int slot, struct user_desc *desc)
{
    memset(desc, 0, sizeof *desc);
    desc->entry_number = (unsigned)slot;
    return (int)syscall(SYS_get_thread_area, desc);
}

int main(int argc, char **argv)
{
    struct user_desc desc = {.entry_number = -1u,
                             .base_addr = (unsigned)(uintptr_t)tls_words,
                             .limit = sizeof tls_words - 1,
                             .seg_32bit = 1,
                             .useable = 1};
    struct user_desc before[3], after;
    static char ldt_before[65536], ldt_after[65536];
    start(argc, argv);
    pattern_fill(tls_words, sizeof tls_words, 1);
    pattern_fill(ldt_words, sizeof ldt_words, 2);
    pattern_fill(ldt_fs_words, sizeof ldt_fs_words, 3);
    NEED(syscall(SYS_set_thread_area, &desc) == 0);
    tls_slot = (int)desc.entry_number;
    fs_selector = (uint32_t)tls_slot << 3 | 3;
    ldt(3, ldt_words, sizeof ldt_words);
    ldt(9, ldt_fs_words, sizeof ldt_fs_words);
    es_selector = 3 << 3 | 7;
    ldt_fs_selector = 9 << 3 | 7;
    asm("mov %%ds, %0" : "=r"(user_ds));
    int first = tls_slot == 13 || tls_slot == 14 ? 12 : 6;
    for (int i = 0; i < 3; i++)
        NEED(get_slot(first + i, &before[i]) == 0);
    NEED(syscall(SYS_modify_ldt, 0, ldt_before, sizeof ldt_before) >= 0);
    idle = spin;
    ready();
    do {
        int round = next_round();
        uint32_t now;
        if (broken()) {
            ldt(9, tls_words, sizeof tls_words);
            spin();
            spin();
        }
        EXPECT(seen.es == 0, "fs=%#x es=%#x fs:4=%#x es:8=%#x", seen.fs, seen.es, seen.fs_word,
               seen.es_word);
        for (int i = 0; i < 3; i++) {
            EXPECT(get_slot(first + i, &after) == 0, "slot %d: errno %d", first + i, errno);
            EXPECT(same_bytes(&after, &before[i], sizeof after),
                   "slot %d: base %#x limit %#x instead of base %#x limit %#x", first + i,
                   after.base_addr, after.limit, before[i].base_addr, before[i].limit);
        }
        memset(ldt_after, 0x55, sizeof ldt_after);
        long len = syscall(SYS_modify_ldt, 0, ldt_after, sizeof ldt_after);
        EXPECT(len == (long)sizeof ldt_after && same_bytes(ldt_before, ldt_after, sizeof ldt_after),
               "the LDT is another one (%ld)", len);
        asm("mov %%ds, %0" : "=r"(now));
        EXPECT(now == user_ds, "ds %#x instead of %#x", now, user_ds);
        asm("mov %%ss, %0" : "=r"(now));
        EXPECT(now == user_ds, "ss %#x instead of %#x", now, user_ds);
        memset(&seen, 0, sizeof seen);
        pattern_fill(tls_words, sizeof tls_words, (uint32_t)round + 10);
        pattern_fill(ldt_words, sizeof ldt_words, (uint32_t)round + 20);
    } while (report());
    return finish();
}
