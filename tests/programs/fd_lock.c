/*
 * Locks on files: flock(2), POSIX and open-file-description locks, shared and exclusive, whole and in pieces, on files
 * with several descriptors, a directory, a deleted file and one that is mapped; leases. A child process tells which are
 * held.
 */
#include "harness.h"
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int make(const char *name, int flags)
{
    int made = open(test_path(name), O_RDWR | O_CREAT, 0600), fd = open(test_path(name), flags);
    NEED(made >= 0 && fd >= 0 && ftruncate(made, 8192) == 0);
    close(made);
    return fd;
}

static int lock(int fd, int op, int type, off_t start, off_t len)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, op, &lock);
}

/* What would forbid another process to lock a byte for writing: F_UNLCK if nothing does. */
static int held(int fd, off_t at)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    NEED(fcntl(fd, F_GETLK, &lock) == 0);
    return lock.l_type == F_UNLCK ? F_UNLCK : lock.l_pid > 0 ? lock.l_type : lock.l_type + 100;
}

/* The same as another process sees it. */
static int held_elsewhere(const char *path, off_t at)
{
    int status;
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        int fd = open(path, O_RDWR);
        _exit(fd < 0 ? 99 : held(fd, at));
    }
    NEED(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

/* Closing a descriptor of the file here would drop the process's POSIX locks. */
static int flocked(const char *path, int how)
{
    int status;
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0)
        _exit(flock(open(path, O_RDONLY), how | LOCK_NB) != 0);
    NEED(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
}

static int dir_fd(void)
{
    NEED(mkdir(test_path("locked-directory"), 0700) == 0);
    return open(test_path("locked-directory"), O_RDONLY | O_DIRECTORY);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int exclusive = make("exclusive", O_RDWR), shared = make("shared", O_RDONLY), dir = dir_fd();
    NEED(flock(exclusive, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0 && flock(dir, LOCK_EX) == 0);
    int dup_of_exclusive = dup(exclusive);

    int posix = make("posix", O_RDWR), reader = make("posix", O_RDONLY);
    NEED(lock(posix, F_SETLK, F_WRLCK, 100, 50) == 0 && lock(posix, F_SETLK, F_RDLCK, 1000, 0) == 0);
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, posix, 0);
    NEED(map != MAP_FAILED && reader >= 0);
    /* far beyond 4 GiB */
    NEED(fcntl(reader, F_SETLK64,
               &(struct flock64){.l_type = F_RDLCK, .l_start = 5LL << 32, .l_len = 1LL << 32}) == 0 || errno == EINVAL);

    int ofd = make("ofd", O_RDWR), second = make("ofd", O_RDWR);
    NEED(lock(ofd, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 && lock(second, F_OFD_SETLK, F_RDLCK, 20, 10) == 0);
    NEED(lock(second, F_SETLK, F_RDLCK, 22, 4) == 0);

    int deleted = make("deleted", O_RDWR);
    NEED(unlink(test_path("deleted")) == 0 && lock(deleted, F_SETLK, F_WRLCK, 0, 0) == 0);

    int lease = make("lease", O_RDONLY);
    NEED(fcntl(lease, F_SETLEASE, F_RDLCK) == 0);
    int write_lease = make("write-lease", O_RDWR);
    NEED(fcntl(write_lease, F_SETLEASE, F_WRLCK) == 0);
    /* an output that is cut back while it is locked */
    int output = make("output", O_RDWR | O_APPEND);
    NEED(lock(output, F_SETLK, F_WRLCK, 0, 0) == 0 && flock(output, LOCK_EX) == 0);
    off_t written = 8192;
    ready();
    do {
        next_round();
        if (broken()) {
            close(dup(posix));
            flock(exclusive, LOCK_UN);
            lock(ofd, F_OFD_SETLK, F_UNLCK, 0, 0);
            fcntl(lease, F_SETLEASE, F_UNLCK);
        }
        EXPECT(flocked(test_path("exclusive"), LOCK_SH), "the flock is gone");
        EXPECT(flock(dup_of_exclusive, LOCK_EX | LOCK_NB) == 0, "it is another's");
        EXPECT(flocked(test_path("shared"), LOCK_EX) && !flocked(test_path("shared"), LOCK_SH), "shared flock");
        EXPECT(flocked(test_path("locked-directory"), LOCK_SH), "the directory's flock is gone");

        EXPECT(held_elsewhere(test_path("posix"), 99) == F_UNLCK, "byte 99");
        EXPECT(held_elsewhere(test_path("posix"), 100) == F_WRLCK, "byte 100");
        EXPECT(held_elsewhere(test_path("posix"), 149) == F_WRLCK, "byte 149");
        EXPECT(held_elsewhere(test_path("posix"), 150) == F_UNLCK, "byte 150");
        EXPECT(held_elsewhere(test_path("posix"), 1000) == F_RDLCK, "byte 1000");
        EXPECT(held_elsewhere(test_path("posix"), 1 << 30) == F_RDLCK, "byte 1 Gi");
        EXPECT(held(posix, 100) == F_UNLCK, "the process's own lock is another's");

        EXPECT(held_elsewhere(test_path("ofd"), 5) == F_WRLCK + 100, "%d", held_elsewhere(test_path("ofd"), 5));
        EXPECT(held_elsewhere(test_path("ofd"), 20) == F_RDLCK + 100, "%d", held_elsewhere(test_path("ofd"), 20));
        EXPECT(held_elsewhere(test_path("ofd"), 30) == F_UNLCK, "byte 30");
        EXPECT(lock(second, F_OFD_SETLK, F_WRLCK, 5, 1) == -1, "the lock is not the description's");
        NEED(lock(second, F_OFD_SETLK, F_UNLCK, 20, 10) == 0);
        EXPECT(held_elsewhere(test_path("ofd"), 23) == F_RDLCK, "the process's lock beside the description's");
        NEED(lock(second, F_OFD_SETLK, F_RDLCK, 20, 10) == 0);

        char link[64];
        snprintf(link, sizeof link, "/proc/%d/fd/%d", proc_pid(), deleted);
        EXPECT(held_elsewhere(link, 0) == F_WRLCK, "%d", held_elsewhere(link, 0));

        EXPECT(fcntl(lease, F_GETLEASE) == F_RDLCK, "lease %d", fcntl(lease, F_GETLEASE));
        EXPECT(fcntl(write_lease, F_GETLEASE) == F_WRLCK, "lease for writing %d", fcntl(write_lease, F_GETLEASE));
        EXPECT(held_elsewhere(test_path("output"), 0) == F_WRLCK, "output");
        EXPECT(flocked(test_path("output"), LOCK_SH), "output");
        EXPECT(lseek(output, 0, SEEK_END) == written, "output");
        NEED(write(output, "more", 4) == 4);
        written += 4;
        errno = 0;
    } while (report());
    return finish();
}
