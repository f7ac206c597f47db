/*
 * ckpt_block(): what asks for a checkpoint within a blocked section gets it when the last ckpt_unblock() ends that, once,
 * however often it has asked. What asks while the functions of ckpt_on() are called gets it after them.
 */
#include "harness.h"
#include <selfckpt.h>
#include <signal.h>

static volatile int checkpoints, asks_once_more;

static void on_event(enum ckpt_event event, void *unused)
{
    (void)unused;
    if (event == CKPT_CHECKPOINT) {
        checkpoints++;
    } else if (asks_once_more) {
        asks_once_more = 0;
        kill(getpid(), SIGUSR2);
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    NEED(ckpt_on(CKPT_CHECKPOINT, on_event, NULL) == 0 && ckpt_on(CKPT_CONTINUE, on_event, NULL) == 0);
    int available = ckpt_available();
    ready();
    do {
        char blocked[32], sent[32];
        int round = next_round(), expected = available ? 2 : 0;
        snprintf(blocked, sizeof blocked, "blocked.%d", round);
        snprintf(sent, sizeof sent, "sent.%d", round);
        int before = ckpt_generation();
        checkpoints = 0;
        NEED(ckpt_block() == 0 && ckpt_block() == 0);
        test_publish(blocked, "", 0);
        while (access(test_path(sent), F_OK) != 0)
            test_idle_sleep();
        EXPECT(checkpoints == 0, "%d checkpoints in a blocked section", checkpoints);
        EXPECT(ckpt_unblock() == 0 && checkpoints == 0, "%d checkpoints in the outer of two", checkpoints);
        asks_once_more = 1;
        EXPECT(ckpt_unblock() == 0 && checkpoints == expected, "%d checkpoints behind it", checkpoints);
        if (available)
            EXPECT(ckpt_unblock() == -1 && errno == EINVAL, "more are ended than were begun: errno %d", errno);
        if (broken())
            expected++;
        for (int i = 0; i < 10000 && ckpt_generation() != before + expected; i++)
            usleep(2000);
        EXPECT(ckpt_generation() == before + expected, "generation %d after %d", ckpt_generation(), before);
    } while (report());
    return finish();
}
