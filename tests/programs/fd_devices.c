/* /dev/null, zero, full, random, urandom: the same devices under the same numbers, working. */
#include "harness.h"

static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};

int main(int argc, char **argv)
{
    static const int modes[] = {O_WRONLY | O_APPEND, O_RDWR, O_WRONLY, O_RDONLY | O_NONBLOCK,
                                O_RDONLY | O_CLOEXEC};
    int fds[5], flags[5], shared;
    struct stat before[5], now;
    char zeros[64], bytes[2][32];
    start(argc, argv);
    for (int i = 0; i < 5; i++) {
        fds[i] = open(names[i], modes[i]);
        NEED(fds[i] >= 0 && fstat(fds[i], &before[i]) == 0);
        flags[i] = fcntl(fds[i], F_GETFL);
    }
    shared = fcntl(fds[1], F_DUPFD, 77);
    NEED(shared == 77);
    ready();
    do {
        next_round();
        if (broken()) {
            NEED(dup2(fds[0], fds[2]) == fds[2]);
            close(fds[4]);
        }
        for (int i = 0; i < 5; i++) {
            EXPECT(fstat(fds[i], &now) == 0 && now.st_rdev == before[i].st_rdev, "%s: another device",
                   names[i]);
            EXPECT(fcntl(fds[i], F_GETFL) == flags[i], "%s: flags %#o instead of %#o", names[i],
                   fcntl(fds[i], F_GETFL), flags[i]);
        }
        EXPECT((fcntl(fds[4], F_GETFD) & FD_CLOEXEC) && !(fcntl(fds[0], F_GETFD) & FD_CLOEXEC),
               "close-on-exec");
        EXPECT(write(fds[0], "x", 1) == 1, "/dev/null: errno %d", errno);
        memset(zeros, 1, sizeof zeros);
        EXPECT(read(fds[1], zeros, sizeof zeros) == sizeof zeros && all_zero(zeros, sizeof zeros),
               "/dev/zero gives no zeros");
        EXPECT(read(shared, zeros, 4) == 4, "the duplicate of /dev/zero");
        EXPECT(write(fds[2], "x", 1) < 0 && errno == ENOSPC, "/dev/full is not full");
        EXPECT(read(fds[3], bytes[0], 32) == 32 && read(fds[4], bytes[1], 32) == 32 &&
                   !same_bytes(bytes[0], bytes[1], 32),
               "random numbers");
    } while (report());
    return finish();
}
