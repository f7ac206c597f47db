/* The writer of a FIFO, DIR/fifo, that the test reads, if it says so by an argument: a line each round, or EPIPE if DIR/gone. */
#include "harness.h"
#include <signal.h>

int main(int argc, char **argv)
{
    char line[32];
    start(argc, argv);
    if (argc < 3)
        skip("needs a reader");
    signal(SIGPIPE, SIG_IGN);
    NEED(mkfifo(test_path("fifo"), 0600) == 0);
    int fifo = open(test_path("fifo"), O_WRONLY);
    NEED(fifo >= 0);
    ready();
    do {
        int round = next_round(), gone = broken() || access(test_path("gone"), F_OK) == 0;
        int len = snprintf(line, sizeof line, "round %d\n", round);
        ssize_t n = write(fifo, line, (size_t)len);
        EXPECT(gone ? n == -1 && errno == EPIPE : n == len, "%zd, errno %d", n, errno);
    } while (report());
    return finish();
}
