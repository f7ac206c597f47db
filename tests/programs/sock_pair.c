/*
 * Connections within the process: a UNIX stream pair, also half-closed and with its peer closed, and a TCP
 * connection over loopback, both with bytes under way in both directions; names and options stay.
 */
#include "harness.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static void send_text(int fd, const char *text)
{
    NEED(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void expect_text(int fd, const char *what, const char *text)
{
    char got[256] = "";
    size_t len = strlen(text);
    ssize_t n = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
    EXPECT(n == (ssize_t)len && same_bytes(got, text, len), "%s: %zd bytes '%s' (errno %d)", what, n, got, errno);
}

int main(int argc, char **argv)
{
    static char big[100000], back[100000];
    int unix_pair[2], half[2], gone[2], one = 1, value;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, now;
    socklen_t len = sizeof address, value_len = sizeof value;
    start(argc, argv);
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, unix_pair) == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, gone) == 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    NEED(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 7) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    NEED(connect(client, (struct sockaddr *)&address, len) == 0);
    NEED(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    int server = accept(listener, NULL, NULL);
    NEED(server >= 0);
    pattern_fill(big, sizeof big, 1);
    send_text(half[0], "last words");
    NEED(shutdown(half[0], SHUT_WR) == 0);
    send_text(gone[1], "farewell");
    close(gone[1]);
    send_text(unix_pair[0], "to one");
    send_text(unix_pair[1], "to zero");
    send_text(client, "to server");
    send_text(server, "to client");
    NEED(send(unix_pair[0], big, sizeof big, 0) == sizeof big);
    ready();
    do {
        next_round();
        if (broken()) {
            char c;
            NEED(read(unix_pair[1], &c, 1) == 1);
        }
        char got[16] = "";
        ssize_t n = recv(unix_pair[1], got, 6, MSG_DONTWAIT);
        EXPECT(n == 6 && same_bytes(got, "to one", 6), "UNIX: %zd bytes '%s'", n, got);
        n = recv(unix_pair[1], back, sizeof back, MSG_DONTWAIT | MSG_WAITALL);
        EXPECT(n == sizeof back && pattern_check(back, sizeof back, 1) == -1, "UNIX: %zd bytes", n);
        EXPECT(recv(unix_pair[1], got, 1, 0) == -1 && errno == EAGAIN, "UNIX: more, or not O_NONBLOCK");
        expect_text(unix_pair[0], "UNIX back", "to zero");
        expect_text(client, "TCP client", "to client");
        expect_text(server, "TCP server", "to server");
        len = sizeof now;
        EXPECT(getsockname(server, (struct sockaddr *)&now, &len) == 0 && now.sin_port == address.sin_port, "port");
        EXPECT(getpeername(client, (struct sockaddr *)&now, &len) == 0 && now.sin_port == address.sin_port, "port");
        EXPECT(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, &value_len) == 0 && value, "TCP_NODELAY");
        /* The half-closed pair: what is left comes before the end, the other way is open. */
        char c;
        expect_text(half[1], "half-closed", "last words");
        EXPECT(recv(half[1], &c, 1, MSG_DONTWAIT) == 0, "half-closed: no end (errno %d)", errno);
        EXPECT(send(half[0], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 && errno == EPIPE, "half-closed: sends");
        EXPECT(send(half[1], "y", 1, MSG_DONTWAIT) == 1, "half-closed: errno %d", errno);
        EXPECT(recv(half[0], &c, 1, MSG_DONTWAIT) == 1 && c == 'y', "half-closed: other way");
        expect_text(gone[0], "peer closed", "farewell");
        EXPECT(recv(gone[0], &c, 1, MSG_DONTWAIT) == 0, "peer closed: no end (errno %d)", errno);
        EXPECT(send(gone[0], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 && errno == EPIPE, "peer closed: sends");
        /* The listening socket takes a new connection. */
        int another = socket(AF_INET, SOCK_STREAM, 0);
        EXPECT(connect(another, (struct sockaddr *)&address, sizeof address) == 0, "connect: errno %d", errno);
        int accepted = accept(listener, NULL, NULL);
        EXPECT(accepted >= 0, "accept: errno %d", errno);
        close(another);
        close(accepted);
        close(half[0]);
        close(half[1]);
        close(gone[0]);
        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, gone) == 0);
        send_text(half[0], "last words");
        NEED(shutdown(half[0], SHUT_WR) == 0);
        send_text(gone[1], "farewell");
        close(gone[1]);
        send_text(unix_pair[0], "to one");
        send_text(unix_pair[1], "to zero");
        send_text(client, "to server");
        send_text(server, "to client");
        NEED(send(unix_pair[0], big, sizeof big, 0) == sizeof big);
    } while (report());
    return finish();
}
