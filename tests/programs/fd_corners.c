/*
 * Descriptors and mappings in states that a random walk has found: files of O_TMPFILE that have got a name or may get one,
 * a directory that is read from its beginning once more, packets whose writer is gone, FIFOs with one end, a POSIX lock
 * on a deleted file that is open for writing alone, an epoll with several files under one number, mappings of different
 * parts of a file that is gone, or of one that has no length yet.
 */
#include "harness.h"
#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int nameless(int flags)
{
    int fd = open(test_dir, O_TMPFILE | flags, 0600);
    NEED(fd >= 0 && write(fd, "nameless", 8) == 8);
    return fd;
}

static int link_to(int fd, const char *name)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, AT_FDCWD, test_path(name), AT_SYMLINK_FOLLOW);
}

/* Another process sees the lock. */
static int is_locked(int fd)
{
    char path[32];
    int status;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", proc_pid(), fd);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK};
        int other = open(path, O_WRONLY);
        _exit(other >= 0 && fcntl(other, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 1 : 0);
    }
    NEED(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

static int count_entries(int fd)
{
    static char buffer[4096];
    int count = 0;
    for (long n; (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;)
        for (long at = 0; at < n; at += ((struct dirent64 *)(buffer + at))->d_reclen)
            count++;
    return count;
}

enum { ENTRIES = 30 };

static int make_directory(void)
{
    char name[16];
    NEED(mkdir(test_path("directory"), 0700) == 0);
    int dir = open(test_path("directory"), O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "entry-%d", i);
        int fd = openat(dir, name, O_WRONLY | O_CREAT, 0600);
        NEED(fd >= 0);
        close(fd);
    }
    return dir;
}

static char *map(int fd, size_t pages, off_t first)
{
    char *at = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, first * 4096);
    NEED(at != MAP_FAILED);
    return at;
}

/* How many of the targets of an epoll are ready, each with its data: a bit each. */
static unsigned ready_targets(int epoll)
{
    struct epoll_event events[8];
    unsigned bits = 0;
    int n = epoll_wait(epoll, events, 8, 0);
    for (int i = 0; i < n; i++)
        bits |= 1u << events[i].data.u32;
    return bits;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int named = nameless(O_RDWR);
    NEED(link_to(named, "named") == 0);
    int unnamed = nameless(O_WRONLY), round = 0;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", unnamed);
    int reader = open(path, O_RDONLY);

    int directory = make_directory();
    NEED(syscall(SYS_getdents64, directory, path, sizeof path) > 0);

    int packets[2];
    NEED(pipe2(packets, O_DIRECT | O_NONBLOCK) == 0);
    NEED(write(packets[1], "one", 3) == 3 && write(packets[1], "t", 1) == 1 && write(packets[1], "three", 5) == 5);
    close(packets[1]);
    int stream[2];
    NEED(pipe2(stream, O_NONBLOCK) == 0 && write(stream[1], "bytes in a row", 14) == 14);
    NEED(fcntl(stream[1], F_SETFL, O_NONBLOCK | O_DIRECT) == 0);

    NEED(mkfifo(test_path("read"), 0600) == 0 && mkfifo(test_path("gone"), 0600) == 0 && mkfifo(test_path("left"), 0600) == 0);
    int fifo = open(test_path("read"), O_RDONLY | O_NONBLOCK), gone = open(test_path("gone"), O_RDONLY | O_NONBLOCK);
    NEED(unlink(test_path("gone")) == 0 && fcntl(fifo, F_SETPIPE_SZ, 8192) == 8192 && fcntl(gone, F_SETPIPE_SZ, 8192) == 8192);
    int both = open(test_path("left"), O_RDWR), left = open(test_path("left"), O_WRONLY | O_NONBLOCK);
    NEED(write(left, "left", 4) == 4);
    close(both);

    int locked = open(test_path("locked"), O_WRONLY | O_CREAT, 0600);
    struct flock lock = {.l_type = F_WRLCK};
    NEED(locked >= 0 && write(locked, "x", 1) == 1 && unlink(test_path("locked")) == 0 && fcntl(locked, F_SETLK, &lock) == 0);

    /* Three objects under one number; their inode is one of the kernel's, and the same. */
    int epoll = epoll_create1(0), objects[3], number = -1;
    for (int i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        int made = eventfd(0, EFD_NONBLOCK);
        number = number < 0 ? fcntl(made, F_DUPFD, 100) : dup2(made, number);
        NEED(number >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event) == 0);
        objects[i] = made;
    }
    close(number);

    int memory = memfd_create("corners", 0);
    NEED(memory >= 0 && ftruncate(memory, 5 * 4096) == 0);
    char *large = map(memory, 5, 0), *small = map(memory, 1, 1);
    /* The kernel puts later ones below: now the small one is the first, and between two large ones. */
    char *other = map(memory, 4, 0);
    for (int i = 0; i < 5; i++)
        pattern_fill(large + i * 4096, 4096, (uint32_t)i + 1);
    close(memory);
    int empty = memfd_create("empty", 0);
    char *later = map(empty, 2, 0);
    /* A file that is called as /proc calls one that is gone. */
    int twin = open(test_path("twin"), O_RDWR | O_CREAT, 0600), called = open(test_path("twin (deleted)"), O_RDWR | O_CREAT, 0600);
    NEED(ftruncate(twin, 4096) == 0 && ftruncate(called, 8192) == 0);
    char *of_twin = map(twin, 1, 0), *of_called = map(called, 1, 0);
    NEED(unlink(test_path("twin")) == 0);
    strcpy(of_twin, "twin");
    strcpy(of_called, "called");
    /* What /proc tells of a descriptor, read in part. */
    int info = open("/proc/self/fdinfo/2", O_RDONLY);
    NEED(info >= 0 && read(info, path, 4) == 4);

    ready();
    do {
        next_round();
        char text[64] = "", name[32];
        if (broken()) {
            read(packets[0], text, 1);
            fcntl(locked, F_SETLK, &(struct flock){.l_type = F_UNLCK});
            other[0]++;
        }
        struct stat is;
        EXPECT(fstat(named, &is) == 0 && is.st_nlink == 1 && pread(named, text, 8, 0) == 8 && memcmp(text, "nameless", 8) == 0,
               "it is no longer the file that has got a name");
        EXPECT(pread(reader, text, 8, 0) == 8 && memcmp(text, "nameless", 8) == 0, "the file without a name");
        snprintf(name, sizeof name, "linked-%d", ++round);
        /* In every round another one, since each can get its first name once. A round may come twice. */
        unlink(test_path(name));
        EXPECT(link_to(unnamed, name) == 0, "a file of O_TMPFILE cannot get a name: errno %d", errno);
        close(reader);
        close(unnamed);
        unnamed = nameless(O_WRONLY);
        snprintf(path, sizeof path, "/proc/self/fd/%d", unnamed);
        reader = open(path, O_RDONLY);

        EXPECT(lseek(directory, 0, SEEK_SET) == 0 && count_entries(directory) == ENTRIES + 2, "entries are missing");
        NEED(lseek(directory, 0, SEEK_SET) == 0 && syscall(SYS_getdents64, directory, path, sizeof path) > 0);

        if (round == 2) {
            EXPECT(read(packets[0], text, 2) == 2 && read(packets[0], text, 20) == 1 && read(packets[0], text, 20) == 5 &&
                       memcmp(text, "three", 5) == 0,
                   "the packets are not what was written: %.5s", text);
            NEED(write(stream[1], "p", 1) == 1);
            int first = (int)read(stream[0], text, 5), second = (int)read(stream[0], text + 5, 9);
            EXPECT(first == 5 && second == 9 && memcmp(text, "bytes in a row", 14) == 0, "%d and %d bytes in a row", first, second);
        }
        EXPECT(fcntl(fifo, F_GETPIPE_SZ) == 8192 && fcntl(gone, F_GETPIPE_SZ) == 8192, "capacity %d, %d", fcntl(fifo, F_GETPIPE_SZ),
               fcntl(gone, F_GETPIPE_SZ));
        EXPECT(read(fifo, text, 1) == 0 && read(gone, text, 1) == 0, "a FIFO without a writer");
        int taker = open(test_path("left"), O_RDONLY | O_NONBLOCK);
        EXPECT(read(taker, text, 10) == 4 && memcmp(text, "left", 4) == 0, "what was left in a FIFO");
        NEED(write(left, "left", 4) == 4);
        close(taker);

        EXPECT(is_locked(locked), "the lock is gone");
        for (int i = 0; i < 3; i++) {
            NEED(eventfd_write(objects[i], 1) == 0);
            unsigned bits = ready_targets(epoll);
            EXPECT(bits == 1u << i, "object %d: %#x", i, bits);
            eventfd_t value;
            NEED(eventfd_read(objects[i], &value) == 0);
        }

        for (int i = 0; i < 5; i++)
            EXPECT(pattern_check(large + i * 4096, 4096, (uint32_t)i + 1) < 0 &&
                       (i == 4 || same_bytes(other + i * 4096, large + i * 4096, 4096)) &&
                       (i != 1 || same_bytes(small, large + 4096, 4096)),
                   "page %d", i);
        small[0]++;
        EXPECT(large[4096] == small[0] && other[4096] == small[0], "the mappings show another memory");
        small[0]--;
        NEED(ftruncate(empty, 0) == 0 && ftruncate(empty, 8192) == 0 && pwrite(empty, "later", 6, 4096) == 6);
        EXPECT(strcmp(later + 4096, "later") == 0, "the mapping shows another file");
        NEED(ftruncate(empty, 0) == 0);
        EXPECT(strcmp(of_twin, "twin") == 0 && strcmp(of_called, "called") == 0, "%s and %s", of_twin, of_called);
        EXPECT(pread(called, text, 7, 0) == 7 && strcmp(text, "called") == 0, "%s", text);
        EXPECT(read(info, text, 1) == 1, "fdinfo: errno %d", errno);
        errno = 0;
    } while (report());
    return finish();
}
