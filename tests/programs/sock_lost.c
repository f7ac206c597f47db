/*
 * TCP connections to the test: argv[2] is its port. It has sent "hello" on the first, "bye" and the end on the second, and
 * reset the third. In a restarted program the first reads what had come and is then reset by its peer; the others are as
 * they were.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

static int fds[3];

static void expect_text(int fd, const char *text)
{
    char got[16] = "";
    size_t len = strlen(text);
    ssize_t n = recv(fd, got, len, MSG_DONTWAIT);
    EXPECT(n == (ssize_t)len && same_bytes(got, text, len), "fd %d: %zd bytes '%s', errno %d", fd, n, got, errno);
}

static void wait_for(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    NEED(poll(&poll_fd, 1, 60000) == 1);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, now;
    char c;
    start(argc, argv);
    if (argc < 3)
        skip("needs a peer");
    signal(SIGPIPE, SIG_IGN);
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        NEED(connect(fds[i], (struct sockaddr *)&address, sizeof address) == 0);
    }
    wait_for(fds[0], POLLIN);
    wait_for(fds[1], POLLRDHUP);
    wait_for(fds[2], POLLHUP);
    ready();
    next_round();
    int gone = restarted();
    report();
    next_round();
    gone |= restarted();
    if (!gone) {
        socklen_t len = sizeof now;
        EXPECT(getpeername(fds[0], (struct sockaddr *)&now, &len) == 0 && now.sin_port == address.sin_port, "peer");
        EXPECT(send(fds[0], "x", 1, 0) == 1, "send: errno %d", errno);
    } else {
        struct pollfd poll_fd = {.fd = fds[0], .events = POLLIN};
        EXPECT(poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLHUP), "events %x", poll_fd.revents);
        expect_text(fds[0], "hello");
        EXPECT(recv(fds[0], &c, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET, "errno %d", errno);
        EXPECT(send(fds[0], "x", 1, 0) == -1 && errno == EPIPE, "send: errno %d", errno);
    }
    expect_text(fds[1], "bye");
    EXPECT(recv(fds[1], &c, 1, MSG_DONTWAIT) == 0, "no end: errno %d", errno);
    int error = 0;
    socklen_t len = sizeof error;
    EXPECT(getsockopt(fds[2], SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == ECONNRESET, "SO_ERROR %d", error);
    report();
    return finish();
}
