/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME go on where no time namespace keeps them: as libc reads them, with 32 and with 64 bits,
 * and as whoever asks the vdso itself. With the argument "spin" it reads them all the time; with "handler" a signal interrupts
 * that in the vdso, and its handler runs until the first round begins.
 */
// libs: -ldl
#include "harness.h"
#include <dlfcn.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <ucontext.h>

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE};
#define CLOCKS (int)(sizeof clocks / sizeof clocks[0])

struct time64 {
    int64_t sec, nsec;
};
typedef int clock_gettime32(clockid_t clock, struct timespec *time);
typedef int clock_gettime64(clockid_t clock, struct time64 *time);

static const struct {
    const char *name, *narrow, *wide;
} sources[] = {{"libc", "clock_gettime", "__clock_gettime64"},
               {"the vdso", "__vdso_clock_gettime", "__vdso_clock_gettime64"}};
#define SOURCES (int)(sizeof sources / sizeof sources[0])
static clock_gettime32 *narrow[SOURCES];
static clock_gettime64 *wide[SOURCES];

static int64_t seen[CLOCKS];
static char wrong[200];

static void find(void)
{
    void *vdso = dlopen("linux-gate.so.1", RTLD_LAZY | RTLD_NOLOAD);
    NEED(vdso != NULL);
    for (int i = 0; i < SOURCES; i++) {
        void *in = i == 0 ? RTLD_DEFAULT : vdso;
        narrow[i] = (clock_gettime32 *)dlsym(in, sources[i].narrow);
        wide[i] = (clock_gettime64 *)dlsym(in, sources[i].wide);
        NEED(narrow[i] != NULL && wide[i] != NULL);
    }
    dlclose(vdso);
}

static int64_t nanoseconds(int source, int width, clockid_t clock)
{
    if (width == 64) {
        struct time64 t = {-1, -1};
        NEED(wide[source](clock, &t) == 0 && t.nsec >= 0 && t.nsec < 1000000000);
        return t.sec * 1000000000 + t.nsec;
    }
    struct timespec t = {-1, -1};
    NEED(narrow[source](clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Far more than a restart takes, far less than what the clocks are moved by. */
#define MUCH (1000 * 1000000000ll)

static void look(void)
{
    for (int i = 0; i < CLOCKS; i++)
        for (int source = 0; source < SOURCES; source++)
            for (int width = 32; width <= 64; width += 32) {
                int64_t now = nanoseconds(source, width, clocks[i]), step = now - seen[i];
                if (seen[i] != 0 && (step < 0 || step > MUCH) && wrong[0] == 0)
                    snprintf(wrong, sizeof wrong, "clock %d of %s (%d bits) has gone %s by %.9f s", clocks[i],
                             sources[source].name, width, step < 0 ? "back" : "forward", llabs(step) / 1e9);
                seen[i] = now;
            }
}

static void idle_look(void)
{
    look();
    usleep(1000);
}

static void idle_spin(void)
{
    for (int i = 0; i < 500; i++)
        look();
}

static uintptr_t vdso, vdso_end;
static volatile sig_atomic_t interrupted;

static void set_timer(int microseconds)
{
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static void on_alarm(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    uintptr_t ip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_EIP], call = getauxval(AT_SYSINFO);
    if (ip < vdso || ip >= vdso_end || (ip >= call && ip < call + 32))
        return;
    set_timer(0);
    interrupted = 1;
    test_publish("interrupted", "", 0);
    while (access(test_path("go.1"), F_OK) != 0)
        usleep(1000);
}

static void interrupt(void)
{
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct vma vma;
    vdso = getauxval(AT_SYSINFO_EHDR);
    NEED(vma_at(vdso, &vma));
    vdso_end = vma.end;
    NEED(sigaction(SIGALRM, &action, NULL) == 0);
    set_timer(700);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    find();
    look();
    idle = argc > 2 ? idle_spin : idle_look;
    ready();
    if (argc > 2 && strcmp(argv[2], "handler") == 0)
        interrupt();
    do {
        if (next_round() == 1 && interrupted)
            /* What was being read then has come from the kernel. */
            wrong[0] = 0, memset(seen, 0, sizeof seen);
        look();
        find();
        look();
        if (broken())
            snprintf(wrong, sizeof wrong, "broken");
        EXPECT(wrong[0] == 0, "%s", wrong);
        wrong[0] = 0;
        struct timespec day;
        EXPECT(clock_gettime(CLOCK_REALTIME, &day) == 0 && llabs((long long)day.tv_sec - time(NULL)) <= 2,
               "CLOCK_REALTIME and time differ");
        EXPECT(wide[0](CLOCK_MONOTONIC + 1000, &(struct time64){0, 0}) == -1 && errno == EINVAL, "errno is %d", errno);
    } while (report());
    return finish();
}
