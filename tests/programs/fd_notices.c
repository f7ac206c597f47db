/*
 * Descriptors that cost a notice: DIR/noticed holds a line with the number of each and what it is. After a restart none of
 * them blocks or is another file.
 */
#include "harness.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>

static struct {
    const char *what;
    int fd;
} all[] = {{"userfaultfd", -1},      {"io_uring", -1},          {"/dev/kmsg", -1},        {"/dev/fuse", -1},
           {"AF_NETLINK (16)", -1},  {"AF_PACKET (17)", -1},    {"AF_ALG (38)", -1},      {"AF_VSOCK (40)", -1},
           {"AF_INET (2), type 3", -1}, {"inotify", -1}};
#define ALL (sizeof all / sizeof *all)
/* The last one. */
#define INOTIFY (ALL - 1)

int main(int argc, char **argv)
{
    unsigned parameters[30] = {0};
    start(argc, argv);
    all[0].fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */);
    all[1].fd = (int)syscall(425 /* io_uring_setup */, 4, parameters);
    all[2].fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
    all[3].fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
    all[4].fd = socket(AF_NETLINK, SOCK_RAW, 0);
    all[5].fd = socket(AF_PACKET, SOCK_RAW, 0);
    all[6].fd = socket(AF_ALG, SOCK_SEQPACKET, 0);
    all[7].fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    all[8].fd = socket(AF_INET, SOCK_RAW, 253 /* for experiments */);
    /* What it watches is open as well: it is restored, but for the event that waits. */
    int dir = open(test_dir, O_RDONLY | O_DIRECTORY);
    all[INOTIFY].fd = inotify_init1(IN_NONBLOCK);
    NEED(dir >= 0 && all[INOTIFY].fd >= 0 && inotify_add_watch(all[INOTIFY].fd, test_dir, IN_CREATE | IN_ONESHOT) == 1);
    NEED(close(open(test_path("seen"), O_CREAT | O_WRONLY, 0600)) == 0);
    FILE *noticed = fopen(test_path("noticed"), "w");
    NEED(noticed != NULL);
    for (size_t i = 0; i < ALL; i++)
        if (all[i].fd >= 0)
            fprintf(noticed, "%d %s\n", all[i].fd, all[i].what);
    NEED(fclose(noticed) == 0);
    int lowest = dup(0), gone = 0, taken = 0;
    close(lowest);
    ready();
    do {
        char event[4096];
        next_round();
        gone |= restarted();
        if (broken())
            close(all[INOTIFY].fd);
        for (size_t i = 0; i < ALL; i++)
            EXPECT(all[i].fd < 0 || fcntl(all[i].fd, F_GETFD) >= 0, "%s is closed", all[i].what);
        int fd = dup(0);
        EXPECT(fd == lowest, "a new file gets number %d instead of %d", fd, lowest);
        close(fd);
        ssize_t n = read(all[INOTIFY].fd, event, sizeof event);
        EXPECT(gone || taken ? n == -1 && errno == EAGAIN : n > 0, "inotify: %zd, errno %d", n, errno);
        for (size_t i = 0; gone && i < INOTIFY; i++) {
            if (all[i].fd < 0)
                continue;
            n = read(all[i].fd, event, 1);
            EXPECT(n == 0, "%s: read gave %zd, errno %d", all[i].what, n, errno);
        }
        taken = 1;
    } while (report());
    return finish();
}
