/* The kernel still knows the head of the robust mutex list. */
#include "harness.h"

int main(int argc, char **argv)
{
    uint32_t want_head = 0, want_len = 0, head, len;
    start(argc, argv);
    NEED(syscall(SYS_get_robust_list, 0, &want_head, &want_len) == 0 && want_head != 0);
    ready();
    do {
        next_round();
        if (broken())
            syscall(SYS_set_robust_list, NULL, 12);
        head = len = 0;
        EXPECT(syscall(SYS_get_robust_list, 0, &head, &len) == 0, "errno %d", errno);
        EXPECT(head == want_head && len == want_len, "%#x+%u instead of %#x+%u", head, len, want_head,
               want_len);
    } while (report());
    return finish();
}
