/*
 * ckpt_now() and the calls around it, by the header alone. Each round takes a checkpoint by
 * ckpt_now() and writes what it returned into the result ("returned 3", "available 1" ...). When the
 * test then kills and restarts the program, it comes out of the same ckpt_now() a second time, with 0,
 * and writes the same round's result again.
 *
 * Without the library the calls must say so, and the program passes.
 */
#include "harness.h"
#include <selfckpt.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static int before, after, restarts;

static void on_event(enum ckpt_event event, void *arg)
{
    if (arg != &before)
        return;
    before += event == CKPT_EVENT_BEFORE;
    after += event == CKPT_EVENT_AFTER;
    restarts += event == CKPT_EVENT_RESTART;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int available = ckpt_available(), expected_restarts = 0;
    char *excluded = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(excluded != MAP_FAILED);
    EXPECT(ckpt_generation() == 0, "generation %d before any checkpoint", ckpt_generation());
    EXPECT(ckpt_on(CKPT_EVENT_BEFORE, on_event, &before) == 0, "ckpt_on: errno %d", errno);
    EXPECT(ckpt_on(CKPT_EVENT_AFTER, on_event, &before) == 0, "ckpt_on: errno %d", errno);
    EXPECT(ckpt_on(CKPT_EVENT_RESTART, on_event, &before) == 0, "ckpt_on: errno %d", errno);
    EXPECT(ckpt_exclude(excluded + PAGE, 8 * PAGE) == 0, "ckpt_exclude: errno %d", errno);
    int early = test_failures;
    int taken = 0, expected_generation = 0;
    ready();
    do {
        int round = next_round();
        test_failures += early;
        pattern_fill(excluded, 16 * PAGE, (uint32_t)round);
        /* A blocked section, nested: no checkpoint inside, and errno says why. */
        EXPECT(ckpt_block() == 0 && ckpt_block() == 0, "ckpt_block: errno %d", errno);
        EXPECT(ckpt_unblock() == 0, "ckpt_unblock: errno %d", errno);
        errno = 0;
        int result = ckpt_now();
        EXPECT(result == -1 && errno == (available ? EBUSY : ENOSYS),
               "ckpt_now in a blocked section returned %d with errno %d", result, errno);
        EXPECT(ckpt_unblock() == 0, "ckpt_unblock: errno %d", errno);
        EXPECT(before == taken, "%d calls before a checkpoint instead of %d", before, taken);

        errno = 1234;
        result = ckpt_now();
        int error = errno;
        if (broken())
            result = -5;
        note("returned %d", result);
        note("available %d", available);
        note("generation %d", ckpt_generation());
        if (!available) {
            EXPECT(result == -1 && error == ENOSYS, "returned %d with errno %d", result, error);
            continue;
        }
        taken++;
        EXPECT(error == 1234, "errno became %d", error);
        EXPECT(result >= 0, "returned %d with errno %d", result, error);
        EXPECT(before == taken, "%d calls before a checkpoint instead of %d", before, taken);
        EXPECT(ckpt_generation() > expected_generation, "generation %d", ckpt_generation());
        expected_generation = ckpt_generation();
        if (result > 0) {
            EXPECT(result == ckpt_generation(), "returned %d, generation %d", result, ckpt_generation());
            EXPECT(after == taken - expected_restarts, "%d calls after a checkpoint instead of %d", after,
                   taken - expected_restarts);
            EXPECT(pattern_check(excluded, 16 * PAGE, (uint32_t)round) < 0, "memory changed");
        } else {
            expected_restarts++;
            EXPECT(pattern_check(excluded, PAGE, (uint32_t)round) < 0, "memory before it changed");
            EXPECT(all_zero(excluded + PAGE, 8 * PAGE), "the excluded memory is not zero");
        }
        EXPECT(restarts == expected_restarts, "%d calls after a restart instead of %d", restarts,
               expected_restarts);
    } while (report());
    return finish();
}
