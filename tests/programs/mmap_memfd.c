/*
 * Shared mappings of files that have no name any more: a memfd and a deleted file in /dev/shm, their descriptors
 * closed. Two windows onto the memfd overlap and show the same memory; one mapping is longer than its file.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096, LEN = 16 * PAGE };

static char *map(int fd, size_t len, size_t offset)
{
    char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    NEED(at != MAP_FAILED);
    return at;
}

int main(int argc, char **argv)
{
    char name[64];
    start(argc, argv);
    int fd = memfd_create("test", 0);
    NEED(fd >= 0 && ftruncate(fd, LEN) == 0);
    /* pages 0..9 and 6..15: neither holds the other */
    char *low = map(fd, 10 * PAGE, 0), *high = map(fd, 10 * PAGE, 6 * PAGE);
    close(fd);
    snprintf(name, sizeof name, "/selfckpt-test-%d", (int)getpid());
    fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    NEED(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
    char *posix = map(fd, 4096 * PAGE, 0);
    NEED(shm_unlink(name) == 0);
    close(fd);
    uint32_t seed = 3;
    pattern_fill(low, 8 * PAGE, seed);
    pattern_fill(high + 4 * PAGE, 2 * PAGE, seed + 1);
    pattern_fill(posix, 3 * PAGE, seed + 2);
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(mmap(high, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == high);
        EXPECT(pattern_check(low, 8 * PAGE, seed) < 0, "the lower window");
        EXPECT(same_bytes(low + 6 * PAGE, high, 4 * PAGE), "the windows show different pages");
        EXPECT(pattern_check(high + 4 * PAGE, 2 * PAGE, seed + 1) < 0, "the upper window");
        EXPECT(all_zero(high + 6 * PAGE, 4 * PAGE), "untouched pages");
        high[PAGE] ^= 1;
        EXPECT(low[7 * PAGE] == high[PAGE], "a write through one window does not show in the other");
        EXPECT(pattern_check(posix, 3 * PAGE, seed + 2) < 0, "the deleted file");
        EXPECT(all_zero(posix + 3 * PAGE, PAGE), "the last page of the deleted file");
        int pipefd[2];
        NEED(pipe(pipefd) == 0);
        EXPECT(write(pipefd[1], posix + 4 * PAGE, 1) == -1 && errno == EFAULT, "the file has grown");
        close(pipefd[0]);
        close(pipefd[1]);
        seed = (uint32_t)round + 9;
        pattern_fill(low, 8 * PAGE, seed);
        pattern_fill(high + 4 * PAGE, 2 * PAGE, seed + 1);
        pattern_fill(posix, 3 * PAGE, seed + 2);
    } while (report());
    return finish();
}
