/*
 * Pipes of which the process has both ends: bytes in flight, capacity, O_NONBLOCK, packets, a full pipe, one
 * whose writer is closed, one whose reader is closed, several descriptions and descriptors of one end.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>

static int waiting(int fd)
{
    int n = -1;
    ioctl(fd, FIONREAD, &n);
    return n;
}

static void set_nonblock(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int main(int argc, char **argv)
{
    static char block[70000], got[70000];
    int plain[2], packet[2], full[2], eof[2], broken_pipe[2], both;
    char path[64];
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    NEED(pipe(plain) == 0 && pipe2(packet, O_DIRECT | O_CLOEXEC) == 0 && pipe(full) == 0 && pipe(eof) == 0);
    NEED(pipe(broken_pipe) == 0);
    int empty[2], byte[2];
    NEED(pipe2(empty, O_NONBLOCK) == 0 && pipe(byte) == 0 && write(byte[1], "1", 1) == 1);
    NEED(write(plain[1], "one", 3) == 3);
    NEED(fcntl(plain[0], F_SETPIPE_SZ, 16384) == 16384);
    set_nonblock(plain[0], 1);
    NEED(write(packet[1], "first", 5) == 5 && write(packet[1], "second packet", 13) == 13);
    NEED(write(eof[1], "last words", 10) == 10);
    close(eof[1]);
    close(broken_pipe[0]);
    /* another description of the reading end, blocking, and a descriptor that does both */
    snprintf(path, sizeof path, "/proc/self/fd/%d", plain[0]);
    int other = open(path, O_RDONLY);
    NEED(other >= 0);
    both = open(path, O_RDWR | O_NONBLOCK);
    int shared = dup(plain[1]);
    NEED(both >= 0 && shared >= 0);
    set_nonblock(full[1], 1);
    int filled = 0, n;
    pattern_fill(block, sizeof block, 7);
    while ((n = write(full[1], block + filled, 4096)) > 0)
        filled += n;
    set_nonblock(full[1], 0);
    int eof_read = 0;
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(write(plain[1], "x", 1) == 1);
        EXPECT(fcntl(plain[0], F_GETFL) == (O_RDONLY | O_NONBLOCK), "flags %#x", fcntl(plain[0], F_GETFL));
        EXPECT(fcntl(other, F_GETFL) == (O_RDONLY | O_LARGEFILE) || fcntl(other, F_GETFL) == O_RDONLY, "flags %#x",
               fcntl(other, F_GETFL));
        EXPECT((fcntl(both, F_GETFL) & ~O_LARGEFILE) == (O_RDWR | O_NONBLOCK), "flags %#x", fcntl(both, F_GETFL));
        EXPECT(fcntl(plain[1], F_GETFL) == O_WRONLY, "flags %#x", fcntl(plain[1], F_GETFL));
        EXPECT(fcntl(packet[1], F_GETFL) == (O_WRONLY | O_DIRECT), "flags %#x", fcntl(packet[1], F_GETFL));
        EXPECT(fcntl(packet[1], F_GETFD) == FD_CLOEXEC, "close-on-exec is gone");
        EXPECT(fcntl(plain[0], F_GETFD) == 0, "close-on-exec has come");
        EXPECT(fcntl(plain[0], F_GETPIPE_SZ) == 16384, "capacity %d", fcntl(plain[0], F_GETPIPE_SZ));
        EXPECT(fcntl(full[0], F_GETPIPE_SZ) == 65536, "capacity %d", fcntl(full[0], F_GETPIPE_SZ));
        /* dup: one description */
        set_nonblock(shared, 1);
        EXPECT(fcntl(plain[1], F_GETFL) & O_NONBLOCK, "dup is no longer the same description");
        set_nonblock(plain[1], 0);

        /* no packet: what follows is read with it */
        NEED(write(byte[1], "23", 2) == 2);
        EXPECT((n = read(byte[0], got, 9)) == 3 && memcmp(got, "123", 3) == 0, "%d bytes of 3 are read", n);
        NEED(write(byte[1], "1", 1) == 1);

        EXPECT(waiting(plain[0]) == 3, "%d bytes wait", waiting(plain[0]));
        EXPECT(read(both, got, 2) == 2 && memcmp(got, "on", 2) == 0, "both");
        EXPECT(read(other, got, 9) == 1 && got[0] == 'e', "other");
        EXPECT(read(plain[0], got, 9) == -1 && errno == EAGAIN, "the pipe holds more");
        NEED(write(shared, "one", 3) == 3);

        EXPECT(read(packet[0], got, 100) == 5 && memcmp(got, "first", 5) == 0, "first packet");
        EXPECT(read(packet[0], got, 100) == 13 && memcmp(got, "second packet", 13) == 0, "second packet");
        EXPECT(waiting(packet[0]) == 0, "more packets");
        NEED(write(packet[1], "first", 5) == 5 && write(packet[1], "second packet", 13) == 13);

        EXPECT(waiting(full[0]) == filled, "%d bytes of %d", waiting(full[0]), filled);
        struct pollfd poll_full = {.fd = full[1], .events = POLLOUT};
        EXPECT(poll(&poll_full, 1, 0) == 0, "the full pipe takes more");
        int at = 0;
        while (at < filled && (n = read(full[0], got + at, filled - at)) > 0)
            at += n;
        EXPECT(memcmp(block, got, (size_t)filled) == 0, "bytes of the full pipe");
        /* the same again for the next round */
        set_nonblock(full[1], 1);
        pattern_fill(block, sizeof block, (uint32_t)round);
        filled = 0;
        while ((n = write(full[1], block + filled, 4096)) > 0)
            filled += n;
        set_nonblock(full[1], 0);

        if (!eof_read) {
            EXPECT(read(eof[0], got, 100) == 10 && memcmp(got, "last words", 10) == 0, "before the end of file");
            eof_read = 1;
        }
        struct pollfd poll_eof = {.fd = eof[0], .events = POLLIN};
        EXPECT(poll(&poll_eof, 1, 0) == 1 && poll_eof.revents == POLLHUP, "revents %#x", poll_eof.revents);
        EXPECT(read(eof[0], got, 100) == 0, "no end of file");
        EXPECT(write(broken_pipe[1], "x", 1) == -1 && errno == EPIPE, "no EPIPE");
        EXPECT(waiting(empty[0]) == 0 && fcntl(empty[1], F_GETFL) == (O_WRONLY | O_NONBLOCK), "empty pipe");
        EXPECT(write(empty[1], "a", 1) == 1 && read(empty[0], got, 9) == 1 && got[0] == 'a', "empty pipe");
        errno = 0;
    } while (report());
    return finish();
}
