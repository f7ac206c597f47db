/* The address that the kernel clears when the thread ends (set_tid_address). */
#include "harness.h"
#include <sys/prctl.h>

static uint32_t address(void)
{
    uint32_t words[2] = {0, 0}; /* a 64-bit kernel writes eight bytes */
    return prctl(PR_GET_TID_ADDRESS, words) == 0 ? words[0] : 0;
}

int main(int argc, char **argv)
{
    static int other;
    start(argc, argv);
    uint32_t want = address();
    if (want == 0)
        skip("this kernel does not tell the address");
    ready();
    do {
        next_round();
        if (broken())
            syscall(SYS_set_tid_address, &other);
        EXPECT(address() == want, "%#x instead of %#x", address(), want);
    } while (report());
    return finish();
}
