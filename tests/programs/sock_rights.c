/*
 * Messages with descriptors that wait in UNIX sockets: streams, whose bounds they are, packets, datagrams with and
 * without a name; files that are also open and such that are only in flight, an end of a pipe with bytes in it, sockets that
 * hold messages themselves, a socket in its own queue; senders that have ended; credentials.
 */
#include "harness.h"
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MOST 8

static struct {
    ssize_t len;
    char text[64];
    int fds[MOST], count;
    struct ucred credentials;
    int told; /* credentials */
    int cut;
} got;

static void send_with(int to, const char *text, int count, const int *fds, const struct sockaddr_un *name)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * MOST)];
    } control;
    struct iovec iov = {(void *)text, strlen(text)};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (name) {
        header.msg_name = (void *)name;
        header.msg_namelen = sizeof *name;
    }
    if (count) {
        memset(&control, 0, sizeof control);
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * count);
    }
    NEED(sendmsg(to, &header, MSG_DONTWAIT) == (ssize_t)strlen(text));
}

static void send_one(int to, const char *text, int fd)
{
    send_with(to, text, 1, &fd, NULL);
}

/* One message, or as much of a stream as one call gives of at most `most` bytes. */
static void receive(int fd, size_t most)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int) * MOST) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    memset(&got, 0, sizeof got);
    struct iovec iov = {got.text, most};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    got.len = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    got.cut = (header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
    if (got.len < 0)
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            got.count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(got.fds, CMSG_DATA(c), sizeof(int) * got.count);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&got.credentials, CMSG_DATA(c), sizeof got.credentials);
            got.told = 1;
        }
    }
}

static void expect(const char *what, int fd, size_t most, const char *text, int count)
{
    receive(fd, most);
    EXPECT(got.len == (ssize_t)strlen(text) && same_bytes(got.text, text, strlen(text)), "%s: %zd bytes '%s', errno %d", what,
           got.len, got.text, errno);
    EXPECT(got.count == count && !got.cut, "%s: %d descriptors, cut: %d", what, got.count, got.cut);
}

static void close_received(void)
{
    for (int i = 0; i < got.count; i++)
        close(got.fds[i]);
    got.count = 0;
}

static void expect_nothing(const char *what, int fd)
{
    receive(fd, 1);
    EXPECT(got.len == -1 && errno == EAGAIN, "%s: there is more: %zd", what, got.len);
}

static void expect_end(const char *what, int fd)
{
    receive(fd, 1);
    EXPECT(got.len == 0 && got.count == 0, "%s: %zd instead of the end, errno %d", what, got.len, errno);
}

static void expect_text(const char *what, int fd, const char *text)
{
    char buf[64] = "";
    ssize_t n = read(fd, buf, sizeof buf - 1);
    EXPECT(n == (ssize_t)strlen(text) && same_bytes(buf, text, strlen(text)), "%s: %zd '%s' errno %d", what, n, buf, errno);
}

/* Whether two descriptors are one description: where one goes, the other one is. */
static void expect_shared(const char *what, int one, int other)
{
    static off_t place = 100;
    place++;
    EXPECT(lseek(one, place, SEEK_SET) == place && lseek(other, 0, SEEK_CUR) == place, "%s: not shared", what);
}

static void make_pair(int kind, int pair[2])
{
    NEED(socketpair(AF_UNIX, kind, 0, pair) == 0);
}

/* The descriptors that are open, as a text. */
static const char *open_now(void)
{
    static char list[2][1024];
    static int turn;
    char *at = list[turn ^= 1];
    DIR *dir = opendir("/proc/self/fd");
    NEED(dir != NULL);
    *at = 0;
    for (int fd = 0; fd < 100; fd++)
        if (fd != dirfd(dir) && fcntl(fd, F_GETFD) >= 0)
            at += sprintf(at, " %d", fd);
    closedir(dir);
    return list[turn];
}

static int memfd_with(const char *text)
{
    int fd = memfd_create("in flight", 0);
    NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && lseek(fd, 2, SEEK_SET) == 2);
    return fd;
}

