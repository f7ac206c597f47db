/*
 * More connections within the process: TCP that is half-closed with bytes that wait, one that nobody has accepted yet, one
 * whose other end is closed; UDP sockets that are connected with each other; who the peer of a UNIX socket is.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener;

static void send_text(int fd, const char *text)
{
    NEED(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void wait_for(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    NEED(poll(&poll_fd, 1, 60000) == 1);
}

static void expect_text(int fd, const char *what, const char *text)
{
    char got[64] = "";
    size_t len = strlen(text);
    ssize_t n = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    EXPECT(n == (ssize_t)len && same_bytes(got, text, len), "%s: %zd bytes '%s' (errno %d)", what, n, got, errno);
}

static int connected(int *accepted)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    if (accepted)
        NEED((*accepted = accept(listener, NULL, NULL)) >= 0);
    return fd;
}

static int half[2], gone[2], waiting;

static void set_up(void)
{
    half[0] = connected(&half[1]);
    send_text(half[0], "last words");
    NEED(shutdown(half[0], SHUT_WR) == 0);
    wait_for(half[1], POLLRDHUP);
    gone[0] = connected(&gone[1]);
    send_text(gone[1], "farewell");
    close(gone[1]);
    wait_for(gone[0], POLLRDHUP);
    waiting = connected(NULL);
}

int main(int argc, char **argv)
{
    socklen_t len = sizeof address;
    struct sockaddr_in udp_name[2], now;
    int udp[2], unix_pair[2], one = 1;
    char c;
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    NEED(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 7) == 0);
    for (int i = 0; i < 2; i++) {
        udp[i] = socket(AF_INET, SOCK_DGRAM, 0);
        udp_name[i] = address;
        len = sizeof address;
        NEED(bind(udp[i], (struct sockaddr *)&address, len) == 0);
        NEED(getsockname(udp[i], (struct sockaddr *)&udp_name[i], &len) == 0);
    }
    for (int i = 0; i < 2; i++)
        NEED(connect(udp[i], (struct sockaddr *)&udp_name[!i], sizeof address) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair) == 0);
    set_up();
    send_text(udp[0], "to one");
    send_text(udp[0], "again");
    send_text(udp[1], "to zero");
    ready();
    do {
        next_round();
        if (broken())
            NEED(shutdown(half[1], SHUT_WR) == 0);
        /* What is left comes before the end, the other way is open. */
        expect_text(half[1], "half-closed", "last words");
        EXPECT(recv(half[1], &c, 1, MSG_DONTWAIT) == 0, "half-closed: no end (errno %d)", errno);
        EXPECT(send(half[0], "x", 1, 0) == -1 && errno == EPIPE, "half-closed: sends");
        EXPECT(send(half[1], "y", 1, MSG_DONTWAIT) == 1, "half-closed: errno %d", errno);
        EXPECT(recv(half[0], &c, 1, 0) == 1 && c == 'y', "half-closed: other way");
        struct pollfd poll_fd = {.fd = gone[0], .events = POLLIN | POLLRDHUP};
        EXPECT(poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLRDHUP), "peer closed: events %x", poll_fd.revents);
        expect_text(gone[0], "peer closed", "farewell");
        EXPECT(recv(gone[0], &c, 1, MSG_DONTWAIT) == 0, "peer closed: no end (errno %d)", errno);
        len = sizeof now;
        int accepted = accept(listener, (struct sockaddr *)&now, &len);
        EXPECT(accepted >= 0, "the waiting connection: errno %d", errno);
        if (accepted >= 0) {
            struct sockaddr_in own;
            len = sizeof own;
            EXPECT(getsockname(waiting, (struct sockaddr *)&own, &len) == 0 && own.sin_port == now.sin_port, "its port");
            send_text(waiting, "accepted");
            wait_for(accepted, POLLIN);
            expect_text(accepted, "the waiting connection", "accepted");
            close(accepted);
        }
        EXPECT(accept(listener, NULL, NULL) == -1 && errno == EAGAIN, "another connection");
        expect_text(udp[1], "UDP", "to one");
        expect_text(udp[1], "UDP", "again");
        expect_text(udp[0], "UDP back", "to zero");
        for (int i = 0; i < 2; i++) {
            len = sizeof now;
            EXPECT(getpeername(udp[i], (struct sockaddr *)&now, &len) == 0 && now.sin_port == udp_name[!i].sin_port, "UDP peer");
            /* The kernel's number, which libc does not tell after a restart with new ids. */
            int pid;
            __asm__ volatile("int $0x80" : "=a"(pid) : "a"(SYS_getpid));
            struct ucred peer = {0};
            len = sizeof peer;
            EXPECT(getsockopt(unix_pair[i], SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0, "SO_PEERCRED");
            EXPECT(peer.pid == pid && peer.uid == geteuid() && peer.gid == getegid(), "peer: pid %d (not %d) uid %d gid %d",
                   (int)peer.pid, pid, (int)peer.uid, (int)peer.gid);
        }
        close(half[0]);
        close(half[1]);
        close(gone[0]);
        close(waiting);
        set_up();
        send_text(udp[0], "to one");
        send_text(udp[0], "again");
        send_text(udp[1], "to zero");
    } while (report());
    return finish();
}
