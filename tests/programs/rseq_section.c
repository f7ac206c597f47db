/*
 * Restartable sequences, in the middle of one: threads that are always in a critical section count per CPU, without
 * a lock. What interrupts a section sends it to its abort handler, so no count is lost and none is counted twice. The
 * area is the one that glibc registers, or with an argument "own" one of the program's (GLIBC_TUNABLES=
 * glibc.pthread.rseq=0 leaves room for it).
 */
#include "harness.h"
#include <pthread.h>
#include <sched.h>

enum { THREADS = 4, SIGNATURE = 0x53053053, CPU_ID = 1, LINE = 64 };

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

/* struct rseq_cs: version and flags, then three 64-bit values: start, length, abort handler. */
extern const uint32_t section[8] __attribute__((visibility("hidden")));

/* The count of the CPU that it runs on, and one more after `turns` turns: 0, or 1 if it was sent to the abort handler. */
int count_once(volatile uint32_t *area, char *counts, const void *descriptor, unsigned turns)
    __attribute__((visibility("hidden")));

asm(".pushsection .data\n"
    ".balign 32\n"
    "section: .long 0, 0, 1f, 0, 2f - 1f, 0, 4f, 0\n"
    ".popsection\n"
    ".pushsection .text\n"
    ".type count_once, @function\n"
    "count_once:\n"
    "    push %ebx\n"
    "    mov 8(%esp), %eax\n"
    "    mov 16(%esp), %ecx\n"
    "    mov 20(%esp), %edx\n"
    "    mov %ecx, 8(%eax)\n" /* rseq_cs */
    "1:  mov 4(%eax), %ebx\n" /* cpu_id */
    "    shl $6, %ebx\n"      /* LINE bytes for each CPU */
    "    add 12(%esp), %ebx\n"
    "    mov (%ebx), %ecx\n"
    "3:  dec %edx\n"
    "    jnz 3b\n"
    "    inc %ecx\n"
    "    mov %ecx, (%ebx)\n"
    "2:  xor %eax, %eax\n"
    "    pop %ebx\n"
    "    ret\n"
    "    .long 0x53053053\n"
    "4:  mov $1, %eax\n"
    "    pop %ebx\n"
    "    ret\n"
    ".size count_once, . - count_once\n"
    ".popsection\n");

static char counts[CPU_SETSIZE * LINE] __attribute__((aligned(LINE)));
static volatile unsigned done[THREADS + 1]; /* the last is the main thread's */
static volatile int stop;
static int own;
static __thread volatile uint32_t own_area[8] __attribute__((aligned(32)));
static volatile uint32_t *area_of_main;

static volatile uint32_t *find_area(void)
{
    uint32_t self;
    asm("mov %%gs:0, %0" : "=r"(self));
    if (!own)
        return (volatile uint32_t *)(self + __rseq_offset);
    own_area[CPU_ID] = ~0u;
    NEED(syscall(SYS_rseq, own_area, sizeof own_area, 0, SIGNATURE) == 0);
    return own_area;
}

static void count(volatile uint32_t *area, volatile unsigned *mine)
{
    if (count_once(area, counts, section, 100000) == 0)
        ++*mine;
}

static void *work(void *mine)
{
    volatile uint32_t *area = find_area();
    while (!stop)
        count(area, mine);
    return NULL;
}

static void count_while_idle(void)
{
    count(area_of_main, &done[THREADS]);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    start(argc, argv);
    own = argc > 2 && strcmp(argv[2], "own") == 0;
    if (!own && (&__rseq_size == NULL || __rseq_size == 0))
        skip("no rseq in this libc or kernel");
    area_of_main = find_area();
    idle = count_while_idle;
    for (int round = 0;; round++) {
        stop = 0;
        for (int i = 0; i < THREADS; i++)
            NEED(pthread_create(&threads[i], NULL, work, (void *)&done[i]) == 0);
        if (round == 0)
            ready();
        else if (!report())
            break;
        next_round();
        /* Long enough for the threads to be moved and preempted in the sections that they are in. */
        unsigned before[THREADS];
        for (int i = 0; i < THREADS; i++)
            before[i] = done[i];
        for (int i = 0; i < THREADS; i++)
            while (done[i] - before[i] < 200)
                idle();
        stop = 1;
        for (int i = 0; i < THREADS; i++)
            EXPECT(pthread_join(threads[i], NULL) == 0, "join");
        if (broken())
            ++*(uint32_t *)counts;
        uint32_t counted = 0, expected = 0;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            counted += *(uint32_t *)(counts + LINE * cpu);
        for (int i = 0; i <= THREADS; i++)
            expected += done[i];
        EXPECT(counted == expected, "%u were counted, %u were told so", counted, expected);
    }
    return finish();
}
