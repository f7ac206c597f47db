/*
 * TCP connections within the process of which one end has been closed: what it had sent, the end, and then the refusal of
 * what is sent to it. With "full" as argv[2] one that is so full that the rest has not come: in a restarted program it is
 * reset.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static int listener;

static void connected(int pair[2])
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    NEED(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    NEED(pair[0] >= 0 && connect(pair[0], (struct sockaddr *)&address, sizeof address) == 0);
    pair[1] = accept(listener, NULL, NULL);
    NEED(pair[1] >= 0);
}

/* One end sends a text, if any, and is closed; returns the other one, to which all has come. */
static int closed_by(int which, const char *text)
{
    int pair[2];
    connected(pair);
    NEED(send(pair[which], text, strlen(text), 0) == (ssize_t)strlen(text));
    close(pair[which]);
    struct pollfd other = {.fd = pair[!which], .events = POLLRDHUP};
    NEED(poll(&other, 1, 60000) == 1);
    return pair[!which];
}

static void expect_closed(int fd, const char *text)
{
    char buf[64];
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    EXPECT(n == (ssize_t)strlen(text) && same_bytes(buf, text, strlen(text)), "'%s': %zd, errno %d", text, n, errno);
    n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    EXPECT(n == 0, "'%s' has no end: %zd, errno %d", text, n, errno);
    EXPECT(send(fd, "x", 1, 0) == 1, "'%s': send: errno %d", text, errno);
    struct pollfd reset = {.fd = fd, .events = 0};
    EXPECT(poll(&reset, 1, 60000) == 1 && (reset.revents & POLLHUP), "'%s': events %x", text, reset.revents);
    EXPECT(send(fd, "x", 1, 0) == -1 && errno == EPIPE, "'%s': errno %d", text, errno);
    close(fd);
}

int main(int argc, char **argv)
{
    static char buf[65536];
    int pair[2], first = 1;
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    NEED(listener >= 0 && listen(listener, 5) == 0);
    int full = argc > 2;
    do {
        ssize_t sent = 0, n, got = 0;
        int one = closed_by(0, "from the client"), two = closed_by(1, "from the server"), three = closed_by(0, "");
        if (full) {
            connected(pair);
            while ((n = send(pair[0], buf, sizeof buf, MSG_DONTWAIT)) > 0)
                sent += n;
            close(pair[0]);
        }
        if (first)
            ready();
        first = 0;
        next_round();
        if (broken())
            NEED(recv(one, buf, 1, 0) == 1);
        expect_closed(one, "from the client");
        expect_closed(two, "from the server");
        expect_closed(three, "");
        if (full) {
            while ((n = recv(pair[1], buf, sizeof buf, 0)) > 0)
                got += n;
            if (restarted())
                EXPECT(n == -1 && errno == ECONNRESET && got > 0 && got < sent, "%zd of %zd, errno %d", got, sent, errno);
            else
                EXPECT(n == 0 && got == sent, "%zd of %zd, errno %d", got, sent, errno);
            close(pair[1]);
        }
    } while (report());
    return finish();
}