int main(int argc, char **argv)
{
    int stream[2], packets[2], datagrams[2], cycle[2], ended[2], closed[2], outer[2], asks[2];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int first = 1;
    signal(SIGPIPE, SIG_IGN);
    start(argc, argv);
    int file = open(test_path("sent"), O_RDWR | O_CREAT | O_TRUNC, 0600), other = open(test_path("sent"), O_RDWR);
    NEED(file >= 0 && other >= 0);
    make_pair(SOCK_STREAM, stream);
    make_pair(SOCK_SEQPACKET, packets);
    make_pair(SOCK_DGRAM, datagrams);
    make_pair(SOCK_STREAM, cycle);
    make_pair(SOCK_STREAM, asks);
    NEED(setsockopt(asks[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) == 0);
    NEED(chdir(test_dir) == 0);
    strcpy(name.sun_path, "receiver");
    int named = socket(AF_UNIX, SOCK_DGRAM, 0);
    NEED(named >= 0 && bind(named, (struct sockaddr *)&name, sizeof name) == 0);
    do {
        int pipe_ends[2], inner[2], memory = memfd_with("memory");
        NEED(pipe2(pipe_ends, O_CLOEXEC) == 0 && write(pipe_ends[1], "in the pipe", 11) == 11);
        make_pair(SOCK_STREAM, ended);
        make_pair(SOCK_SEQPACKET, closed);
        make_pair(SOCK_STREAM, outer);
        make_pair(SOCK_STREAM, inner);

        NEED(send(stream[0], "plain", 5, 0) == 5);
        send_with(stream[0], "two", 2, (int[]){file, memory}, NULL);
        NEED(send(stream[0], "more", 4, 0) == 4);
        send_one(stream[0], "pipe", pipe_ends[0]);
        send_one(stream[0], "again", memory);
        send_with(packets[0], "both", 2, (int[]){pipe_ends[0], file}, NULL);
        NEED(send(packets[0], "none", 4, 0) == 4);
        send_one(datagrams[0], "datagram", memory);
        send_with(datagrams[0], "named", 1, &file, &name);
        /* Its own end, and the other one. */
        send_with(cycle[0], "cycle", 2, (int[]){cycle[1], cycle[0]}, NULL);
        send_one(cycle[1], "back", cycle[1]);
        send_one(ended[0], "ended", memory);
        NEED(shutdown(ended[0], SHUT_WR) == 0);
        send_one(closed[0], "closed", file);
        close(closed[0]);
        /* A connection that is only in flight, with a message in it that has a descriptor. */
        send_one(inner[0], "inner", memory);
        send_with(outer[0], "outer", 2, (int[]){inner[0], inner[1]}, NULL);
        send_one(asks[0], "who", file);
        close(inner[0]);
        close(inner[1]);
        close(memory);
        close(pipe_ends[0]);
        /* Closing any descriptor of the file drops it: nothing of a checkpoint may. */
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
        NEED(fcntl(file, F_SETLK, &lock) == 0);
        char *before = strdup(open_now());

        if (first)
            ready();
        first = 0;
        int exact = next_round() % 2;
        if (broken())
            NEED(recv(packets[1], got.text, 1, 0) == 1);
        EXPECT(restarted() || strcmp(before, open_now()) == 0, "open were%s, are%s", before, open_now());
        EXPECT(fcntl(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 10 && lock.l_len == 5,
               "the lock: type %d", lock.l_type);

        /* A message with descriptors ends what is read, and comes with its first byte. */
        if (exact)
            expect("plain", stream[1], 5, "plain", 0);
        expect("two", stream[1], 50, exact ? "two" : "plaintwo", 2);
        expect_shared("the file", got.fds[0], file);
        expect_text("the memfd", got.fds[1], "mory");
        int kept = got.fds[1];
        close(got.fds[0]);
        expect("pipe", stream[1], 6, "morepi", 1);
        expect_text("the pipe", got.fds[0], "in the pipe");
        int pipe_end = got.fds[0];
        NEED(write(pipe_ends[1], "more", 4) == 4);
        expect("rest", stream[1], 2, "pe", 0);
        expect("again", stream[1], 50, "again", 1);
        expect_shared("the memfd again", got.fds[0], kept);
        close_received();
        expect_nothing("stream", stream[1]);

        expect("both", packets[1], 50, "both", 2);
        expect_text("the pipe again", got.fds[0], "more");
        expect_shared("the file of the packet", got.fds[1], file);
        close_received();
        close(pipe_end);
        EXPECT(write(pipe_ends[1], "x", 1) == -1 && errno == EPIPE, "the pipe has another reader");
        expect("none", packets[1], 50, "none", 0);
        expect_nothing("packets", packets[1]);

        expect("datagram", datagrams[1], 50, "datagram", 1);
        expect_shared("the memfd of the datagram", got.fds[0], kept);
        close_received();
        expect_nothing("datagrams", datagrams[1]);
        expect("named", named, 50, "named", 1);
        expect_shared("the file of the named one", got.fds[0], file);
        close_received();

        expect("cycle", cycle[1], 50, "cycle", 2);
        int self = got.fds[0], peer = got.fds[1];
        NEED(send(peer, "to self", 7, 0) == 7);
        expect("itself", self, 50, "to self", 0);
        expect("back", peer, 50, "back", 1);
        NEED(send(got.fds[0], "to peer", 7, 0) == 7);
        expect_text("peer", cycle[0], "to peer");
        close_received();
        close(self);
        close(peer);

        expect("ended", ended[1], 50, "ended", 1);
        expect_shared("the memfd of one that has ended", got.fds[0], kept);
        close_received();
        expect_end("ended", ended[1]);
        NEED(send(ended[1], "other way", 9, 0) == 9);
        expect("other way", ended[0], 50, "other way", 0);
        expect("closed", closed[1], 50, "closed", 1);
        expect_shared("the file of one that is closed", got.fds[0], file);
        close_received();
        expect_end("closed", closed[1]);

        expect("outer", outer[1], 50, "outer", 2);
        inner[0] = got.fds[0];
        inner[1] = got.fds[1];
        expect("inner", inner[1], 50, "inner", 1);
        expect_shared("the memfd inside", got.fds[0], kept);
        close_received();
        NEED(send(inner[0], "later", 5, 0) == 5);
        expect("later", inner[1], 50, "later", 0);

        expect("who", asks[1], 50, "who", 1);
        EXPECT(got.told && got.credentials.pid == proc_pid() && got.credentials.uid == geteuid() &&
                   got.credentials.gid == getegid(),
               "sent by %d, %d, %d", (int)got.credentials.pid, (int)got.credentials.uid, (int)got.credentials.gid);
        close_received();
        close(kept);
        close(inner[0]);
        close(inner[1]);
        close(pipe_ends[1]);
        close(ended[0]);
        close(ended[1]);
        close(closed[1]);
        close(outer[0]);
        close(outer[1]);
        free(before);
    } while (report());
    return finish();
}
