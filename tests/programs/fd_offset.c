/*
 * Regular files: offsets, status flags, close-on-exec, high numbers, offsets shared by dup and not
 * shared by a second open, an offset behind the end, and the numbers that new files get.
 */
#include "harness.h"

enum { FILES = 9, HIGH = 200 };
static int fds[FILES];
static const char *const names[FILES] = {
    "read-only", "write-only, O_APPEND", "read-write", "dup of read-write", "second open",
    "dup at 200, close-on-exec", "offset behind the end", "O_NONBLOCK|O_SYNC|O_NOATIME", "O_PATH",
};

static struct what {
    off_t offset;
    int status, descriptor;
} what[FILES];

static struct what look(int fd)
{
    struct what w = {lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GETFL), fcntl(fd, F_GETFD)};
    return w;
}

static int lowest_free(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
}

static char byte_at(off_t offset)
{
    return (char)('a' + offset % 23);
}

int main(int argc, char **argv)
{
    static char data[20000];
    start(argc, argv);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = byte_at((off_t)i);
    const char *path = test_path("data");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0640);
    NEED(fd >= 0 && write(fd, data, sizeof data) == (ssize_t)sizeof data);
    NEED(lseek(fd, 5000, SEEK_SET) == 5000);
    fds[2] = fd;
    fds[0] = open(path, O_RDONLY);
    fds[1] = open(test_path("log"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    fds[3] = dup(fd);
    fds[4] = open(path, O_RDWR);
    NEED(lseek(fds[4], 300, SEEK_SET) == 300);
    fds[5] = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
    NEED(fds[5] == HIGH);
    fds[6] = open(test_path("sparse"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    NEED(lseek(fds[6], 1 << 20, SEEK_SET) == 1 << 20);
    fds[7] = open(path, O_RDONLY | O_NONBLOCK | O_SYNC | O_NOATIME | O_CLOEXEC);
    fds[8] = open(path, O_PATH | O_CLOEXEC);
    NEED(write(fds[1], "first\n", 6) == 6);
    for (int i = 0; i < FILES; i++) {
        NEED(fds[i] >= 0);
        what[i] = look(fds[i]);
    }
    /* The two lowest free numbers, with a gap between them. */
    int gap = dup(fd), after_gap = dup(fd);
    close(gap);
    NEED(lowest_free() == gap);
    int appended = 6;
    ready();
    do {
        next_round();
        if (broken()) {
            close(fds[3]);
            NEED(open(path, O_RDWR) == fds[3] || 1);
            fcntl(fds[5], F_SETFD, 0);
        }
        for (int i = 0; i < FILES; i++) {
            struct what w = look(fds[i]);
            EXPECT(w.offset == what[i].offset, "%s: offset %lld instead of %lld", names[i],
                   (long long)w.offset, (long long)what[i].offset);
            EXPECT(w.status == what[i].status, "%s: flags %#o instead of %#o", names[i], w.status,
                   what[i].status);
            EXPECT(w.descriptor == what[i].descriptor, "%s: descriptor flags %d instead of %d",
                   names[i], w.descriptor, what[i].descriptor);
        }
        EXPECT(lowest_free() == gap, "a new file gets number %d instead of %d", lowest_free(), gap);
        EXPECT(fcntl(after_gap, F_GETFD) >= 0, "fd %d is gone", after_gap);
        /* Reading through one moves its duplicates and nothing else. */
        char c = 0;
        EXPECT(read(fds[2], &c, 1) == 1 && c == byte_at(what[2].offset), "read gave '%c'", c);
        off_t moved = what[2].offset + 1;
        EXPECT(lseek(fds[3], 0, SEEK_CUR) == moved, "the duplicate has not moved along");
        EXPECT(lseek(fds[5], 0, SEEK_CUR) == moved, "the duplicate at 200 has not moved along");
        EXPECT(lseek(after_gap, 0, SEEK_CUR) == moved, "a duplicate has not moved along");
        EXPECT(lseek(fds[4], 0, SEEK_CUR) == what[4].offset, "the second open has moved along");
        EXPECT(read(fds[4], &c, 1) == 1 && c == byte_at(what[4].offset), "read gave '%c'", c);
        EXPECT(read(fds[0], &c, 1) == 1 && c == byte_at(what[0].offset), "read gave '%c'", c);
        errno = 0;
        EXPECT(write(fds[0], "x", 1) < 0 && errno == EBADF, "a read-only file can be written");
        EXPECT(read(fds[1], &c, 1) < 0, "a write-only file can be read");
        /* O_APPEND appends wherever the offset is. */
        struct stat st;
        EXPECT(lseek(fds[1], 0, SEEK_SET) == 0 && write(fds[1], "another\n", 8) == 8, "append");
        appended += 8;
        EXPECT(fstat(fds[1], &st) == 0 && st.st_size == appended, "the log has %lld bytes, not %d",
               (long long)st.st_size, appended);
        /* The hole is made by the write, not before. */
        EXPECT(fstat(fds[6], &st) == 0 && st.st_size == (what[6].offset == 1 << 20 ? 0 : what[6].offset - 10),
               "the sparse file has %lld bytes", (long long)st.st_size);
        EXPECT(write(fds[6], "end", 3) == 3, "write behind the end");
        lseek(fds[6], 10, SEEK_CUR);
        EXPECT(fstat(fds[8], &st) == 0 && st.st_size == (off_t)sizeof data, "O_PATH: another file");
        fcntl(fds[4], F_SETFD, fcntl(fds[4], F_GETFD) ^ FD_CLOEXEC);
        fcntl(fds[4], F_SETFL, fcntl(fds[4], F_GETFL) ^ O_APPEND);
        for (int i = 0; i < FILES; i++)
            what[i] = look(fds[i]);
    } while (report());
    return finish();
}
