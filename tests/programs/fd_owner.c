/*
 * Descriptors that tell somebody by a signal what happens to them: F_SETOWN, F_SETOWN_EX, F_SETSIG, O_ASYNC. The owner
 * is this process, its group, or one of its threads, whatever ids they have by now.
 */
#include "harness.h"
#include <pthread.h>
#include <signal.h>

static volatile int thread_id, thread_got;

static void *owner_thread(void *arg)
{
    struct timespec wait = {.tv_nsec = 2000000};
    sigset_t set;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    for (;;) {
        thread_id = (int)syscall(SYS_gettid);
        siginfo_t info;
        if (sigtimedwait(&set, &info, &wait) == SIGRTMIN + 2)
            thread_got = info.si_fd;
    }
    return NULL;
}

/* The descriptor that the signal names, or -1 if it has not come. */
static int signal_comes(int number)
{
    struct timespec wait = {.tv_sec = 10};
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, number);
    return sigtimedwait(&set, &info, &wait) == number ? info.si_fd : -1;
}

static int is_async(int fd)
{
    return (fcntl(fd, F_GETFL) & O_ASYNC) != 0;
}

int main(int argc, char **argv)
{
    int own[2], thread[2], group[2], unowned[2], plain[2];
    struct f_owner_ex owner;
    sigset_t set;
    pthread_t id;
    char c;
    int alone = 0;
    start(argc, argv);
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGRTMIN + 2);
    sigaddset(&set, SIGURG);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    NEED(pthread_create(&id, NULL, owner_thread, NULL) == 0);
    while (thread_id == 0)
        usleep(1000);
    NEED(pipe(own) == 0 && pipe(thread) == 0 && pipe(group) == 0 && pipe(unowned) == 0 && pipe(plain) == 0);

    NEED(fcntl(own[0], F_SETOWN, getpid()) == 0 && fcntl(own[0], F_SETSIG, SIGRTMIN + 1) == 0);
    owner = (struct f_owner_ex){F_OWNER_TID, thread_id};
    NEED(fcntl(thread[0], F_SETOWN_EX, &owner) == 0 && fcntl(thread[0], F_SETSIG, SIGRTMIN + 2) == 0);
    NEED(fcntl(group[0], F_SETOWN, -getpgrp()) == 0 && fcntl(group[0], F_SETSIG, SIGURG) == 0); /* harmless to others */
    NEED(fcntl(group[0], F_SETFL, O_ASYNC) == 0);
    NEED(fcntl(unowned[0], F_SETSIG, SIGRTMIN + 1) == 0);
    /* with SIGIO, to the main thread */
    owner = (struct f_owner_ex){F_OWNER_TID, getpid()};
    NEED(fcntl(plain[0], F_SETOWN_EX, &owner) == 0);
    NEED(fcntl(own[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0 && fcntl(thread[0], F_SETFL, O_ASYNC) == 0);
    NEED(fcntl(plain[0], F_SETFL, O_ASYNC) == 0);
    ready();
    do {
        next_round();
        if (broken())
            NEED(fcntl(own[0], F_SETOWN, 0) == 0 && fcntl(own[0], F_SETSIG, 0) == 0);
        /* the thread may not have looked since it came back */
        thread_id = 0;
        while (thread_id == 0)
            usleep(1000);
        EXPECT(fcntl(own[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_PID && owner.pid == getpid(),
               "owner %d %d, pid %d", owner.type, owner.pid, getpid());
        EXPECT(fcntl(own[0], F_GETSIG) == SIGRTMIN + 1, "signal %d", fcntl(own[0], F_GETSIG));
        EXPECT(is_async(own[0]) && is_async(group[0]) && is_async(thread[0]) && is_async(plain[0]), "O_ASYNC is gone");
        EXPECT(!is_async(own[1]) && !is_async(group[1]) && !is_async(unowned[0]), "O_ASYNC has come");
        EXPECT(fcntl(thread[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == thread_id,
               "owner %d %d, thread %d", owner.type, owner.pid, thread_id);
        EXPECT(fcntl(plain[0], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == getpid(),
               "owner %d %d, thread %d", owner.type, owner.pid, getpid());
        /* in a pid namespace the group lies outside, and cannot be named: from then on it is the process */
        alone = alone || getpgrp() == 0;
        EXPECT(fcntl(group[0], F_GETOWN_EX, &owner) == 0 && owner.type == (alone ? F_OWNER_PID : F_OWNER_PGRP) &&
                   owner.pid == (alone ? getpid() : getpgrp()),
               "owner %d %d, group %d", owner.type, owner.pid, getpgrp());
        EXPECT(fcntl(unowned[0], F_GETOWN_EX, &owner) == 0 && owner.pid == 0, "owner %d %d", owner.type, owner.pid);
        EXPECT(fcntl(unowned[0], F_GETSIG) == SIGRTMIN + 1, "signal %d", fcntl(unowned[0], F_GETSIG));

        NEED(write(own[1], "a", 1) == 1);
        int fd = signal_comes(SIGRTMIN + 1);
        EXPECT(fd == own[0], "the signal names fd %d", fd);
        NEED(write(plain[1], "a", 1) == 1);
        EXPECT(signal_comes(SIGIO) >= 0, "no SIGIO");
        NEED(write(group[1], "a", 1) == 1);
        fd = signal_comes(SIGURG);
        EXPECT(fd == group[0], "the group's signal names fd %d", fd);
        thread_got = -1;
        NEED(write(thread[1], "a", 1) == 1);
        for (int i = 0; i < 5000 && thread_got < 0; i++)
            usleep(1000);
        EXPECT(thread_got == thread[0], "the thread's signal names fd %d", thread_got);
        NEED(read(own[0], &c, 1) == 1 && read(plain[0], &c, 1) == 1 && read(thread[0], &c, 1) == 1 &&
             read(group[0], &c, 1) == 1);
        /* a pipe that is emptied tells its owner as well, if that is who writes: nothing may be left */
        struct timespec now = {0};
        while (sigtimedwait(&set, NULL, &now) > 0)
            ;
        errno = 0;
    } while (report());
    return finish();
}
