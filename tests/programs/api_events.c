/*
 * ckpt_on(): functions are called before a checkpoint, after it, and after a restart, in the order in which they were
 * given, with the argument that was given, on a thread that may be interrupted anywhere, whose mask stays.
 */
#include "harness.h"
#include <selfckpt.h>
#include <signal.h>

static volatile int counts[3], last = -1, second_last = -1, wrong_arg, wrong_order, wrong_mask;
static char marks[3], second_marks[3];
static sigset_t mask;

static void on_event(enum ckpt_event event, void *arg)
{
    sigset_t now;
    counts[event]++;
    wrong_arg += arg != &marks[event];
    /* Every second one is CKPT_CHECKPOINT. */
    wrong_order += (event == CKPT_CHECKPOINT) == (last == CKPT_CHECKPOINT);
    last = event;
    sigprocmask(SIG_BLOCK, NULL, &now);
    wrong_mask += memcmp(&now, &mask, 8) != 0;
}

/* Given later: called behind the other one. */
static void on_event_second(enum ckpt_event event, void *arg)
{
    wrong_arg += arg != &second_marks[event];
    wrong_order += last != (int)event || second_last == (int)event;
    second_last = event;
}

static double sum;
static int spoiled;

static void compute(void)
{
    /* Registers that a function called in the middle would spoil, if nobody saved them. */
    double a = 1.5, b = 2.25, c = 3.125;
    for (int i = 0; i < 200000; i++) {
        a = a * 1.0000001 + b * 1e-9;
        b = b * 0.9999999 + c * 1e-9;
        c = c + 1e-7;
    }
    volatile double total = a + b + c; /* as a double, not as what a register holds */
    spoiled += sum != 0 && total != sum;
    sum = total;
    test_idle_sleep();
}

int main(int argc, char **argv)
{
    start(argc, argv);
    NEED(ckpt_on(CKPT_CHECKPOINT, on_event, &marks[0]) == 0);
    NEED(ckpt_on(CKPT_CONTINUE, on_event, &marks[1]) == 0);
    NEED(ckpt_on(CKPT_RESTART, on_event, &marks[2]) == 0);
    for (int event = CKPT_CHECKPOINT; event <= CKPT_RESTART; event++)
        NEED(ckpt_on((enum ckpt_event)event, on_event_second, &second_marks[event]) == 0);
    if (ckpt_available()) {
        EXPECT(ckpt_on((enum ckpt_event)7, on_event, NULL) == -1 && errno == EINVAL, "event 7 exists");
        NEED(test_failures == 0);
    }
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGHUP);
    sigaddset(&some, SIGRTMIN + 7);
    sigprocmask(SIG_BLOCK, &some, NULL);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    idle = compute;
    ready();
    do {
        next_round();
        if (broken())
            counts[CKPT_RESTART] += 2;
        EXPECT(counts[0] == counts[1] + counts[2], "%d checkpoints, %d went on, %d restarts", counts[0], counts[1],
               counts[2]);
        EXPECT(wrong_arg == 0 && wrong_order == 0 && wrong_mask == 0, "arguments %d, order %d, masks %d", wrong_arg,
               wrong_order, wrong_mask);
        EXPECT(spoiled == 0, "%d results are wrong", spoiled);
        EXPECT(!restarted() || (last == CKPT_RESTART && second_last == CKPT_RESTART), "the last event was %d", last);
        note("events %d %d %d", counts[0], counts[1], counts[2]);
    } while (report());
    return finish();
}
