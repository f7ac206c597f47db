/*
 * inotify: watches on an open file, on an open directory and on the working directory, with their numbers, after one
 * that was removed, and on what is not open: by an absolute and a relative path, a symbolic link itself. A second
 * instance has a watch that was made behind the library's back, which no restart finds again.
 */
#include "harness.h"
#include <poll.h>
#include <sys/inotify.h>

static char events[4096];

/* The mask of the first event of a watch, 0 without one; takes all events. */
static uint32_t take(int fd, int watch)
{
    uint32_t mask = 0;
    ssize_t n = read(fd, events, sizeof events);
    for (ssize_t at = 0; at < n;) {
        struct inotify_event *event = (struct inotify_event *)(events + at);
        if (event->wd == watch && mask == 0)
            mask = event->mask;
        at += (ssize_t)(sizeof *event + event->len);
    }
    return mask;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    NEED(mkdir(test_path("watched"), 0700) == 0 && mkdir(test_path("here"), 0700) == 0);
    NEED(chdir(test_path("here")) == 0);
    int file = open(test_path("file"), O_RDWR | O_CREAT, 0600), dir = open(test_path("watched"), O_RDONLY | O_DIRECTORY);
    int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    NEED(file >= 0 && dir >= 0 && in >= 0);
    int of_file = inotify_add_watch(in, test_path("file"), IN_MODIFY);
    int gone = inotify_add_watch(in, "/", IN_DELETE_SELF);
    NEED(inotify_rm_watch(in, gone) == 0 && take(in, gone) == IN_IGNORED);
    int of_dir = inotify_add_watch(in, test_path("watched"), IN_CREATE | IN_DELETE | IN_ONLYDIR);
    int of_here = inotify_add_watch(in, ".", IN_CREATE);
    NEED(of_file > 0 && of_dir > of_file + 1 && of_here > of_dir);
    NEED(mkdir("there", 0700) == 0 && mkdir(test_path("closed"), 0700) == 0 && mkdir(test_path("unknown"), 0700) == 0);
    NEED(symlink("there", "link") == 0);
    int of_closed = inotify_add_watch(in, test_path("closed"), IN_CREATE);
    int of_there = inotify_add_watch(in, "./there", IN_CREATE);
    int of_link = inotify_add_watch(in, "link", IN_ATTRIB | IN_DONT_FOLLOW);
    NEED(of_closed > of_here && of_there > of_closed && of_link > of_there);
    int lost = inotify_init1(IN_NONBLOCK), is_lost = 0;
    NEED(lost >= 0 && syscall(SYS_inotify_add_watch, lost, test_path("unknown"), IN_CREATE) > 0);
    NEED(take(in, of_here) == (IN_CREATE | IN_ISDIR));
    ready();
    do {
        next_round();
        is_lost |= restarted();
        if (broken())
            NEED(inotify_rm_watch(in, of_dir) == 0);
        EXPECT(fcntl(in, F_GETFD) == FD_CLOEXEC && fcntl(in, F_GETFL) == O_NONBLOCK, "flags %#o", fcntl(in, F_GETFL));
        EXPECT(read(in, events, sizeof events) == -1 && errno == EAGAIN, "events of nothing");
        NEED(pwrite(file, "x", 1, 0) == 1);
        EXPECT(take(in, of_file) == IN_MODIFY, "no event of the file");
        int made = openat(dir, "made", O_CREAT | O_WRONLY, 0600);
        close(made);
        EXPECT(take(in, of_dir) == IN_CREATE, "no event of the directory");
        NEED(unlinkat(dir, "made", 0) == 0);
        EXPECT(take(in, of_dir) == IN_DELETE, "no second event of the directory");
        close(open("made", O_CREAT | O_WRONLY, 0600));
        EXPECT(take(in, of_here) == IN_CREATE, "no event of the working directory");
        NEED(unlink("made") == 0);
        close(openat(AT_FDCWD, "there/made", O_CREAT | O_WRONLY, 0600));
        EXPECT(take(in, of_there) == IN_CREATE, "no event by a relative path");
        NEED(unlink("there/made") == 0);
        close(open(test_path("closed/made"), O_CREAT | O_WRONLY, 0600));
        EXPECT(take(in, of_closed) == IN_CREATE, "no event by an absolute path");
        close(open(test_path("unknown/made"), O_CREAT | O_WRONLY, 0600));
        uint32_t of_lost = take(lost, 1);
        EXPECT(of_lost == (is_lost ? 0 : IN_CREATE), "the other instance: %#x", of_lost);
        NEED(unlink(test_path("closed/made")) == 0 && unlink(test_path("unknown/made")) == 0);
        struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
        NEED(utimensat(AT_FDCWD, "link", times, AT_SYMLINK_NOFOLLOW) == 0);
        EXPECT(take(in, of_link) == IN_ATTRIB, "no event of a symbolic link");
        errno = 0;
    } while (report());
    return finish();
}
