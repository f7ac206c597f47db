/*
 * Restartable sequences: glibc's area is registered with the kernel, which keeps the CPU number in
 * it; sched_getcpu() reads it from there.
 */
#include "harness.h"
#include <sched.h>

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

static volatile uint32_t *area; /* cpu_id_start, cpu_id, rseq_cs (64 bits), flags */

static int pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
    cpu_set_t all;
    start(argc, argv);
    if (&__rseq_size == NULL || __rseq_size == 0)
        skip("no rseq in this libc or kernel");
    uint32_t self;
    asm("mov %%gs:0, %0" : "=r"(self));
    area = (volatile uint32_t *)(self + __rseq_offset);
    NEED((int)area[1] >= 0);
    NEED(sched_getaffinity(0, sizeof all, &all) == 0);
    if (CPU_COUNT(&all) < 2)
        skip("needs two CPUs");
    ready();
    do {
        next_round();
        if (broken())
            NEED(syscall(386 /* rseq */, area, 32, 1, 0x53053053) == 0);
        for (int cpu = 0, n = 0; cpu < CPU_SETSIZE && n < 4; cpu++) {
            unsigned real = ~0u;
            if (!CPU_ISSET(cpu, &all))
                continue;
            n++;
            NEED(pin(cpu) == 0);
            syscall(SYS_getcpu, &real, NULL, NULL);
            EXPECT((int)real == cpu && (int)area[0] == cpu && (int)area[1] == cpu,
                   "on CPU %d the area says %d and %d", cpu, (int)area[0], (int)area[1]);
            EXPECT(sched_getcpu() == cpu, "sched_getcpu() gives %d on CPU %d", sched_getcpu(), cpu);
        }
        EXPECT(area[2] == 0 && area[3] == 0, "rseq_cs is %#x", area[2]);
        /* A second registration is refused; that is how one sees that there is a first one. */
        errno = 0;
        EXPECT(syscall(386, area, 32, 0, 0x53053053) < 0 && errno == EBUSY, "rseq: errno %d", errno);
        NEED(sched_setaffinity(0, sizeof all, &all) == 0);
    } while (report());
    return finish();
}
