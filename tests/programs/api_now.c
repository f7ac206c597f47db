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
int main(int argc, char **argv)
{
    start(argc, argv);
    int available = ckpt_available();
    EXPECT(ckpt_generation() == 0, "generation %d before any checkpoint", ckpt_generation());
    int early = test_failures;
    int expected_generation = 0;
    ready();
    do {
        next_round();
        test_failures += early;
        /* A blocked section, nested: no checkpoint inside, and errno says why. */
        EXPECT(ckpt_block() == 0 && ckpt_block() == 0, "ckpt_block: errno %d", errno);
        EXPECT(ckpt_unblock() == 0, "ckpt_unblock: errno %d", errno);
        errno = 0;
        int result = ckpt_now();
        EXPECT(result == -1 && errno == (available ? EBUSY : ENOSYS),
               "ckpt_now in a blocked section returned %d with errno %d", result, errno);
        EXPECT(ckpt_unblock() == 0, "ckpt_unblock: errno %d", errno);

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
        EXPECT(error == 1234, "errno became %d", error);
        EXPECT(result >= 0, "returned %d with errno %d", result, error);
        EXPECT(ckpt_generation() > expected_generation, "generation %d", ckpt_generation());
        expected_generation = ckpt_generation();
        if (result > 0) {
            EXPECT(result == ckpt_generation(), "returned %d, generation %d", result, ckpt_generation());
        }
    } while (report());
    return finish();
}
