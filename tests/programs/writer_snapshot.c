/*
 * Memory that changes all the time while the image is written: a sweep over 48 MB that never stops. Whenever the image
 * was taken, the sweep had come to one place: before it all words are newer by one than behind it. Also: the program
 * has no child that it could wait for, and no descriptor and no mapping of a memfd is held by anybody else.
 */
#include "harness.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define WORDS (12u << 20)

static volatile uint32_t *words, *shared;
static volatile uint32_t turn = 1, at;
static unsigned children, late, busy;
static int memfd = -1;
static void *mapped;
static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

/* A piece of the sweep: 64 KB. */
static void sweep(void)
{
    for (unsigned i = 0; i < 1u << 14; i++) {
        words[at] = turn;
        if (at % 1024 == 0)
            shared[at / 1024] = turn;
        if (++at == WORDS) {
            at = 0;
            turn++;
        }
    }
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        children++;
    /* the end of a pipe is the end, at once */
    int fds[2];
    char c;
    NEED(pipe2(fds, O_NONBLOCK) == 0);
    close(fds[1]);
    if (read(fds[0], &c, 1) != 0)
        late++;
    close(fds[0]);
    /* a memfd that nobody has mapped to write can be sealed, at once */
    if (memfd >= 0) {
        NEED(munmap(mapped, 4096) == 0);
        if (fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE) != 0)
            busy++;
        close(memfd);
    }
    memfd = memfd_create("sealed", MFD_ALLOW_SEALING);
    NEED(memfd >= 0 && ftruncate(memfd, 4096) == 0);
    mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    NEED(mapped != MAP_FAILED);
}

static void check(volatile uint32_t *memory, unsigned count, unsigned scale)
{
    unsigned wrong = 0, first = 0;
    for (unsigned i = 0; i < count; i++) {
        uint32_t want = i * scale < at ? turn : turn - 1;
        if (memory[i] != want && wrong++ == 0)
            first = i;
    }
    EXPECT(wrong == 0, "%u of %u words are not of the same moment, the first at %u: %u in turn %u", wrong, count, first,
           memory[first], turn);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    idle = sweep;
    struct sigaction action = {.sa_handler = on_signal};
    NEED(sigaction(SIGCHLD, &action, NULL) == 0);
    words = mmap(NULL, WORDS * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, WORDS / 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(words != MAP_FAILED && shared != MAP_FAILED);
    while (turn < 2)
        sweep();
    ready();
    do {
        next_round();
        if (broken())
            words[WORDS / 2] = words[0] - 2;
        check(words, WORDS, 1);
        check(shared, WORDS / 1024, 1024);
        EXPECT(children == 0, "a child could be waited for %u times", children);
        EXPECT(late == 0, "a pipe did not end with its writing end %u times", late);
        EXPECT(busy == 0, "a memfd was still mapped by somebody %u times", busy);
        EXPECT(signals == 0, "SIGCHLD %d times", (int)signals);
    } while (report());
    return finish();
}
