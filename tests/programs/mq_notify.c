/*
 * A POSIX message queue of whose next message the process is to be told (mq_notify): it is, when it goes on after a
 * checkpoint, with a message that waits and without one. In a restarted program nobody is told, and the image says so.
 */
// libs: -lrt
#include "harness.h"
#include <mqueue.h>
#include <signal.h>

static volatile int told;

static void on_message(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    told = info->si_value.sival_int;
}

static mqd_t make(const char *name)
{
    struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    NEED(queue != (mqd_t)-1 && mq_unlink(name) == 0);
    return queue;
}

static void ask(mqd_t queue, int value)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = value};
    NEED(mq_notify(queue, &event) == 0);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_message, .sa_flags = SA_SIGINFO};
    char got[16], name[64];
    start(argc, argv);
    NEED(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    snprintf(name, sizeof name, "/selfckpt-notify-%d", (int)getpid());
    mqd_t empty = make(name), waiting = make(name);
    NEED(mq_send(waiting, "waits", 5, 1) == 0);
    ask(empty, 1);
    ask(waiting, 2);
    ready();
    do {
        next_round();
        if (broken())
            mq_notify(empty, NULL);
        int there = !restarted();
        EXPECT(told == 0, "told %d too early", told);
        NEED(mq_send(empty, "a", 1, 0) == 0);
        EXPECT(told == there, "told %d", told);
        NEED(mq_receive(empty, got, sizeof got, NULL) == 1);
        if (there) {
            EXPECT(mq_receive(waiting, got, sizeof got, NULL) == 5 && same_bytes(got, "waits", 5), "what waited");
            NEED(mq_send(waiting, "b", 1, 0) == 0);
            EXPECT(told == 2, "told %d", told);
            NEED(mq_receive(waiting, got, sizeof got, NULL) == 1);
            ask(empty, 1);
            NEED(mq_send(waiting, "waits", 5, 1) == 0);
            ask(waiting, 2);
        }
        told = 0;
    } while (report());
    return finish();
}
