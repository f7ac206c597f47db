/*
 * Connections within the process that were shut down one way or both, with data left in both directions: UNIX sockets of
 * every type and TCP. Whatever a program can see of them is what it sees of others that were treated alike just now.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

enum { STREAM, PACKET, DATAGRAM, TCP, KINDS };
enum { WAYS = 3 };
static const char *const kinds[] = {"stream", "packet", "datagram", "TCP"};
static const int ways[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};

static void tcp_pair(int fds[2])
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    NEED(bind(listener, (struct sockaddr *)&name, len) == 0 && listen(listener, 1) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    NEED(connect(fds[0], (struct sockaddr *)&name, len) == 0);
    NEED((fds[1] = accept(listener, NULL, NULL)) >= 0);
    close(listener);
    /* They leave nothing behind that keeps a port. */
    for (int i = 0; i < 2; i++)
        NEED(setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)) == 0);
}

/* What has been sent has arrived, and so has the end where there is one. */
static void await(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};
    NEED(poll(&wait, 1, 30000) == 1);
}

static void make(int kind, int way, int fds[2])
{
    if (kind == TCP)
        tcp_pair(fds);
    else
        NEED(socketpair(AF_UNIX, types[kind], 0, fds) == 0);
    NEED(send(fds[0], "one", 3, 0) == 3 && send(fds[1], "two", 3, 0) == 3);
    await(fds[0], POLLIN);
    await(fds[1], POLLIN);
    NEED(shutdown(fds[0], ways[way]) == 0);
    if (ways[way] != SHUT_RD && kind != DATAGRAM)
        await(fds[1], POLLRDHUP);
}

/* What a call gave, and errno where it failed. */
static int seen(ssize_t result)
{
    return result < 0 ? -errno : (int)result;
}

enum { SIGHTS = 10 };

static void look(int kind, const int fds[2], int sights[SIGHTS])
{
    char got[8];
    int n = 0;
    for (int i = 0; i < 2; i++) {
        struct pollfd now = {.fd = fds[i], .events = POLLIN | POLLOUT | POLLRDHUP};
        poll(&now, 1, 0);
        sights[n++] = now.revents;
        sights[n++] = seen(recv(fds[i], got, sizeof got, MSG_DONTWAIT));
        sights[n++] = seen(recv(fds[i], got, sizeof got, MSG_DONTWAIT));
    }
    for (int i = 0; i < 2; i++) {
        sights[n++] = seen(send(fds[i], "x", 1, MSG_DONTWAIT));
        /* TCP may take a while. */
        sights[n++] = kind == TCP ? 0 : seen(recv(fds[!i], got, sizeof got, MSG_DONTWAIT));
    }
}

int main(int argc, char **argv)
{
    static int fds[KINDS][WAYS][2];
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    for (int kind = 0; kind < KINDS; kind++)
        for (int way = 0; way < WAYS; way++)
            make(kind, way, fds[kind][way]);
    ready();
    do {
        next_round();
        for (int kind = 0; kind < KINDS; kind++)
            for (int way = 0; way < WAYS; way++) {
                int trial[2], want[SIGHTS], got[SIGHTS];
                make(kind, way, trial);
                if (broken())
                    shutdown(fds[kind][way][1], SHUT_RDWR);
                look(kind, trial, want);
                look(kind, fds[kind][way], got);
                for (int i = 0; i < SIGHTS; i++)
                    EXPECT(got[i] == want[i], "%s, shut down %d, sight %d: %d instead of %d", kinds[kind], ways[way], i, got[i],
                           want[i]);
                for (int i = 0; i < 2; i++) {
                    close(trial[i]);
                    close(fds[kind][way][i]);
                }
                make(kind, way, fds[kind][way]);
            }
    } while (report());
    return finish();
}
