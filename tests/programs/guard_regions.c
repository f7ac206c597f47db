/*
 * Guard regions (MADV_GUARD_INSTALL, Linux 6.13): pages inside a mapping that nobody may touch, though /proc shows
 * nothing of them: in the middle of memory that is in use, at its ends, in shared memory, in the stack of a thread that
 * is to come, in a mapping of a file, in locked memory.
 */
#include "harness.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGE 4096
#define PAGES 16
#define INSTALL 102
#define REMOVE 103

static sigjmp_buf back;

static void on_fault(int sig)
{
    (void)sig;
    siglongjmp(back, 1);
}

static int faults(volatile char *p)
{
    if (sigsetjmp(back, 1))
        return 1;
    (void)*p;
    return 0;
}

static struct area {
    const char *what;
    char *start;
    unsigned guarded; /* a bit for each page */
} areas[] = {
    {"private", NULL, 0x0006},
    {"all of it", NULL, 0xffff},
    {"ends", NULL, 0x8001},
    {"shared", NULL, 0x00f0},
    {"file", NULL, 0x0300},
    {"locked", NULL, 0x0010},
};
#define AREAS (sizeof areas / sizeof *areas)

static void guard(struct area *area, int page, int advice)
{
    EXPECT(madvise(area->start + page * PAGE, PAGE, advice) == 0, "%s: page %d: errno %d", area->what, page, errno);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    struct sigaction action = {.sa_handler = on_fault};
    NEED(sigaction(SIGSEGV, &action, NULL) == 0);
    char *probe = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(probe != MAP_FAILED);
    if (madvise(probe, PAGE, INSTALL) != 0)
        skip("this kernel has no guard regions");
    int fd = open(test_path("data"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    NEED(fd >= 0 && ftruncate(fd, PAGES * PAGE) == 0);
    for (size_t i = 0; i < AREAS; i++) {
        int shared = strcmp(areas[i].what, "shared") == 0, file = strcmp(areas[i].what, "file") == 0;
        areas[i].start = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                              (shared ? MAP_SHARED : MAP_PRIVATE) | (file ? 0 : MAP_ANONYMOUS), file ? fd : -1, 0);
        NEED(areas[i].start != MAP_FAILED);
        for (int page = 0; page < PAGES; page++)
            areas[i].start[page * PAGE] = (char)(page + 1);
        for (int page = 0; page < PAGES; page++)
            if (areas[i].guarded >> page & 1)
                guard(&areas[i], page, INSTALL);
        if (strcmp(areas[i].what, "locked") == 0)
            mlock(areas[i].start, PAGES * PAGE); /* locks all the same and says that it could not */
    }
    close(fd);
    ready();
    do {
        int round = next_round();
        if (broken())
            madvise(areas[0].start, PAGES * PAGE, REMOVE);
        for (size_t i = 0; i < AREAS; i++)
            for (int page = 0; page < PAGES; page++) {
                char *at = areas[i].start + page * PAGE;
                int guarded = areas[i].guarded >> page & 1;
                EXPECT(faults(at) == guarded, "%s: page %d %s", areas[i].what, page,
                       guarded ? "can be read" : "cannot be read");
                EXPECT(guarded || (i == 0 && page == 1) || *at == page + 1, "%s: page %d holds %d", areas[i].what, page, *at);
            }
        /* Page 1 of the first area is a guard in every other round. */
        guard(&areas[0], 1, round % 2 ? REMOVE : INSTALL);
        areas[0].guarded ^= 2;
    } while (report());
    return finish();
}
