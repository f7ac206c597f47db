/*
 * A memfd and a deleted file that are both open and mapped MAP_SHARED: what is written through the descriptor
 * shows in the mapping and the other way round, in each round.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096, LEN = 8 * PAGE };

int main(int argc, char **argv)
{
    char *map[2];
    int fd[2];
    start(argc, argv);
    fd[0] = memfd_create("both", 0);
    fd[1] = open(test_path("deleted"), O_RDWR | O_CREAT | O_EXCL, 0600);
    NEED(fd[0] >= 0 && fd[1] >= 0 && unlink(test_path("deleted")) == 0);
    for (int i = 0; i < 2; i++) {
        NEED(ftruncate(fd[i], LEN) == 0);
        map[i] = mmap(NULL, LEN - PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd[i], 0);
        NEED(map[i] != MAP_FAILED);
        pattern_fill(map[i], PAGE, 7 + i);
        NEED(pwrite(fd[i], "behind the mapping", 18, LEN - PAGE) == 18);
    }
    ready();
    do {
        char text[32];
        int round = next_round();
        if (broken())
            NEED(mmap(map[1], LEN - PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd[1], 0) == map[1]);
        for (int i = 0; i < 2; i++) {
            EXPECT(pattern_check(map[i], PAGE, 7 + i) < 0, "file %d: the first page", i);
            EXPECT(pread(fd[i], text, 18, LEN - PAGE) == 18 && memcmp(text, "behind the mapping", 18) == 0,
                   "file %d: what no mapping shows", i);
            map[i][2 * PAGE] = (char)round;
            EXPECT(pread(fd[i], text, 1, 2 * PAGE) == 1 && text[0] == (char)round, "file %d: from mapping to fd", i);
            text[0] = (char)(round + 1);
            EXPECT(pwrite(fd[i], text, 1, 3 * PAGE) == 1 && map[i][3 * PAGE] == text[0], "file %d: from fd to mapping", i);
        }
    } while (report());
    return finish();
}
