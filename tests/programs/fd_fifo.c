/*
 * FIFOs: one with both ends here and bytes in flight, one of which only the reading side is open, one whose writer has
 * gone, one whose name is gone, one open for reading and writing; without a name and open one way: a reader to whom bytes were left, and a writer
 * whom nobody reads.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>

/* A FIFO without a name of which one way is open, after the other one was. */
static int one_way(const char *name, int flags, const char *left)
{
    NEED(mkfifo(test_path(name), 0600) == 0);
    int both = open(test_path(name), O_RDWR), fd = open(test_path(name), flags);
    NEED(both >= 0 && fd >= 0 && write(both, left, strlen(left)) == (ssize_t)strlen(left));
    close(both);
    NEED(unlink(test_path(name)) == 0);
    return fd;
}

int main(int argc, char **argv)
{
    char got[100], name[PATH_MAX];
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    NEED(mkfifo(test_path("fifo"), 0600) == 0 && mkfifo(test_path("lonely"), 0600) == 0);
    NEED(mkfifo(test_path("deleted"), 0640) == 0 && mkfifo(test_path("both"), 0600) == 0);
    int in = open(test_path("fifo"), O_RDONLY | O_NONBLOCK), out = open(test_path("fifo"), O_WRONLY);
    NEED(in >= 0 && out >= 0 && write(out, "in flight", 9) == 9);
    int lonely = open(test_path("lonely"), O_RDONLY | O_NONBLOCK);
    int both = open(test_path("both"), O_RDWR);
    NEED(lonely >= 0 && both >= 0 && write(both, "self", 4) == 4);
    int gone_in = open(test_path("deleted"), O_RDONLY | O_NONBLOCK), gone_out = open(test_path("deleted"), O_WRONLY);
    NEED(gone_in >= 0 && gone_out >= 0 && write(gone_out, "nameless", 8) == 8);
    NEED(unlink(test_path("deleted")) == 0);
    NEED(mkfifo(test_path("left"), 0600) == 0);
    int left = open(test_path("left"), O_RDONLY | O_NONBLOCK), leaver = open(test_path("left"), O_WRONLY);
    NEED(left >= 0 && leaver >= 0);
    close(leaver);
    int heir = one_way("heir", O_RDONLY | O_NONBLOCK, "legacy"), unread = one_way("unread", O_WRONLY, "lost");
    ready();
    do {
        next_round();
        if (broken())
            NEED(read(in, got, 1) == 1 && read(gone_in, got, 1) == 1);
        EXPECT(read(in, got, sizeof got) == 9 && memcmp(got, "in flight", 9) == 0, "FIFO");
        EXPECT(read(in, got, 1) == -1 && errno == EAGAIN, "FIFO: more, or an end");
        EXPECT(write(out, "in flight", 9) == 9, "FIFO");
        EXPECT(read(both, got, sizeof got) == 4 && memcmp(got, "self", 4) == 0, "read and write");
        EXPECT(write(both, "self", 4) == 4, "read and write");
        EXPECT(read(gone_in, got, sizeof got) == 8 && memcmp(got, "nameless", 8) == 0, "deleted");
        EXPECT(read(gone_in, got, 1) == -1 && errno == EAGAIN, "deleted: more, or an end");
        EXPECT(write(gone_out, "nameless", 8) == 8, "deleted");
        EXPECT(read(heir, got, sizeof got) == 6 && memcmp(got, "legacy", 6) == 0, "left to a reader: errno %d", errno);
        EXPECT(read(heir, got, 1) == 0, "its writer has not gone: errno %d", errno);
        EXPECT(write(unread, "x", 1) == -1 && errno == EPIPE, "nobody reads: errno %d", errno);
        close(heir);
        NEED(one_way("heir", O_RDONLY | O_NONBLOCK, "legacy") == heir);
        struct stat stat;
        EXPECT(fstat(gone_in, &stat) == 0 && S_ISFIFO(stat.st_mode) && stat.st_nlink == 0, "links %d", (int)stat.st_nlink);
        EXPECT((stat.st_mode & 07777) == 0640, "mode %o", stat.st_mode);
        snprintf(name, sizeof name, "/proc/self/fd/%d", gone_in);
        ssize_t n = readlink(name, got, sizeof got);
        EXPECT(n > 0 && memmem(got, (size_t)n, "deleted", 7) != NULL, "name");
        /* somebody had opened the other side */
        struct pollfd poll_fd = {.fd = left, .events = POLLIN};
        EXPECT(poll(&poll_fd, 1, 0) == 1 && poll_fd.revents == POLLHUP, "left: revents %#x", poll_fd.revents);
        EXPECT(read(left, got, 1) == 0, "left: no end of file");
        /* nobody has opened the other side: no hang-up yet; then somebody comes */
        poll_fd.fd = lonely;
        EXPECT(poll(&poll_fd, 1, 0) == 0, "lonely: revents %#x", poll_fd.revents);
        EXPECT(read(lonely, got, 1) == 0, "lonely: no end of file");
        int other = open(test_path("lonely"), O_WRONLY | O_NONBLOCK);
        EXPECT(other >= 0 && write(other, "hello", 5) == 5, "lonely: cannot be written to");
        EXPECT(read(lonely, got, sizeof got) == 5, "lonely: nothing arrives");
        close(other);
        close(lonely);
        NEED(open(test_path("lonely"), O_RDONLY | O_NONBLOCK) == lonely);
        EXPECT(fcntl(in, F_GETFL) & O_NONBLOCK, "flags");
        EXPECT(!(fcntl(out, F_GETFL) & O_NONBLOCK), "flags");
    } while (report());
    return finish();
}
