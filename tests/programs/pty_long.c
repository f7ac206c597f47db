/*
 * More lines wait in a pseudo-terminal within the process than its buffer holds: the rest waits before the terminal has
 * looked at it. All come once, in order, and each is echoed once.
 */
#include "harness.h"
#include <poll.h>
#include <stdlib.h>
#include <termios.h>

#define LINES 600
#define LINE 20

static int master, slave;

static void line_text(char text[LINE + 1], int number)
{
    snprintf(text, LINE + 1, "%018d.\n", number);
}

static int is_readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, broken() ? 100 : 20000) == 1;
}

static void type_lines(int seed)
{
    char text[LINE + 1];
    for (int i = 0; i < LINES; i++) {
        line_text(text, seed + i);
        NEED(write(master, text, LINE) == LINE);
    }
}

static int read_whole(int fd, char *text, int len)
{
    int done = 0;
    while (done < len && is_readable(fd)) {
        ssize_t n = read(fd, text + done, (size_t)(len - done));
        if (n <= 0)
            break;
        done += (int)n;
    }
    return done;
}

int main(int argc, char **argv)
{
    char name[64];
    int seed = 1;
    start(argc, argv);
    master = posix_openpt(O_RDWR | O_NOCTTY);
    NEED(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 && ptsname_r(master, name, sizeof name) == 0);
    slave = open(name, O_RDWR | O_NOCTTY);
    NEED(slave >= 0);
    type_lines(seed);
    ready();
    do {
        next_round();
        if (broken())
            tcflush(slave, TCIFLUSH);
        for (int i = 0; i < LINES && test_failures == 0; i++) {
            char text[LINE + 1], got[LINE + 2] = "";
            line_text(text, seed + i);
            int n = read_whole(slave, got, LINE);
            EXPECT(n == LINE && same_bytes(got, text, LINE), "line %d: %d bytes '%s'", i, n, got);
            n = read_whole(master, got, LINE + 1);
            EXPECT(n == LINE + 1 && same_bytes(got, text, LINE - 1) && same_bytes(got + LINE - 1, "\r\n", 2),
                   "echo of line %d: %d bytes '%s'", i, n, got);
        }
        struct pollfd more[] = {{.fd = slave, .events = POLLIN}, {.fd = master, .events = POLLIN}};
        EXPECT(poll(more, 2, 0) == 0, "more than was typed: %d %d", more[0].revents, more[1].revents);
        tcflush(slave, TCIOFLUSH);
        tcflush(master, TCIOFLUSH);
        seed += LINES;
        type_lines(seed);
    } while (report());
    return finish();
}
