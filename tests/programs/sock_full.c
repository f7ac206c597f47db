/*
 * A TCP connection within the process that is so full that much of what was sent has not arrived: nobody reads.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static char sent[1300000], got[sizeof sent];

static void expect_all(int fd, const char *what, unsigned seed)
{
    size_t len = 0;
    while (len < sizeof got) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&poll_fd, 1, broken() ? 1000 : 60000) == 1 ? recv(fd, got + len, sizeof got - len, MSG_DONTWAIT) : -1;
        EXPECT(n > 0, "%s: %zd after %zu bytes (errno %d)", what, n, len, errno);
        if (n <= 0)
            return;
        len += (size_t)n;
    }
    long wrong = pattern_check(got, sizeof got, seed);
    EXPECT(wrong == -1, "%s: word %ld is wrong", what, wrong);
    EXPECT(recv(fd, got, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: there is more", what);
}

static void fill(int fd, unsigned seed)
{
    pattern_fill(sent, sizeof sent, seed);
    size_t len = 0;
    while (len < sizeof sent) {
        ssize_t n = send(fd, sent + len, sizeof sent - len, MSG_DONTWAIT | MSG_NOSIGNAL);
        NEED(n > 0);
        len += (size_t)n;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    unsigned seed = 1;
    start(argc, argv);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    NEED(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    NEED(connect(client, (struct sockaddr *)&address, len) == 0);
    int server = accept(listener, NULL, NULL);
    NEED(server >= 0);
    fill(client, seed);
    fill(server, seed + 1);
    ready();
    do {
        next_round();
        if (broken())
            NEED(recv(client, got, 4, 0) == 4);
        expect_all(server, "server", seed);
        expect_all(client, "client", seed + 1);
        seed += 2;
        fill(client, seed);
        fill(server, seed + 1);
    } while (report());
    return finish();
}
