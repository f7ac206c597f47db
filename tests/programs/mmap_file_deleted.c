/* A private mapping of a file that has been deleted since: its pages are nowhere else. */
#include "harness.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
    static char data[5 * 4096];
    start(argc, argv);
    int fd = open(test_path("gone"), O_RDWR | O_CREAT | O_TRUNC, 0644);
    NEED(fd >= 0);
    pattern_fill(data, sizeof data, 4);
    NEED(write(fd, data, sizeof data) == (ssize_t)sizeof data);
    char *map = mmap(NULL, sizeof data, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    NEED(map != MAP_FAILED);
    close(fd);
    NEED(unlink(test_path("gone")) == 0);
    uint32_t seed = 1;
    pattern_fill(map + 4096, 4096, seed);
    ready();
    do {
        int round = next_round();
        if (broken())
            memset(map + 3 * 4096, 0, 4096);
        EXPECT(same_bytes(map, data, 4096), "page 0 changed");
        EXPECT(pattern_check(map + 4096, 4096, seed) < 0, "the written page changed");
        EXPECT(same_bytes(map + 8192, data + 8192, 3 * 4096), "pages 2 to 4 changed");
        seed = (uint32_t)round + 9;
        pattern_fill(map + 4096, 4096, seed);
    } while (report());
    return finish();
}
