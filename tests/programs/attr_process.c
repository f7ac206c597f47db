/*
 * Attributes of the process: resource limits, flags of prctl() and personality(), how it is to be killed and dumped,
 * and what it has registered for with membarrier(). With argv[2] "undumpable" it cannot be dumped.
 */
#include "harness.h"
#include <linux/membarrier.h>
#include <linux/securebits.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_THP_DISABLE_EXCEPT_ADVISED
#define PR_THP_DISABLE_EXCEPT_ADVISED 2 /* Linux 6.18 */
#endif
#define GET_REGISTRATIONS (1 << 9) /* of membarrier(), Linux 6.3 */
/* Flags that change nothing. */
#define HARMLESS (SHORT_INODE | WHOLE_SECONDS)

static struct rlimit64 limits[RLIM_NLIMITS];
/* What the program takes for itself: no limit is as the program finds it. */
static const struct {
    int which;
    rlim64_t soft;
} chosen[] = {
    {RLIMIT_CPU, 40000},       {RLIMIT_FSIZE, 1ull << 40},  {RLIMIT_DATA, 0xd0000000ull}, {RLIMIT_STACK, 4 << 20},
    {RLIMIT_CORE, 12345},      {RLIMIT_RSS, 0xe1000000ull}, {RLIMIT_NPROC, 4321},         {RLIMIT_NOFILE, 300},
    {RLIMIT_MEMLOCK, 7 << 20}, {RLIMIT_AS, 0xe0000000ull},  {RLIMIT_SIGPENDING, 4444},    {RLIMIT_MSGQUEUE, 555555},
    {RLIMIT_RTTIME, 6000000},
};
static char filter[64], oom[64];
static int merge, registered, securebits, registrations, thp, dumpable;

static void set_limit(int which, rlim64_t soft)
{
    struct rlimit64 now;
    NEED(getrlimit64(which, &now) == 0);
    now.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max;
    NEED(setrlimit64(which, &now) == 0);
}

static void set_both(int which, rlim64_t soft, rlim64_t hard)
{
    struct rlimit64 both = {soft, hard};
    NEED(setrlimit64(which, &both) == 0 || errno == EPERM);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static int subreaper(void)
{
    int value = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    return value;
}

int main(int argc, char **argv)
{
    char now[64];
    start(argc, argv);
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0]; i++)
        set_limit(chosen[i].which, chosen[i].soft);
    set_both(RLIMIT_LOCKS, 100, 200);
    /* Only root may: as a rule these are 0. */
    set_both(RLIMIT_NICE, 15, 25);
    set_both(RLIMIT_RTPRIO, 16, 26);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        NEED(getrlimit64(i, &limits[i]) == 0);
    NEED(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    NEED(prctl(PR_SET_KEEPCAPS, 1) == 0);
    if (prctl(PR_SET_THP_DISABLE, 1, PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0) != 0)
        NEED(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    merge = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
    put("/proc/self/coredump_filter", "0x11");
    put("/proc/self/oom_score_adj", "345");
    slurp("/proc/self/coredump_filter", filter, sizeof filter);
    slurp("/proc/self/oom_score_adj", oom, sizeof oom);
    /* Only root may. */
    prctl(PR_SET_SECUREBITS, prctl(PR_GET_SECUREBITS) | SECBIT_NO_SETUID_FIXUP);
    securebits = prctl(PR_GET_SECUREBITS);
    NEED(personality((unsigned long)personality(0xffffffff) | HARMLESS) != -1);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 0, 0);
    registered = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    registrations = (int)syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0);
    dumpable = argc < 3 || strcmp(argv[2], "undumpable") != 0;
    NEED(prctl(PR_SET_DUMPABLE, dumpable) == 0);
    ready();
    do {
        next_round();
        if (broken()) {
            set_limit(RLIMIT_NOFILE, 200);
            prctl(PR_SET_KEEPCAPS, 0);
        }
        EXPECT(prctl(PR_GET_DUMPABLE) == dumpable, "it can%s be dumped", dumpable ? "not" : "");
        /* Else another user than root may not write to its own /proc. */
        NEED(prctl(PR_SET_DUMPABLE, 1) == 0);
        for (int i = 0; i < RLIM_NLIMITS; i++) {
            struct rlimit64 limit;
            getrlimit64(i, &limit);
            EXPECT(limit.rlim_cur == limits[i].rlim_cur && limit.rlim_max == limits[i].rlim_max,
                   "limit %d is %llu %llu instead of %llu %llu", i, (unsigned long long)limit.rlim_cur,
                   (unsigned long long)limit.rlim_max, (unsigned long long)limits[i].rlim_cur,
                   (unsigned long long)limits[i].rlim_max);
        }
        EXPECT(subreaper() == 1, "no subreaper: %d", subreaper());
        EXPECT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "privileges can be gained");
        EXPECT(prctl(PR_GET_KEEPCAPS) == 1, "keepcaps is off");
        EXPECT(prctl(PR_GET_SECUREBITS) == securebits, "securebits %#x instead of %#x", prctl(PR_GET_SECUREBITS),
               (unsigned)securebits);
        EXPECT((personality(0xffffffff) & HARMLESS) == HARMLESS, "personality %#x", personality(0xffffffff));
        EXPECT(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == thp, "huge pages: %d", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
        EXPECT(!merge || prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1, "memory is not merged");
        slurp("/proc/self/coredump_filter", now, sizeof now);
        EXPECT(strcmp(now, filter) == 0, "coredump_filter is %s instead of %s", now, filter);
        slurp("/proc/self/oom_score_adj", now, sizeof now);
        EXPECT(strcmp(now, oom) == 0, "oom_score_adj is %s instead of %s", now, oom);
        EXPECT((int)syscall(SYS_membarrier, GET_REGISTRATIONS, 0, 0) == registrations, "registrations for membarrier");
        if (registered)
            EXPECT(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0, "membarrier: errno %d", errno);
        set_limit(RLIMIT_NOFILE, limits[RLIMIT_NOFILE].rlim_cur == 300 ? 400 : 300);
        getrlimit64(RLIMIT_NOFILE, &limits[RLIMIT_NOFILE]);
        NEED(prctl(PR_SET_DUMPABLE, dumpable) == 0);
    } while (report());
    return finish();
}
