/*
 * UNIX sockets with names: listening ones in the file system and abstract, a connection that was accepted, one that waits
 * to be; packets and datagrams with their bounds and senders; a datagram socket whose other end is closed.
 */
#include "harness.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un path_name, abstract_name, server_name, receiver_name, sender_name, got_name;
static socklen_t abstract_len, server_len, name_len;

static socklen_t make_name(struct sockaddr_un *name, const char *text)
{
    int abstract = text[0] == '@';
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    NEED(strlen(text) < sizeof name->sun_path);
    strcpy(name->sun_path, text);
    if (abstract)
        name->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) + !abstract);
}

static void send_text(int fd, const char *text)
{
    NEED(send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)strlen(text));
}

/* One message; its sender goes to got_name. */
static void expect(int fd, const char *what, const char *text)
{
    char got[256] = "";
    size_t len = strlen(text);
    name_len = sizeof got_name;
    memset(&got_name, 0, sizeof got_name);
    ssize_t n = recvfrom(fd, got, sizeof got - 1, MSG_DONTWAIT, (struct sockaddr *)&got_name, &name_len);
    EXPECT(n == (ssize_t)len && same_bytes(got, text, len), "%s: %zd bytes '%s' (errno %d)", what, n, got, errno);
}

static void expect_nothing(int fd, const char *what)
{
    char c;
    EXPECT(recv(fd, &c, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: there is more (errno %d)", what, errno);
}

static int listen_on(int kind, const struct sockaddr_un *name, socklen_t len, int backlog)
{
    int fd = socket(AF_UNIX, kind, 0);
    NEED(fd >= 0 && bind(fd, (const struct sockaddr *)name, len) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static int connect_to(int kind, const struct sockaddr_un *name, socklen_t len)
{
    int fd = socket(AF_UNIX, kind, 0);
    NEED(fd >= 0 && connect(fd, (const struct sockaddr *)name, len) == 0);
    return fd;
}

int main(int argc, char **argv)
{
    char text[100];
    int packets[2], datagrams[2];
    struct stat stat_buf;
    start(argc, argv);
    NEED(chdir(test_dir) == 0);
    socklen_t len = make_name(&path_name, "listener");
    int listener = listen_on(SOCK_STREAM, &path_name, len, 3);
    NEED(chmod("listener", 0615) == 0);
    int client = connect_to(SOCK_STREAM, &path_name, len);
    int server = accept(listener, NULL, NULL);
    NEED(server >= 0);
    /* Its listening socket is closed, and its name removed. */
    server_len = make_name(&server_name, "removed");
    int closed = listen_on(SOCK_STREAM, &server_name, server_len, 1);
    int client2 = connect_to(SOCK_STREAM, &server_name, server_len), server2 = accept(closed, NULL, NULL);
    close(closed);
    NEED(server2 >= 0 && unlink("removed") == 0);
    snprintf(text, sizeof text, "@selfckpt test %d", (int)getpid());
    abstract_len = make_name(&abstract_name, text);
    int abstract = listen_on(SOCK_SEQPACKET, &abstract_name, abstract_len, 4);
    int waiting = connect_to(SOCK_SEQPACKET, &abstract_name, abstract_len);
    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    socklen_t receiver_len = make_name(&receiver_name, "receiver"), sender_len = make_name(&sender_name, "sender");
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    NEED(bind(receiver, (struct sockaddr *)&receiver_name, receiver_len) == 0);
    NEED(bind(sender, (struct sockaddr *)&sender_name, sender_len) == 0);
    int directed = connect_to(SOCK_DGRAM, &receiver_name, receiver_len);
    int first = 1;
    do {
        int widow[2];
        NEED(socketpair(AF_UNIX, SOCK_DGRAM, 0, widow) == 0);
        send_text(widow[1], "last words");
        close(widow[1]);
        send_text(client, "to server");
        send_text(server, "to client");
        send_text(client2, "to server 2");
        send_text(packets[0], "one");
        send_text(packets[0], "two two");
        send_text(packets[0], "three");
        send_text(datagrams[1], "a");
        send_text(datagrams[1], "bc");
        NEED(sendto(sender, "named", 5, 0, (struct sockaddr *)&receiver_name, receiver_len) == 5);
        send_text(directed, "directed");
        if (first)
            ready();
        first = 0;
        next_round();
        if (broken())
            NEED(recv(packets[1], text, 1, 0) == 1);
        expect(server, "server", "to server");
        expect(client, "client", "to client");
        expect(server2, "server 2", "to server 2");
        expect(packets[1], "packet 1", "one");
        expect(packets[1], "packet 2", "two two");
        expect(packets[1], "packet 3", "three");
        expect_nothing(packets[1], "packets");
        expect(datagrams[0], "datagram 1", "a");
        expect(datagrams[0], "datagram 2", "bc");
        expect_nothing(datagrams[0], "datagrams");
        expect(widow[0], "from a closed socket", "last words");
        expect_nothing(widow[0], "a closed socket");
        EXPECT(send(widow[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED, "to a closed socket: errno %d", errno);
        close(widow[0]);
        expect(receiver, "from a name", "named");
        EXPECT(name_len == sender_len && same_bytes(&got_name, &sender_name, sender_len), "sender '%s'", got_name.sun_path);
        expect(receiver, "directed", "directed");
        expect_nothing(receiver, "receiver");
        name_len = sizeof got_name;
        EXPECT(getsockname(server, (struct sockaddr *)&got_name, &name_len) == 0 && !strcmp(got_name.sun_path, "listener"), "name");
        name_len = sizeof got_name;
        EXPECT(getpeername(client2, (struct sockaddr *)&got_name, &name_len) == 0 && !strcmp(got_name.sun_path, "removed"), "name 2");
        EXPECT(stat("removed", &stat_buf) == -1, "the removed name is there");
        EXPECT(stat("listener", &stat_buf) == 0 && (stat_buf.st_mode & 07777) == 0615, "mode %o", stat_buf.st_mode);
        struct ucred peer = {0};
        len = sizeof peer;
        EXPECT(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid(), "uid %d", (int)peer.uid);
        /* New connections. */
        int another = socket(AF_UNIX, SOCK_STREAM, 0);
        EXPECT(connect(another, (struct sockaddr *)&path_name, offsetof(struct sockaddr_un, sun_path) + sizeof "listener") == 0,
               "errno %d", errno);
        int accepted = accept(listener, NULL, NULL);
        EXPECT(accepted >= 0, "accept: errno %d", errno);
        close(another);
        close(accepted);
        fcntl(abstract, F_SETFL, O_NONBLOCK);
        accepted = accept(abstract, NULL, NULL);
        EXPECT(accepted >= 0, "the waiting connection: errno %d", errno);
        if (accepted >= 0) {
            send_text(waiting, "accepted");
            expect(accepted, "the waiting connection", "accepted");
        }
        EXPECT(accept(abstract, NULL, NULL) == -1 && errno == EAGAIN, "another connection");
        close(accepted);
        close(waiting);
        waiting = connect_to(SOCK_SEQPACKET, &abstract_name, abstract_len);
    } while (report());
    return finish();
}
