/*
 * Messages that were sent to a UNIX socket before and after it wanted to know their senders (SO_PASSCRED): in streams, pairs of
 * datagrams, datagrams by name, and beside descriptors. What the kernel tells of each is the same as without a checkpoint.
 */
#include "harness.h"
#include <sys/socket.h>
#include <sys/un.h>

enum { STREAM, DATAGRAM, NAMED, RIGHTS, KINDS };
static const char *const kinds[] = {"stream", "datagram", "named", "with descriptors"};

struct told {
    ssize_t len;
    char text[16];
    struct ucred sender;
    int fds;
};

static void send_one(int fd, const char *text, int with)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)text, strlen(text)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (with >= 0) {
        header.msg_control = &control;
        header.msg_controllen = sizeof control;
        control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.head), &with, sizeof with);
    }
    NEED(sendmsg(fd, &header, MSG_DONTWAIT) == (ssize_t)strlen(text));
}

static struct told receive(int fd)
{
    union {
        struct cmsghdr head;
        char bytes[256];
    } control;
    struct told told = {.sender = {-1, (uid_t)-1, (gid_t)-1}};
    struct iovec iov = {told.text, 5};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    told.len = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *c = told.len < 0 ? NULL : CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS)
            memcpy(&told.sender, CMSG_DATA(c), sizeof told.sender);
        if (c->cmsg_type == SCM_RIGHTS) {
            int got;
            memcpy(&got, CMSG_DATA(c), sizeof got);
            close(got);
            told.fds++;
        }
    }
    return told;
}

/* Two messages, the second one sent when the receiver, the second socket, wants to know of whom. */
static void make(int kind, int fds[2])
{
    int one = 1, with = kind == RIGHTS ? 0 : -1;
    if (kind == NAMED) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        socklen_t len = sizeof(sa_family_t);
        fds[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
        fds[1] = socket(AF_UNIX, SOCK_DGRAM, 0);
        NEED(bind(fds[1], (struct sockaddr *)&name, len) == 0);
        len = sizeof name;
        NEED(getsockname(fds[1], (struct sockaddr *)&name, &len) == 0);
        NEED(connect(fds[0], (struct sockaddr *)&name, len) == 0);
    } else {
        NEED(socketpair(AF_UNIX, kind == DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, 0, fds) == 0);
    }
    send_one(fds[0], "first", with);
    NEED(setsockopt(fds[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
    send_one(fds[0], "after", with);
}

int main(int argc, char **argv)
{
    int fds[KINDS][2];
    struct told want[KINDS][2];
    start(argc, argv);
    for (int kind = 0; kind < KINDS; kind++) {
        int trial[2];
        make(kind, trial);
        for (int i = 0; i < 2; i++) {
            want[kind][i] = receive(trial[1]);
            NEED(want[kind][i].len == 5);
            close(trial[i]);
        }
        make(kind, fds[kind]);
    }
    ready();
    do {
        next_round();
        /* The kernel's number. */
        int pid = proc_pid();
        for (int kind = 0; kind < KINDS; kind++) {
            if (broken())
                receive(fds[kind][1]);
            for (int i = 0; i < 2; i++) {
                struct told got = receive(fds[kind][1]), *wanted = &want[kind][i];
                EXPECT(got.len == wanted->len && same_bytes(got.text, wanted->text, 5), "%s %d: '%s' errno %d", kinds[kind], i,
                       got.text, errno);
                EXPECT(got.fds == wanted->fds, "%s %d: %d descriptors", kinds[kind], i, got.fds);
                EXPECT(got.sender.uid == wanted->sender.uid && got.sender.gid == wanted->sender.gid &&
                           (got.sender.pid == 0) == (wanted->sender.pid == 0),
                       "%s %d: sent by %d %d:%d, not %d %d:%d", kinds[kind], i, (int)got.sender.pid, (int)got.sender.uid,
                       (int)got.sender.gid, (int)wanted->sender.pid, (int)wanted->sender.uid, (int)wanted->sender.gid);
                EXPECT(got.sender.pid == 0 || got.sender.pid == pid, "%s %d: by %d", kinds[kind], i, (int)got.sender.pid);
            }
            int one = 0;
            socklen_t len = sizeof one;
            EXPECT(getsockopt(fds[kind][1], SOL_SOCKET, SO_PASSCRED, &one, &len) == 0 && one == 1, "%s: SO_PASSCRED",
                   kinds[kind]);
            close(fds[kind][0]);
            close(fds[kind][1]);
            make(kind, fds[kind]);
        }
    } while (report());
    return finish();
}
