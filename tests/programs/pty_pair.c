/*
 * A pseudo-terminal with both ends in the process: settings, window size, what waits in either direction; one in
 * packet mode; one that takes lines, of which some wait, with ends of file and a line only begun; one whose slave was
 * closed; one that is still locked.
 */
#include "harness.h"
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

static int open_master(void)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    NEED(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0);
    return fd;
}

static int open_slave(int master)
{
    char name[64];
    NEED(ptsname_r(master, name, sizeof name) == 0);
    int fd = open(name, O_RDWR | O_NOCTTY);
    NEED(fd >= 0);
    return fd;
}

static void expect(int fd, const char *what, const char *text, size_t len)
{
    char got[64] = "";
    size_t n = 0;
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    while (n < len && poll(&poll_fd, 1, 10000) == 1) {
        ssize_t one = read(fd, got + n, len - n);
        if (one <= 0)
            break;
        n += (size_t)one;
    }
    EXPECT(n == len && same_bytes(got, text, len), "%s: %zu bytes '%s' (errno %d)", what, n, got, errno);
    EXPECT(poll(&poll_fd, 1, 0) == 0 || (poll_fd.revents & POLLIN) == 0, "%s: there is more", what);
}

static void await_input(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    NEED(poll(&poll_fd, 1, 10000) == 1);
}

static void expect_line(int fd, const char *line)
{
    char got[64] = "";
    await_input(fd);
    ssize_t n = read(fd, got, sizeof got - 1);
    EXPECT(n == (ssize_t)strlen(line) && strcmp(got, line) == 0, "the line is %zd bytes '%s', not '%s'", n, got, line);
}

int main(int argc, char **argv)
{
    struct winsize size = {.ws_row = 43, .ws_col = 131}, now_size;
    struct termios raw, now;
    int one = 1, first = 1, value;
    start(argc, argv);
    int master = open_master(), slave = open_slave(master);
    NEED(tcgetattr(slave, &raw) == 0);
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST | ONLCR;
    raw.c_cc[VINTR] = 7;
    NEED(tcsetattr(slave, TCSANOW, &raw) == 0 && ioctl(master, TIOCSWINSZ, &size) == 0);
    int packet = open_master(), packet_slave = open_slave(packet);
    NEED(ioctl(packet, TIOCPKT, &one) == 0);
    int lines = open_master(), lines_slave = open_slave(lines);
    struct termios cooked;
    NEED(tcgetattr(lines_slave, &cooked) == 0);
    cooked.c_lflag &= ~(tcflag_t)ECHO;
    cooked.c_cc[VEOL] = '!';
    NEED((cooked.c_lflag & ICANON) != 0 && tcsetattr(lines_slave, TCSANOW, &cooked) == 0);
    int hung = open_master(), locked = posix_openpt(O_RDWR | O_NOCTTY);
    close(open_slave(hung));
    NEED(locked >= 0);
    do {
        /* The newline becomes two bytes on its way, once. */
        NEED(write(slave, "out\n", 4) == 4 && write(master, "in\rput\003", 7) == 7);
        NEED(write(packet_slave, "packet", 6) == 6);
        static const char waiting[] = "first\n\004second!third\nbefore\004beg\177gun";
        NEED(write(lines, waiting, sizeof waiting - 1) == sizeof waiting - 1);
        await_input(lines_slave);
        await_input(slave);
        if (first)
            ready();
        first = 0;
        next_round();
        if (broken())
            NEED(ioctl(master, TIOCSWINSZ, &(struct winsize){.ws_row = 1}) == 0);
        expect(master, "output", "out\r\n", 5);
        expect(slave, "input", "in\rput\003", 7);
        expect(packet, "packet", "\0packet", 7);
        NEED(tcgetattr(slave, &now) == 0);
        EXPECT(now.c_lflag == raw.c_lflag && now.c_oflag == raw.c_oflag && now.c_iflag == raw.c_iflag, "settings");
        EXPECT(now.c_cc[VINTR] == 7, "VINTR %d", now.c_cc[VINTR]);
        EXPECT(ioctl(slave, TIOCGWINSZ, &now_size) == 0 && now_size.ws_row == 43 && now_size.ws_col == 131, "%d x %d",
               now_size.ws_col, now_size.ws_row);
        EXPECT(ioctl(packet, TIOCGPKT, &value) == 0 && value == 1, "packet mode");
        NEED(write(lines, " \n", 2) == 2);
        expect_line(lines_slave, "first\n");
        expect_line(lines_slave, "");
        expect_line(lines_slave, "second!");
        expect_line(lines_slave, "third\n");
        expect_line(lines_slave, "before");
        expect_line(lines_slave, "begun \n");
        NEED(tcgetattr(lines_slave, &now) == 0);
        EXPECT(now.c_lflag == cooked.c_lflag && now.c_oflag == cooked.c_oflag && now.c_iflag == cooked.c_iflag &&
                   same_bytes(now.c_cc, cooked.c_cc, VEOL2 + 1),
               "settings of the one with lines");
        NEED(tcgetattr(packet_slave, &now) == 0);
        EXPECT((now.c_lflag & (ICANON | ECHO)) == (ICANON | ECHO), "the second one's settings");
        struct pollfd hung_poll = {.fd = hung, .events = POLLIN};
        EXPECT(poll(&hung_poll, 1, 0) == 1 && (hung_poll.revents & POLLHUP), "the closed one: events %x", hung_poll.revents);
        EXPECT(ioctl(locked, TIOCGPTLCK, &value) == 0 && value == 1, "the lock");
    } while (report());
    return finish();
}
