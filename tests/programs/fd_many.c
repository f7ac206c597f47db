/*
 * Very many descriptors: ARG of them, files with offsets of their own, duplicates, pipes, event objects, devices; up to
 * the limit but for SPARE. With MORE the hard limit is higher by so much, and all numbers are taken while the program
 * waits. With TEST_ALONE=1 in the environment its user may start no more processes.
 */
#include "harness.h"
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { MOST = 100000 };
static int fds[MOST];

/* Waits without a free number, from the moment when the name "full" is there until the round begins. */
static void full_idle(void)
{
    static int taken[MOST];
    char go[32];
    int count = 0;
    while (count < MOST && (taken[count] = dup(fds[0])) >= 0)
        count++;
    NEED(symlink(".", test_path("full")) == 0 || errno == EEXIST);
    snprintf(go, sizeof go, "go.%d", test_round);
    do
        test_idle_sleep();
    while (access(test_path(go), F_OK) != 0);
    while (count > 0)
        close(taken[--count]);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int count = argc > 2 ? atoi(argv[2]) : 10000, spare = argc > 3 ? atoi(argv[3]) : 200;
    NEED(count <= MOST && count % 10 == 0);
    int more = argc > 4 ? atoi(argv[4]) : 0;
    if (argc > 4)
        idle = full_idle;
    struct rlimit limit = {(rlim_t)(count + spare), (rlim_t)(count + spare + more)}, now;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        skip("the limit of open files cannot be set");
    int file = open(test_path("file"), O_RDWR | O_CREAT, 0600);
    NEED(file >= 0 && ftruncate(file, count) == 0);
    close(file);
    for (int i = 0; i < count; i += 10) {
        char name[32];
        snprintf(name, sizeof name, "file-%d", i);
        for (int k = 0; k < 3; k++)
            fds[i + k] = open(test_path("file"), O_RDONLY);
        fds[i + 3] = dup(fds[i]);
        fds[i + 4] = open(test_path(name), O_RDWR | O_CREAT, 0600);
        NEED(pipe(fds + i + 5) == 0);
        fds[i + 7] = eventfd((unsigned)i, EFD_NONBLOCK);
        fds[i + 8] = open("/dev/null", O_RDWR);
        fds[i + 9] = open("/dev/zero", O_RDONLY);
        for (int k = 0; k < 10; k++)
            NEED(fds[i + k] >= 0);
        NEED(lseek(fds[i], i, SEEK_SET) == i && lseek(fds[i + 1], i, SEEK_SET) == i);
        NEED(write(fds[i + 6], &i, sizeof i) == sizeof i);
    }
    struct rlimit none = {0, 0};
    NEED(getenv("TEST_ALONE") == NULL || setrlimit(RLIMIT_NPROC, &none) == 0);
    ready();
    do {
        errno = 0;
        next_round();
        if (broken())
            lseek(fds[count / 2], 1, SEEK_SET);
        int wrong = 0;
        for (int i = 0; i < count; i += 10) {
            int got = -1;
            uint64_t events = 0;
            wrong += lseek(fds[i], 0, SEEK_CUR) != i || lseek(fds[i + 1], 0, SEEK_CUR) != i;
            wrong += lseek(fds[i + 3], i + 1, SEEK_SET) != i + 1 || lseek(fds[i], 0, SEEK_CUR) != i + 1;
            wrong += lseek(fds[i + 1], 0, SEEK_CUR) != i;
            lseek(fds[i], i, SEEK_SET);
            wrong += read(fds[i + 5], &got, sizeof got) != sizeof got || got != i;
            NEED(write(fds[i + 6], &i, sizeof i) == sizeof i);
            wrong += i != 0 && (read(fds[i + 7], &events, 8) != 8 || events != (unsigned)i);
            events = (unsigned)i;
            NEED(write(fds[i + 7], &events, 8) == 8);
            wrong += read(fds[i + 9], &got, 1) != 1;
        }
        EXPECT(wrong == 0, "%d descriptors are wrong", wrong);
        EXPECT(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max,
               "the limit is %ld of %ld", (long)now.rlim_cur, (long)now.rlim_max);
        errno = 0;
    } while (report());
    return finish();
}
