/*
 * A message with a descriptor that waits in a UNIX socket: it is there, once, when the process goes on after a checkpoint.
 * In a restarted program the message comes without it, and the image says so.
 */
#include "harness.h"
#include <sys/socket.h>

static union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
} control;

static struct iovec iov;

static struct msghdr *message(char *text)
{
    static struct msghdr header;
    iov.iov_base = text;
    iov.iov_len = 4;
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    header.msg_control = &control;
    header.msg_controllen = sizeof control;
    header.msg_flags = 0;
    return &header;
}

static void send_descriptor(int to, int fd)
{
    struct msghdr *header = message("here");
    memset(&control, 0, sizeof control);
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    NEED(sendmsg(to, header, 0) == 4);
}

int main(int argc, char **argv)
{
    int pair[2], gone = 0;
    char got[4];
    struct stat one, two;
    start(argc, argv);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int file = open(test_path("sent"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    NEED(file >= 0 && fstat(file, &one) == 0);
    send_descriptor(pair[0], file);
    ready();
    do {
        next_round();
        gone = restarted();
        if (broken())
            NEED(recv(pair[1], got, 1, 0) == 1);
        struct msghdr *header = message(got);
        EXPECT(recvmsg(pair[1], header, MSG_DONTWAIT) == 4 && same_bytes(got, "here", 4), "the message: errno %d", errno);
        int there = header->msg_controllen >= CMSG_LEN(sizeof file);
        EXPECT(there == !gone, "%d bytes come with it", (int)header->msg_controllen);
        if (there) {
            int fd;
            memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
            EXPECT(fstat(fd, &two) == 0 && two.st_ino == one.st_ino, "it is another file");
            close(fd);
        }
        EXPECT(recv(pair[1], got, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "there is more");
        send_descriptor(pair[0], file);
    } while (report());
    return finish();
}
