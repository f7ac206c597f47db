/*
 * Names and what became of them: a file that was renamed, one that is open under both its names, one of more than 2 GiB
 * that is nearly all hole, opened with and without O_LARGEFILE; O_DIRECT; O_PATH on a file, a directory, a link, a FIFO
 * and a device; a directory that has been removed, and so has the working directory; directories and files of /proc/self.
 */
#define _LARGEFILE64_SOURCE
#include "harness.h"
#include <dirent.h>
#include <sys/statfs.h>

static const long long FAR = (4LL << 30) + 12345;

static int make(const char *name, int flags)
{
    int fd = open(test_path(name), flags | O_CREAT, 0600);
    NEED(fd >= 0);
    return fd;
}

static int type_of(int fd)
{
    struct stat64 stat;
    return fstat64(fd, &stat) == 0 ? (int)(stat.st_mode & S_IFMT) : -errno;
}

/* Whether a descriptor of /proc/self/task lists as many threads as /proc/self has, one of them with our pid. */
static int lists_self(int fd)
{
    int found = 0, copy = openat(fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        found |= atoi(entry->d_name) == proc_pid();
    closedir(dir);
    return found;
}

/* Whether a descriptor goes by this name of the test's directory. */
static int is_called(int fd, const char *name)
{
    char link[40], got[PATH_MAX], want[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, got, sizeof got - 1);
    got[len > 0 ? len : 0] = 0;
    return realpath(test_path(name), want) != NULL && strcmp(got, want) == 0;
}

enum { TWICE = 8 };

int main(int argc, char **argv)
{
    char text[8192], want[64];
    int twin[TWICE], once[TWICE];
    start(argc, argv);
    int renamed = make("old name", O_RDWR);
    NEED(write(renamed, "renamed", 7) == 7 && rename(test_path("old name"), test_path("new name")) == 0);

    close(make("a twin", O_WRONLY));
    close(make("one name", O_WRONLY));
    NEED(link(test_path("a twin"), test_path("its other name")) == 0);
    for (int i = 0; i < TWICE; i++) {
        twin[i] = open(test_path(i % 2 ? "its other name" : "a twin"), O_RDONLY);
        once[i] = open(test_path("one name"), i % 2 ? O_RDONLY : O_WRONLY);
        NEED(twin[i] >= 0 && once[i] >= 0);
    }

    int small = make("large", O_RDWR), large = open64(test_path("large"), O_RDWR);
    NEED(large >= 0 && ftruncate64(large, FAR + 4) == 0 && lseek64(large, FAR, SEEK_SET) == FAR);
    NEED(pwrite64(large, "far!", 4, FAR) == 4);
    int direct = open(test_path("new name"), O_RDONLY | O_DIRECT);

    int path_file = open(test_path("new name"), O_PATH), path_dir = open(test_path("."), O_PATH | O_DIRECTORY);
    NEED(symlink("nowhere", test_path("link")) == 0 && mkfifo(test_path("fifo"), 0600) == 0);
    int path_link = open(test_path("link"), O_PATH | O_NOFOLLOW), path_fifo = open(test_path("fifo"), O_PATH);
    int path_device = open("/dev/null", O_PATH);
    NEED(path_file >= 0 && path_dir >= 0 && path_link >= 0 && path_fifo >= 0 && path_device >= 0);

    NEED(mkdir(test_path("removed"), 0750) == 0 && mkdir(test_path("gone"), 0700) == 0);
    int removed = open(test_path("removed"), O_RDONLY | O_DIRECTORY);
    NEED(removed >= 0 && rmdir(test_path("removed")) == 0);
    NEED(chdir(test_path("gone")) == 0 && rmdir(test_path("gone")) == 0);

    int task = open("/proc/self/task", O_RDONLY | O_DIRECTORY), fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    int status = open("/proc/thread-self/status", O_RDONLY);
    NEED(task >= 0 && fds >= 0 && status >= 0);
    ready();
    do {
        next_round();
        if (broken()) {
            close(removed);
            lseek64(large, 0, SEEK_SET);
            NEED(chdir("/") == 0);
        }
        EXPECT(pread(renamed, text, 7, 0) == 7 && memcmp(text, "renamed", 7) == 0, "the renamed file");
        EXPECT(access(test_path("old name"), F_OK) != 0, "the old name is there again");

        for (int i = 0; i < TWICE; i++) {
            EXPECT(is_called(twin[i], i % 2 ? "its other name" : "a twin"), "fd %d has got its other name", twin[i]);
            EXPECT(is_called(once[i], "one name"), "fd %d goes by another name", once[i]);
        }

        EXPECT(lseek64(large, 0, SEEK_CUR) == FAR, "offset %lld", (long long)lseek64(large, 0, SEEK_CUR));
        EXPECT(pread64(large, text, 9, FAR) == 4 && memcmp(text, "far!", 4) == 0, "the far end");
        EXPECT(lseek64(large, 0, SEEK_END) == FAR + 4, "size %lld", (long long)lseek64(large, 0, SEEK_END));
        EXPECT(fcntl(large, F_GETFL) & O_LARGEFILE || sizeof(long) == 8, "O_LARGEFILE is gone");
        lseek64(large, FAR, SEEK_SET);
        struct stat64 stat;
        EXPECT(fstat64(large, &stat) == 0 && stat.st_blocks < 1000, "%lld blocks", (long long)stat.st_blocks);
        EXPECT(pread(small, text, 1, 0) == 1 && text[0] == 0, "the same file without O_LARGEFILE");
        EXPECT(direct < 0 || fcntl(direct, F_GETFL) & O_DIRECT, "O_DIRECT is gone");

        EXPECT(type_of(path_file) == S_IFREG && read(path_file, text, 1) == -1 && errno == EBADF, "O_PATH of a file");
        EXPECT(type_of(path_dir) == S_IFDIR && faccessat(path_dir, "new name", F_OK, 0) == 0, "O_PATH of a directory");
        EXPECT(type_of(path_link) == S_IFLNK && readlinkat(path_link, "", text, 100) == 7, "O_PATH of a link");
        EXPECT(type_of(path_fifo) == S_IFIFO, "O_PATH of a FIFO: %#o", type_of(path_fifo));
        EXPECT(type_of(path_device) == S_IFCHR, "O_PATH of a device: %#o", type_of(path_device));

        EXPECT(fstat64(removed, &stat) == 0 && S_ISDIR(stat.st_mode) && stat.st_nlink == 0 &&
                   (stat.st_mode & 07777) == 0750, "the removed directory: mode %#o", stat.st_mode);
        EXPECT(openat(removed, "new", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT, "errno %d", errno);
        EXPECT(access(test_path("removed"), F_OK) != 0, "it has a name again");
        EXPECT(stat64(".", &stat) == 0 && stat.st_nlink == 0 && getcwd(text, sizeof text) == NULL && errno == ENOENT,
               "the working directory has a name: %s", text);
        EXPECT(access(test_path("gone"), F_OK) != 0, "it has a name again");

        EXPECT(lists_self(task), "/proc/self/task is another process's");
        snprintf(text, sizeof text, "%d", task);
        EXPECT(faccessat(fds, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0, "/proc/self/fd is another process's");
        ssize_t len = pread(status, text, sizeof text - 1, 0);
        text[len > 0 ? len : 0] = 0;
        snprintf(want, sizeof want, "\nPid:\t%d\n", proc_pid());
        EXPECT(strstr(text, want) != NULL, "/proc/thread-self/status is another process's");
        errno = 0;
    } while (report());
    return finish();
}
