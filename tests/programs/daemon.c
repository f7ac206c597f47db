/*
 * A daemon of the old school: forks twice, with a session of its own, no terminal, standard streams
 * on /dev/null. DIR/ready holds the daemon's pid, DIR/first that of the process that was started and
 * has ended.
 */
#include "harness.h"
#include <sys/prctl.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    char text[32];
    start(argc, argv);
    pid_t first = getpid(), child = fork();
    NEED(child >= 0);
    if (child > 0)
        _exit(0);
    NEED(setsid() >= 0);
    child = fork();
    NEED(child >= 0);
    if (child > 0)
        _exit(0);
    NEED(chdir("/") == 0);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        NEED(dup2(null, fd) == fd);
    if (null > 2)
        close(null);
    umask(0);
    while (getppid() == first) /* the two above are gone */
        usleep(1000);
    test_publish("first", text, (size_t)snprintf(text, sizeof text, "%d\n", (int)first));
    char cwd[PATH_MAX];
    uint32_t *data = malloc(100000), seed = 1;
    NEED(data);
    pattern_fill(data, 100000, seed);
    ready();
    do {
        int round = next_round();
        struct stat st, want;
        if (broken())
            close(1);
        NEED(stat("/dev/null", &want) == 0);
        for (int fd = 0; fd < 3; fd++)
            EXPECT(fstat(fd, &st) == 0 && st.st_rdev == want.st_rdev, "fd %d is not /dev/null", fd);
        EXPECT(getcwd(cwd, sizeof cwd) && strcmp(cwd, "/") == 0, "working directory %s", cwd);
        EXPECT(pattern_check(data, 100000, seed) < 0, "the heap changed");
        seed = (uint32_t)round + 1;
        pattern_fill(data, 100000, seed);
    } while (report());
    return finish();
}
