/*
 * Files of more than 4 GiB that are nearly all hole: output that is appended at their ends, also through a second
 * description, and an offset in between that is read from.
 */
#define _LARGEFILE64_SOURCE
#include "harness.h"

#define FAR (5LL << 30)

static long long size_of(int fd)
{
    struct stat64 stat;
    return fstat64(fd, &stat) == 0 ? (long long)stat.st_size : -errno;
}

int main(int argc, char **argv)
{
    char got[8];
    start(argc, argv);
    int output = open64(test_path("output"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    int second = open64(test_path("output"), O_WRONLY | O_APPEND), reader = open64(test_path("output"), O_RDONLY);
    NEED(output >= 0 && second >= 0 && reader >= 0 && ftruncate64(output, FAR) == 0);
    NEED(write(output, "begin", 5) == 5 && lseek64(reader, FAR + 1, SEEK_SET) == FAR + 1);
    long long size = FAR + 5;
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(ftruncate64(output, FAR) == 0);
        EXPECT(size_of(output) == size, "%lld bytes instead of %lld", size_of(output), size);
        EXPECT(lseek64(output, 0, SEEK_CUR) == size, "offset %lld", (long long)lseek64(output, 0, SEEK_CUR));
        EXPECT(lseek64(reader, 0, SEEK_CUR) == FAR + round, "the reader's offset %lld", (long long)lseek64(reader, 0, SEEK_CUR));
        EXPECT(read(reader, got, 1) == 1 && got[0] == "begin1234567"[round], "read %#x", got[0]);
        char digit = (char)('0' + 2 * round - 1), next = (char)(digit + 1);
        EXPECT(write(second, &digit, 1) == 1 && write(output, &next, 1) == 1, "append: errno %d", errno);
        EXPECT(size_of(output) == size + 2, "%lld bytes after two more", size_of(output));
        EXPECT(pread64(reader, got, 2, size) == 2 && got[0] == digit && got[1] == next, "appended elsewhere: %#x, %#x", got[0], got[1]);
        size += 2;
        struct stat64 stat;
        EXPECT(fstat64(output, &stat) == 0 && stat.st_blocks < 1000, "%lld blocks", (long long)stat.st_blocks);
    } while (report());
    return finish();
}
