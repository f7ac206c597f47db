/*
 * An epoll with ARG targets and an inotify with as many watches on directories that are not open: more than one reading
 * of what the kernel tells of them shows.
 */
#include "harness.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/resource.h>

enum { MOST = 5000, FIRST = 100 };

static const char *directory(int i)
{
    char name[32];
    snprintf(name, sizeof name, "watched.%d", i);
    return test_path(name);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int count = argc > 2 ? atoi(argv[2]) : 1200;
    NEED(count <= MOST);
    struct rlimit limit;
    NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    NEED(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int epoll = epoll_create1(0), in = inotify_init1(IN_NONBLOCK), watches[MOST];
    NEED(epoll >= 0 && in >= 0);
    for (int i = 0; i < count; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x100000000ull + (unsigned)i};
        int fd = eventfd(0, EFD_NONBLOCK);
        if (fd < 0 && errno == EMFILE)
            skip("the limit of open files is too low");
        NEED(fd >= 0 && dup2(fd, FIRST + i) == FIRST + i && (fd >= FIRST || close(fd) == 0));
        NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, FIRST + i, &wanted) == 0);
        NEED(mkdir(directory(i), 0700) == 0 && (watches[i] = inotify_add_watch(in, directory(i), IN_CREATE)) > 0);
    }
    ready();
    do {
        next_round();
        if (broken())
            NEED(inotify_rm_watch(in, watches[count / 2]) == 0);
        int wrong_targets = 0, wrong_watches = 0;
        for (int i = 0; i < count; i++) {
            struct epoll_event found;
            uint64_t one = 1;
            NEED(write(FIRST + i, &one, 8) == 8);
            if (epoll_wait(epoll, &found, 1, 0) != 1 || found.data.u64 != 0x100000000ull + (unsigned)i)
                wrong_targets++;
            NEED(read(FIRST + i, &one, 8) == 8 && one == 1);

            char made[64], event[4096];
            snprintf(made, sizeof made, "%s/made", directory(i));
            close(open(made, O_CREAT | O_WRONLY, 0600));
            NEED(unlink(made) == 0);
            ssize_t n = read(in, event, sizeof event);
            if (n < (ssize_t)sizeof(struct inotify_event) || ((struct inotify_event *)event)->wd != watches[i])
                wrong_watches++;
        }
        EXPECT(wrong_targets == 0 && wrong_watches == 0, "%d of %d targets and %d watches are wrong", wrong_targets, count,
               wrong_watches);
    } while (report());
    return finish();
}
