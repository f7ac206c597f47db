/* The vdso: __kernel_vsyscall, and the clocks that are read without entering the kernel. */
#include "harness.h"
#include <sys/auxv.h>
#include <sys/time.h>

/* A system call by way of gs:16, as glibc makes them. */
static long vsyscall2(long nr, long a, long b)
{
    long result;
    asm volatile("call *%%gs:16" : "=a"(result) : "0"(nr), "b"(a), "c"(b) : "memory", "cc");
    return result;
}

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec t;
    NEED(clock_gettime(clock, &t) == 0);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t nanoseconds_by_kernel(clockid_t clock)
{
    struct {
        int64_t sec, nsec;
    } t;
    NEED(syscall(SYS_clock_gettime64, clock, &t) == 0);
    return t.sec * 1000000000ll + t.nsec;
}

static void spin(void)
{
    for (int i = 0; i < 2000; i++)
        nanoseconds(CLOCK_MONOTONIC);
}

int main(int argc, char **argv)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE,
                                       CLOCK_REALTIME_COARSE, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
    start(argc, argv);
    idle = spin;
    unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
    int64_t last = nanoseconds(CLOCK_MONOTONIC);
    ready();
    do {
        next_round();
        struct vma vma;
        /* With a further argument the test moves it to another kernel, where only its code stays. */
        EXPECT(vma_at(vdso, &vma) && (argc > 2 || strcmp(vma.name, "[vdso]") == 0),
               "at AT_SYSINFO_EHDR is '%s'", vma.name);
        EXPECT(memcmp((void *)vdso, "\177ELF", 4) == 0, "no ELF file at AT_SYSINFO_EHDR");
        for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
            int64_t before = nanoseconds_by_kernel(clocks[i]), by_vdso = nanoseconds(clocks[i]),
                    after = nanoseconds_by_kernel(clocks[i]);
            if (broken())
                by_vdso -= 10000000;
            EXPECT(before <= by_vdso && by_vdso <= after, "clock %d: %lld is not between %lld and %lld",
                   clocks[i], (long long)by_vdso, (long long)before, (long long)after);
        }
        int64_t now = nanoseconds(CLOCK_MONOTONIC);
        EXPECT(now > last, "the monotonic clock has gone back");
        last = now;
        struct timeval tv;
        EXPECT(gettimeofday(&tv, NULL) == 0 && llabs(tv.tv_sec - (long long)time(NULL)) <= 2,
               "gettimeofday and time differ");
        EXPECT(vsyscall2(SYS_getppid, 0, 0) == getppid(), "__kernel_vsyscall does not work");
        EXPECT(syscall(SYS_brk, 0) == vsyscall2(SYS_brk, 0, 0), "__kernel_vsyscall does not work");
    } while (report());
    return finish();
}
