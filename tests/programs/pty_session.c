/*
 * A pseudo-terminal within the process that is its controlling terminal: it still is when the process goes on after a
 * checkpoint. In a restarted program it is there, but controls nothing, and the image says so.
 */
#include "harness.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

int main(int argc, char **argv)
{
    char name[64], c;
    int gone = 0;
    pid_t session;
    start(argc, argv);
    signal(SIGHUP, SIG_IGN);
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    NEED(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 && ptsname_r(master, name, sizeof name) == 0);
    if (setsid() < 0)
        skip("leads a process group");
    int slave = open(name, O_RDWR);
    NEED(slave >= 0 && ioctl(slave, TIOCGSID, &session) == 0);
    ready();
    do {
        next_round();
        gone |= restarted();
        if (broken())
            tcflush(slave, close(master) == 0 ? TCIOFLUSH : TCIFLUSH);
        EXPECT(gone || ioctl(slave, TIOCGSID, &session) == 0, "it is no controlling terminal: errno %d", errno);
        EXPECT(write(master, "x\n", 2) == 2 && read(slave, &c, 1) == 1 && c == 'x', "input: '%c' errno %d", c, errno);
        tcflush(slave, TCIOFLUSH);
        tcflush(master, TCIOFLUSH);
    } while (report());
    return finish();
}
