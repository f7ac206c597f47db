/*
 * Descriptors that an image cannot hold yet: a TCP connection and its listener.
 * In the process that goes on after a checkpoint they work as before. In a restarted one each
 * number is still taken, and the thing behind it behaves as if its other end had gone: reading gives
 * the end of file or an error, writing an error; and it is nobody else's file.
 */
#include "harness.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static int gone;

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    char c;
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    NEED(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0);
    NEED(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    NEED(connect(client, (struct sockaddr *)&address, len) == 0);
    int server = accept(listener, NULL, NULL);
    NEED(server >= 0);
    int all[] = {listener, client, server};
    int lowest = dup(0);
    close(lowest);
    ready();
    do {
        next_round();
        gone |= restarted();
        if (broken()) {
            close(client);
            NEED(open("/dev/null", O_RDWR) == client || 1);
        }
        for (int i = 0; i < 3; i++)
            EXPECT(fcntl(all[i], F_GETFD) >= 0, "fd %d is free", all[i]);
        int fd = open("/dev/null", O_RDONLY);
        EXPECT(fd == lowest, "a new file gets number %d instead of %d", fd, lowest);
        close(fd);
        if (!gone) {
            EXPECT(write(client, "a", 1) == 1 && read(server, &c, 1) == 1 && c == 'a', "TCP");
            continue;
        }
        for (int i = 1; i < 3; i++) {
            /* nothing may block for ever */
            fcntl(all[i], F_SETFL, fcntl(all[i], F_GETFL) | O_NONBLOCK);
            errno = 0;
            ssize_t n = read(all[i], &c, 1);
            int read_errno = errno;
            EXPECT(n <= 0, "fd %d: read gave %zd bytes", all[i], n);
            EXPECT(read_errno != EAGAIN, "fd %d: read would wait for ever", all[i]);
            errno = 0;
            n = write(all[i], "abcdefgh", 8);
            EXPECT(n < 0, "fd %d: write took %zd bytes", all[i], n);
            note("fd %d: read errno %d, write errno %d", all[i], read_errno, errno);
        }
        struct pollfd poll_fd = {.fd = client, .events = POLLIN};
        EXPECT(poll(&poll_fd, 1, 0) == 1, "poll does not report the closed connection");
        EXPECT(accept(listener, NULL, NULL) < 0, "accept gave a connection");
    } while (report());
    return finish();
}
