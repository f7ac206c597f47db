/*
 * Descriptors that an image cannot hold: netlink sockets, a userfaultfd, an io_uring, where the kernel has them.
 * In the process that goes on after a checkpoint they work as before. In a restarted one each
 * number is still taken, and the thing behind it behaves as if its other end had gone: reading gives
 * the end of file or an error, writing an error; and it is nobody else's file.
 */
#include "harness.h"
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static int gone;

int main(int argc, char **argv)
{
    char c;
    start(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    int all[4];
    unsigned parameters[30] = {0};
    all[0] = -1;
    all[1] = -1;
    all[2] = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
    all[3] = (int)syscall(425 /* io_uring_setup */, 4, parameters);
    for (int i = 0; i < 4; i++)
        if (all[i] < 0)
            NEED((all[i] = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)) >= 0);
    int lowest = dup(0);
    close(lowest);
    ready();
    do {
        next_round();
        gone |= restarted();
        if (broken()) {
            close(all[0]);
            NEED(open("/dev/null", O_RDWR) == all[0]);
        }
        for (int i = 0; i < 4; i++)
            EXPECT(fcntl(all[i], F_GETFD) >= 0, "fd %d is free", all[i]);
        int fd = open("/dev/null", O_RDONLY);
        EXPECT(fd == lowest, "a new file gets number %d instead of %d", fd, lowest);
        close(fd);
        if (!gone) {
            int domain = 0;
            socklen_t len = sizeof domain;
            EXPECT(getsockopt(all[0], SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK, "domain %d", domain);
            continue;
        }
        for (int i = 0; i < 4; i++) {
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
        struct pollfd poll_fd = {.fd = all[0], .events = POLLIN};
        EXPECT(poll(&poll_fd, 1, 0) == 1, "poll does not report the closed connection");
    } while (report());
    return finish();
}
