/*
 * Code that is mapped from a file, as libraries are: DIR/code, which the program writes. The test replaces
 * it between checkpoint and restart, as an upgrade does; the program must go on with what it had, pages
 * that it has never looked at included.
 */
#include "harness.h"
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 40 };

int main(int argc, char **argv)
{
    start(argc, argv);
    char path[PATH_MAX], page[PAGE];
    snprintf(path, sizeof path, "%s/code", argv[1]);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    NEED(fd >= 0);
    for (int i = 0; i < PAGES; i++) {
        memset(page, 'A' + i % 20, sizeof page);
        NEED(write(fd, page, sizeof page) == sizeof page);
    }
    char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    NEED(map != MAP_FAILED);
    close(fd);
    NEED(map[0] == 'A'); /* the only page that is looked at before */
    ready();
    do {
        next_round();
        long wrong = broken();
        for (int i = 0; i < PAGES * PAGE; i++)
            wrong += map[i] != 'A' + i / PAGE % 20;
        EXPECT(wrong == 0, "%ld bytes of the mapped code have changed", wrong);
    } while (report());
    return finish();
}
