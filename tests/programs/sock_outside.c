/*
 * UNIX sockets whose other ends are in the test: a connection to its socket argv[2], by name, on which "hello" has come; a
 * datagram socket with its socket argv[3] as destination. In a restarted program the connection has been reset by its peer
 * after what had come, and the destination is found again.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

static int connect_to(int kind, const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    NEED(strlen(path) < sizeof name.sun_path);
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, kind, 0);
    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

int main(int argc, char **argv)
{
    char got[16] = "", c;
    start(argc, argv);
    if (argc < 4)
        skip("needs a peer");
    signal(SIGPIPE, SIG_IGN);
    int stream = connect_to(SOCK_STREAM, argv[2]), datagram = connect_to(SOCK_DGRAM, argv[3]);
    struct pollfd poll_fd = {.fd = stream, .events = POLLIN};
    NEED(poll(&poll_fd, 1, 60000) == 1);
    ready();
    int gone = 0;
    do {
        int round = next_round();
        gone |= restarted();
        EXPECT(send(datagram, "datagram", 8, MSG_DONTWAIT) == 8, "datagram: errno %d", errno);
        if (round == 1) {
            ssize_t n = recv(stream, got, 5, MSG_DONTWAIT);
            EXPECT(n == 5 && same_bytes(got, "hello", 5), "%zd bytes '%s', errno %d", n, got, errno);
            if (gone) {
                EXPECT(poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLHUP), "events %x", poll_fd.revents);
                EXPECT(recv(stream, &c, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET, "errno %d", errno);
            }
        }
        if (gone)
            EXPECT(send(stream, "x", 1, 0) == -1 && errno == EPIPE, "errno %d", errno);
        else
            EXPECT(send(stream, "x", 1, 0) == 1, "errno %d", errno);
    } while (report());
    return finish();
}
