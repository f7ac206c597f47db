/*
 * Files without a name: deleted with holes and two descriptions, O_TMPFILE, one whose other link lives on beside it, a
 * sealed memfd.
 */
#include "harness.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
    char got[64], path[64];
    struct stat stat;
    start(argc, argv);
    int sparse = open(test_path("sparse"), O_RDWR | O_CREAT, 0400);
    NEED(sparse >= 0 && pwrite(sparse, "far away", 8, 64 << 20) == 8 && write(sparse, "start", 5) == 5);
    int reader = open(test_path("sparse"), O_RDONLY | O_CLOEXEC);
    NEED(reader >= 0 && lseek(reader, 2, SEEK_SET) == 2 && unlink(test_path("sparse")) == 0);
    int nameless = open(test_path("."), O_TMPFILE | O_RDWR, 0600);
    NEED(nameless >= 0 && write(nameless, "never had one", 13) == 13);
    int linked = open(test_path("first-name"), O_RDWR | O_CREAT, 0600);
    NEED(linked >= 0 && link(test_path("first-name"), test_path("second-name")) == 0);
    NEED(write(linked, "linked", 6) == 6 && unlink(test_path("first-name")) == 0);
    int sealed = memfd_create("a memfd", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    NEED(sealed >= 0 && write(sealed, "memory", 6) == 6);
    NEED(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    ready();
    do {
        next_round();
        if (broken())
            NEED(pwrite(sparse, "X", 1, 0) == 1);
        EXPECT(fstat(sparse, &stat) == 0 && stat.st_nlink == 0 && (stat.st_mode & 07777) == 0400, "links or mode");
        EXPECT(stat.st_size == (64 << 20) + 8 && stat.st_blocks < 1000, "the hole takes %ld blocks", (long)stat.st_blocks);
        EXPECT(lseek(sparse, 0, SEEK_CUR) == 5 && lseek(reader, 0, SEEK_CUR) == 2, "offsets");
        EXPECT(pread(sparse, got, 5, 0) == 5 && memcmp(got, "start", 5) == 0, "start");
        EXPECT(pread(reader, got, 64, 64 << 20) == 8 && memcmp(got, "far away", 8) == 0, "end");
        EXPECT((fcntl(reader, F_GETFL) & O_ACCMODE) == O_RDONLY && fcntl(reader, F_GETFD) == FD_CLOEXEC, "flags");
        EXPECT(pwrite(sparse, "S", 1, 1) == 1 && pread(reader, got, 1, 1) == 1 && got[0] == 'S', "not one file");
        NEED(pwrite(sparse, "t", 1, 1) == 1);
        EXPECT(fstat(nameless, &stat) == 0 && stat.st_nlink == 0, "O_TMPFILE has a name");
        EXPECT(pread(nameless, got, 64, 0) == 13 && memcmp(got, "never had one", 13) == 0, "O_TMPFILE");
        snprintf(path, sizeof path, "/proc/self/fd/%d", nameless);
        EXPECT(linkat(AT_FDCWD, path, AT_FDCWD, test_path("named"), AT_SYMLINK_FOLLOW) == 0, "cannot be named: %d", errno);
        unlink(test_path("named"));
        /* once it has had a name it cannot get another one: a new file for the next round */
        close(nameless);
        NEED(open(test_path("."), O_TMPFILE | O_RDWR, 0600) == nameless && write(nameless, "never had one", 13) == 13);
        EXPECT(fstat(linked, &stat) == 0 && stat.st_nlink == 1, "%d links", (int)stat.st_nlink);
        int other = open(test_path("second-name"), O_RDONLY);
        EXPECT(pwrite(linked, "L", 1, 0) == 1 && pread(other, got, 1, 0) == 1 && got[0] == 'L', "not the linked file");
        NEED(pwrite(linked, "l", 1, 0) == 1);
        close(other);
        EXPECT(pread(sealed, got, 64, 0) == 6 && memcmp(got, "memory", 6) == 0, "memfd");
        EXPECT(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW), "seals %#x", fcntl(sealed, F_GET_SEALS));
        EXPECT(ftruncate(sealed, 100) == -1 && errno == EPERM, "the seal does not hold");
        snprintf(path, sizeof path, "/proc/self/fd/%d", sealed);
        ssize_t n = readlink(path, got, sizeof got);
        EXPECT(n > 0 && memcmp(got, "/memfd:a memfd", 14) == 0, "name");
    } while (report());
    return finish();
}
