/*
 * A program with a live child called "the-child" (its pid is in DIR/child): no checkpoint can be
 * taken. The first round ends the child; from then on it can.
 */
#include "harness.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    char text[32];
    int status = 0;
    start(argc, argv);
    pid_t parent = getpid(), child = fork();
    NEED(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "the-child");
        test_publish("child", text, (size_t)snprintf(text, sizeof text, "%d\n", (int)getpid()));
        while (getppid() == parent)
            usleep(10000);
        _exit(0);
    }
    while (access(test_path("child"), F_OK) != 0)
        usleep(1000);
    ready();
    do {
        int round = next_round();
        if (round == 1) {
            EXPECT(waitpid(child, &status, WNOHANG) == 0, "the child has ended by itself");
            kill(child, SIGTERM);
            pid_t got;
            while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR)
                ;
            EXPECT(got == child && WIFSIGNALED(status), "waitpid gave %d, status %#x", got, status);
        }
        if (broken())
            child = fork();
        if (child == 0)
            _exit(0);
        errno = 0;
        EXPECT(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD, "there is a child");
    } while (report());
    return finish();
}
