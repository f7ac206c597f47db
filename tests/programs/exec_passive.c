/*
 * A program that runs another one, by fork and exec, and waits for it: the other is `exec_passive
 * DIR passive`, writes its pid to DIR/child, and counts in memory until DIR/end-child appears. It
 * must survive the job's checkpoint signal. The program itself has no round with the child alive
 * and a checkpoint; that is fork_child's subject.
 */
#include "harness.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int passive(void)
{
    char text[32];
    test_publish("child", text, (size_t)snprintf(text, sizeof text, "%d\n", (int)getpid()));
    while (access(test_path("end-child"), F_OK) != 0)
        usleep(1500);
    return 42;
}

int main(int argc, char **argv)
{
    int status = 0;
    start(argc, argv);
    if (argc > 2 && strcmp(argv[2], "passive") == 0)
        return passive();
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char *arguments[] = {argv[0], test_dir, "passive", NULL};
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    while (access(test_path("child"), F_OK) != 0) {
        NEED(waitpid(child, &status, WNOHANG) == 0);
        usleep(1000);
    }
    ready();
    do {
        int round = next_round();
        if (round == 1) {
            EXPECT(waitpid(child, &status, WNOHANG) == 0, "the child has ended: status %#x", status);
            if (broken())
                kill(child, SIGUSR2);
            test_publish("end-child", "", 0);
            while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
            EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 42, "the child's status is %#x", status);
        }
    } while (report());
    return finish();
}
