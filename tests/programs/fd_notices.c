/*
 * Descriptors that cost a notice: DIR/noticed holds a line with the number of each and what it is. After a restart none of
 * them blocks or is another file.
 */
#include "harness.h"
#include <poll.h>
#include <sys/inotify.h>

static struct {
    const char *what;
    int fd;
} all[] = {{"userfaultfd", -1}, {"io_uring", -1}, {"/dev/kmsg", -1}, {"/dev/fuse", -1}, {"inotify", -1}};
#define ALL (sizeof all / sizeof *all)

int main(int argc, char **argv)
{
    unsigned parameters[30] = {0};
    start(argc, argv);
    all[0].fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */);
    all[1].fd = (int)syscall(425 /* io_uring_setup */, 4, parameters);
    all[2].fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
    all[3].fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
    /* What it watches is open as well: it is restored, but for the event that waits. */
    int dir = open(test_dir, O_RDONLY | O_DIRECTORY);
    all[4].fd = inotify_init1(IN_NONBLOCK);
    NEED(dir >= 0 && all[4].fd >= 0 && inotify_add_watch(all[4].fd, test_dir, IN_CREATE | IN_ONESHOT) == 1);
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
            close(all[4].fd);
        for (size_t i = 0; i < ALL; i++)
            EXPECT(all[i].fd < 0 || fcntl(all[i].fd, F_GETFD) >= 0, "%s is closed", all[i].what);
        int fd = dup(0);
        EXPECT(fd == lowest, "a new file gets number %d instead of %d", fd, lowest);
        close(fd);
        ssize_t n = read(all[4].fd, event, sizeof event);
        EXPECT(gone || taken ? n == -1 && errno == EAGAIN : n > 0, "inotify: %zd, errno %d", n, errno);
        for (size_t i = 0; gone && i < 4; i++) {
            if (all[i].fd < 0)
                continue;
            n = read(all[i].fd, event, 1);
            EXPECT(n == 0, "%s: read gave %zd, errno %d", all[i].what, n, errno);
        }
        taken = 1;
    } while (report());
    return finish();
}
