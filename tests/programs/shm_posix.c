/*
 * POSIX shared memory whose name is still there, written through a mapping and through its descriptor, mapped a second time
 * read-only; another object without a descriptor, of which only a part is mapped; a named semaphore.
 */
// libs: -lrt -pthread
#include "harness.h"
#include <semaphore.h>
#include <sys/mman.h>

enum { PAGE = 4096, LEN = 8 * PAGE };

int main(int argc, char **argv)
{
    char name[64], text[64] = "", names[200];
    struct stat stat_buf;
    int value;
    start(argc, argv);
    int len = snprintf(names, sizeof names, "/selfckpt-shm-%d /selfckpt-shm2-%d /sem.selfckpt-sem-%d", (int)getpid(),
                       (int)getpid(), (int)getpid());
    sscanf(names, "%63s", name);
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    NEED(fd >= 0 && ftruncate(fd, LEN - 100) == 0 && fchmod(fd, 0640) == 0);
    char *map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *constant = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
    NEED(map != MAP_FAILED && constant != MAP_FAILED);
    char *second = strchr(names, ' ') + 1, *third = strchr(second, ' ') + 1;
    snprintf(name, sizeof name, "%.*s", (int)(third - second - 1), second);
    int fd2 = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    NEED(fd2 >= 0 && ftruncate(fd2, LEN) == 0);
    char *part = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd2, 4 * PAGE);
    NEED(part != MAP_FAILED && close(fd2) == 0);
    char sem_name[64];
    snprintf(sem_name, sizeof sem_name, "/%s", third + 5);
    sem_t *sem = sem_open(sem_name, O_CREAT | O_EXCL, 0600, 4);
    NEED(sem != SEM_FAILED);
    test_publish("names", names, (size_t)len);
    unsigned seed = 5;
    pattern_fill(map, 3 * PAGE, seed);
    NEED(pwrite(fd, "by descriptor", 13, 6 * PAGE) == 13);
    pattern_fill(part + PAGE, PAGE, seed);
    NEED(mprotect(part, PAGE, PROT_NONE) == 0);
    ready();
    do {
        int round = next_round();
        if (broken())
            map[PAGE] ^= 1;
        EXPECT(pattern_check(map, 3 * PAGE, seed) < 0, "what was written");
        EXPECT(pread(fd, text, 13, 6 * PAGE) == 13 && same_bytes(text, "by descriptor", 13), "by descriptor: '%s'", text);
        EXPECT(same_bytes(map + 6 * PAGE, text, 13), "the mapping does not show it");
        EXPECT(all_zero(map + 3 * PAGE, 3 * PAGE), "untouched pages");
        map[5 * PAGE] ^= 1;
        EXPECT(constant[5 * PAGE] == map[5 * PAGE], "the second mapping is another memory");
        map[5 * PAGE] = 0;
        EXPECT(fstat(fd, &stat_buf) == 0 && (stat_buf.st_mode & 07777) == 0640 && stat_buf.st_size == LEN - 100,
               "mode %o, %ld bytes", stat_buf.st_mode, (long)stat_buf.st_size);
        EXPECT(pattern_check(part + PAGE, PAGE, seed) < 0, "the part");
        sscanf(names, "%63s", name);
        int again = shm_open(name, O_RDWR, 0);
        char c = 'x';
        EXPECT(again >= 0 && pwrite(again, &c, 1, 4 * PAGE + 8) == 1 && map[4 * PAGE + 8] == 'x', "the name leads elsewhere");
        map[4 * PAGE + 8] = 0;
        close(again);
        EXPECT(sem_getvalue(sem, &value) == 0 && value == 3 + round, "semaphore: %d", value);
        sem_t *other = sem_open(sem_name, 0);
        NEED(other != SEM_FAILED && sem_post(other) == 0);
        EXPECT(sem_getvalue(sem, &value) == 0 && value == 4 + round, "the semaphore's name leads elsewhere: %d", value);
        sem_close(other);
        /* i386 keeps the value above a bit for waiters. */
        int file = shm_open(third, O_RDONLY, 0);
        EXPECT(file >= 0 && read(file, &value, sizeof value) == sizeof value && value / 2 == 4 + round, "its file: %d", value);
        close(file);
        seed = (unsigned)round + 100;
        pattern_fill(map, 3 * PAGE, seed);
        pattern_fill(part + PAGE, PAGE, seed);
    } while (report());
    sscanf(names, "%63s", name);
    shm_unlink(name);
    snprintf(name, sizeof name, "%.*s", (int)(third - second - 1), second);
    shm_unlink(name);
    sem_unlink(sem_name);
    return finish();
}
