/*
 * A pseudo-terminal within the process that is its controlling terminal, by a session that the process leads, with its group in
 * the foreground: what /dev/tty leads to, opened before and now, and what interrupts it. A terminal that it has beside that
 * one is another one.
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, other;
static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupts++;
}

static int open_master(char *name, size_t size)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    NEED(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 && ptsname_r(fd, name, size) == 0);
    return fd;
}

/* Milliseconds. */
static int patience(void)
{
    return broken() ? 100 : 30000;
}

/* What is written to `from` comes out of `to`, the other end. */
static void expect_byte(int from, int to, char byte, const char *what)
{
    char got[8] = "";
    struct pollfd wait = {.fd = to, .events = POLLIN};
    EXPECT(write(from, &byte, 1) == 1, "%s: write: errno %d", what, errno);
    EXPECT(poll(&wait, 1, patience()) == 1 && read(to, got, sizeof got) == 1 && got[0] == byte, "%s: '%s'", what, got);
}

int main(int argc, char **argv)
{
    char name[64];
    struct termios settings;
    pid_t session;
    start(argc, argv);
    signal(SIGINT, on_interrupt);
    signal(SIGHUP, SIG_IGN);
    other = open_master(name, sizeof name);
    int other_slave = open(name, O_RDWR | O_NOCTTY);
    master = open_master(name, sizeof name);
    if (setsid() < 0)
        skip("leads a process group");
    int slave = open(name, O_RDWR), before = open("/dev/tty", O_RDWR);
    NEED(slave >= 0 && before >= 0 && ioctl(slave, TIOCGSID, &session) == 0);
    NEED(tcgetattr(slave, &settings) == 0);
    settings.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
    settings.c_oflag = 0;
    NEED(tcsetattr(slave, TCSANOW, &settings) == 0 && tcsetattr(other_slave, TCSANOW, &settings) == 0);
    ready();
    do {
        next_round();
        if (broken())
            NEED(ioctl(slave, TIOCNOTTY) == 0);
        EXPECT(ioctl(slave, TIOCGSID, &session) == 0, "it is no controlling terminal: errno %d", errno);
        EXPECT(getsid(0) == getpid() && tcgetsid(slave) == getpid(), "session %d, the terminal's %d", (int)getsid(0), (int)tcgetsid(slave));
        EXPECT(tcgetpgrp(slave) == getpgrp() && getpgrp() == getpid(), "foreground %d", (int)tcgetpgrp(slave));
        EXPECT(ioctl(other_slave, TIOCGSID, &session) == -1, "the other terminal is in control");
        int now = open("/dev/tty", O_RDWR);
        EXPECT(now >= 0, "/dev/tty: errno %d", errno);
        expect_byte(master, now, 'a', "/dev/tty of now");
        expect_byte(now, master, 'b', "/dev/tty of now, output");
        expect_byte(master, before, 'c', "/dev/tty of before");
        expect_byte(before, master, 'd', "/dev/tty of before, output");
        expect_byte(other, other_slave, 'e', "the other terminal");
        close(now);
        int had = interrupts;
        EXPECT(write(master, "\003", 1) == 1, "write: errno %d", errno);
        for (int i = 0; i < patience() && interrupts == had; i++)
            usleep(1000);
        EXPECT(interrupts == had + 1, "%d interrupts", interrupts - had);
    } while (report());
    return finish();
}
