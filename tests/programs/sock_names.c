/*
 * Sockets that are bound: TCP listening on IPv4 and IPv6 with its backlog and options, TCP bound only,
 * UDP bound, and UDP with a default destination.
 */
#include "harness.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static struct sockaddr_in6 named[5];

static socklen_t name_of(int fd, struct sockaddr_in6 *name)
{
    socklen_t len = sizeof *name;
    memset(name, 0, sizeof *name);
    return getsockname(fd, (struct sockaddr *)name, &len) == 0 ? len : 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, now;
    int one = 1, value;
    start(argc, argv);
    int tcp4 = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), tcp6 = socket(AF_INET6, SOCK_STREAM, 0);
    int bound = socket(AF_INET, SOCK_STREAM, 0);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    int fds[] = {tcp4, tcp6, bound, udp, sender};
    for (int i = 0; i < 2; i++)
        NEED(setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    NEED(bind(tcp4, (struct sockaddr *)&v4, sizeof v4) == 0 && listen(tcp4, 5) == 0);
    NEED(setsockopt(tcp6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0);
    if (bind(tcp6, (struct sockaddr *)&v6, sizeof v6) != 0)
        skip("no IPv6 loopback");
    NEED(listen(tcp6, 9) == 0 && setsockopt(tcp6, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) == 0);
    NEED(bind(bound, (struct sockaddr *)&v4, sizeof v4) == 0);
    NEED(bind(udp, (struct sockaddr *)&v4, sizeof v4) == 0);
    name_of(udp, &named[3]);
    NEED(connect(sender, (struct sockaddr *)&named[3], sizeof v4) == 0);
    for (int i = 0; i < 5; i++)
        NEED(name_of(fds[i], &named[i]) != 0);
    static const int options[][4] = {/* socket, level, option, value */
                                     {3, IPPROTO_IP, IP_MULTICAST_TTL, 7},   {3, IPPROTO_IP, IP_MULTICAST_LOOP, 0},
                                     {3, IPPROTO_IP, IP_RECVTTL, 1},         {3, IPPROTO_IP, IP_RECVERR, 1},
                                     {3, IPPROTO_IP, IP_RECVTOS, 1},         {4, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO},
                                     {4, SOL_SOCKET, SO_RXQ_OVFL, 1},        {2, IPPROTO_IP, IP_FREEBIND, 1},
                                     {1, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1}, {1, IPPROTO_IPV6, IPV6_RECVTCLASS, 1}};
    enum { OPTIONS = sizeof options / sizeof *options };
    for (int i = 0; i < OPTIONS; i++) {
        const int *option = options[i];
        NEED(setsockopt(fds[option[0]], option[1], option[2], &option[3], sizeof(int)) == 0);
    }
    int first = 1;
    do {
        NEED(send(sender, "in", 2, 0) == 2 && send(sender, "", 0, 0) == 0 && send(sender, "flight", 6, 0) == 6);
        if (first)
            ready();
        first = 0;
        next_round();
        if (broken()) {
            close(tcp6);
            NEED(socket(AF_INET6, SOCK_STREAM, 0) == tcp6);
        }
        for (int i = 0; i < 5; i++) {
            name_of(fds[i], &now);
            EXPECT(same_bytes(&now, &named[i], sizeof now), "socket %d has another name", i);
        }
        int listeners[] = {tcp4, tcp6}, backlogs[] = {5, 9};
        for (int i = 0; i < 2; i++) {
            struct tcp_info info;
            socklen_t len = sizeof info;
            EXPECT(getsockopt(listeners[i], IPPROTO_TCP, TCP_INFO, &info, &len) == 0, "TCP_INFO: errno %d", errno);
            EXPECT(info.tcpi_state == 10 && info.tcpi_sacked == (unsigned)backlogs[i], "listener %d: state %d, backlog %u", i,
                   info.tcpi_state, info.tcpi_sacked);
            int client = socket(i ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
            EXPECT(connect(client, (struct sockaddr *)&named[i], i ? sizeof v6 : sizeof v4) == 0, "errno %d", errno);
            int server = accept(listeners[i], NULL, NULL);
            EXPECT(server >= 0, "accept %d: errno %d", i, errno);
            close(server);
            close(client);
        }
        EXPECT(accept(tcp4, NULL, NULL) == -1 && errno == EAGAIN, "O_NONBLOCK: errno %d", errno);
        socklen_t len = sizeof value;
        EXPECT(getsockopt(tcp6, SOL_SOCKET, SO_KEEPALIVE, &value, &len) == 0 && value == 1, "SO_KEEPALIVE");
        EXPECT(getsockopt(tcp6, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len) == 0 && value == 1, "IPV6_V6ONLY");
        for (int i = 0; i < OPTIONS; i++) {
            const int *option = options[i];
            EXPECT(getsockopt(fds[option[0]], option[1], option[2], &value, &len) == 0 && value == option[3],
                   "option %d of level %d is %d", option[2], option[1], value);
        }
        char text[8] = "";
        struct sockaddr_in6 from;
        socklen_t from_len = sizeof from;
        memset(&from, 0, sizeof from);
        ssize_t n = recvfrom(udp, text, 8, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
        EXPECT(n == 2 && same_bytes(text, "in", 2), "UDP: %zd bytes '%s'", n, text);
        EXPECT(same_bytes(&from, &named[4], sizeof from), "UDP: sender");
        n = recv(udp, text, 8, MSG_DONTWAIT);
        EXPECT(n == 0, "UDP: %zd bytes", n);
        n = recv(udp, text, 8, MSG_DONTWAIT);
        EXPECT(n == 6 && same_bytes(text, "flight", 6), "UDP: %zd bytes '%s'", n, text);
        EXPECT(send(sender, "ping", 4, 0) == 4, "UDP: errno %d", errno);
        EXPECT(recv(udp, text, 8, MSG_DONTWAIT) == 4 && same_bytes(text, "ping", 4), "UDP: '%s'", text);
    } while (report());
    return finish();
}
