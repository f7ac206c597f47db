/* A thread with descriptors and a working directory of its own, and another with another effective user where that
 * is allowed: notices name them, by the tids in the files `unshared` and `other_user`. */
#include "harness.h"
#include <pthread.h>
#include <sched.h>

static volatile int ready_threads;

static void tell(const char *name)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)syscall(SYS_gettid));
    test_publish(name, text, strlen(text));
}

static void *stay(void)
{
    __sync_add_and_fetch(&ready_threads, 1);
    for (;;)
        pause();
    return NULL;
}

static void *unshared(void *unused)
{
    NEED(unshare(CLONE_FILES | CLONE_FS) == 0);
    (void)unused;
    tell("unshared");
    return stay();
}

static void *other_user(void *unused)
{
    (void)unused;
    tell("other_user");
    /* the bare call: for this thread alone */
    if (geteuid() == 0)
        NEED(syscall(SYS_setresuid32, -1, 65534, -1) == 0);
    return stay();
}

int main(int argc, char **argv)
{
    pthread_t thread;
    start(argc, argv);
    NEED(pthread_create(&thread, NULL, unshared, NULL) == 0 && pthread_create(&thread, NULL, other_user, NULL) == 0);
    while (ready_threads < 2)
        usleep(1000);
    ready();
    do {
        next_round();
        EXPECT(!broken() && ready_threads == 2, "spoilt");
    } while (report());
    return finish();
}
