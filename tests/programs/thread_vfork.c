/* A thread that stands in vfork(2), where no signal reaches it before its child, which shares all memory, lets it go on:
 * in the first round. The child's pid is in DIR/child. */
#include "harness.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static volatile int child_pid, let_go;
static pthread_t thread;
static int status = -1;

static void *spawn(void *unused)
{
    prctl(PR_SET_NAME, "spawner");
    pid_t child = vfork();
    if (child == 0) {
        child_pid = (int)syscall(SYS_getpid);
        while (!let_go)
            usleep(1000);
        _exit(7);
    }
    NEED(child > 0 && waitpid(child, &status, 0) == child);
    return unused;
}

int main(int argc, char **argv)
{
    char text[32];
    start(argc, argv);
    NEED(pthread_create(&thread, NULL, spawn, NULL) == 0);
    while (child_pid == 0)
        usleep(1000);
    test_publish("child", text, (size_t)snprintf(text, sizeof text, "%d\n", child_pid));
    ready();
    do {
        if (next_round() == 1) {
            EXPECT(status == -1, "vfork is over: %x", status);
            let_go = 1;
            NEED(pthread_join(thread, NULL) == 0);
        }
        if (broken())
            status = 0;
        EXPECT(status == 7 << 8, "the child ended with %x", status);
    } while (report());
    return finish();
}
