/*
 * A pipe (fd 15) and a socket (fd 16) that whoever has started the program gave to it. It says what it reads from them, and
 * whether their end has come: the test knows which it has to be.
 */
#include "harness.h"
#include <sys/socket.h>

static void tell(int fd, const char *what)
{
    char got[64] = "", c;
    struct stat stat_buf;
    EXPECT(fstat(fd, &stat_buf) == 0, "%s: fd %d is closed", what, fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    ssize_t n = read(fd, got, sizeof got - 1);
    ssize_t more = n > 0 ? read(fd, &c, 1) : n;
    note("%s '%s' %s", what, got, more == 0 ? "end" : more < 0 && errno == EAGAIN ? "open" : "error");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (fcntl(15, F_GETFD) < 0 || fcntl(16, F_GETFD) < 0)
        skip("needs descriptors 15 and 16");
    ready();
    do {
        next_round();
        tell(15, "pipe");
        tell(16, "socket");
    } while (report());
    return finish();
}
