/*
 * Multicast groups: IPv4 with all sources, without one, from one alone; IPv6; IPv4 in a socket for IPv6; one that was left
 * again. Each socket hears what is sent to its groups and nothing else, and the sending socket has its interface, TTL and
 * loop. All on the loopback interface; IPv6 is sent over the first one that takes it, if there is any.
 * With an interface and its address: IPv4 and IPv6 on that one, which may have another number after a restart.
 */
#include "harness.h"
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static const char *own_name = "lo", *own_address = "127.0.0.1";
static unsigned own, six_interface;
static char six_name[IF_NAMESIZE];
static int six_sends;
/* What is bound to port `heard` hears. */
static int plain, filtered, chosen, six, sender, sender6;
static uint16_t heard[4];

static struct sockaddr_in ip4(const char *text, uint16_t port)
{
    struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = port};
    unsigned a, b, c, d;
    NEED(sscanf(text, "%u.%u.%u.%u", &a, &b, &c, &d) == 4);
    out.sin_addr.s_addr = htonl(a << 24 | b << 16 | c << 8 | d);
    return out;
}

/* ff02::LAST */
static struct sockaddr_in6 ip6(uint8_t last, uint16_t port)
{
    struct sockaddr_in6 out = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_scope_id = six_interface};
    out.sin6_addr.s6_addr[0] = 0xff;
    out.sin6_addr.s6_addr[1] = 2;
    out.sin6_addr.s6_addr[15] = last;
    return out;
}

static void set(int fd, int level, int option, int value)
{
    NEED(setsockopt(fd, level, option, &value, sizeof value) == 0);
}

static int get(int fd, int level, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    getsockopt(fd, level, option, &value, &len);
    return value;
}

/* A socket that hears nothing but the groups that it is in. */
static int receiver(int family, uint16_t *port)
{
    struct sockaddr_storage name = {.ss_family = (sa_family_t)family};
    socklen_t len = sizeof name;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    NEED(fd >= 0 && bind(fd, (struct sockaddr *)&name, family == AF_INET ? 16 : 28) == 0);
    NEED(getsockname(fd, (struct sockaddr *)&name, &len) == 0);
    *port = ((struct sockaddr_in *)&name)->sin_port;
    set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    return fd;
}

static int change(int fd, int option, const char *group)
{
    struct group_req request = {.gr_interface = own};
    struct sockaddr_in address = ip4(group, 0);
    memcpy(&request.gr_group, &address, sizeof address);
    return setsockopt(fd, IPPROTO_IP, option, &request, sizeof request);
}

static int change6(int fd, int option, uint8_t last)
{
    struct group_req request = {.gr_interface = six_interface};
    struct sockaddr_in6 address = ip6(last, 0);
    memcpy(&request.gr_group, &address, sizeof address);
    return setsockopt(fd, IPPROTO_IPV6, option, &request, sizeof request);
}

static int change_source(int fd, int option, const char *group, const char *source)
{
    struct group_source_req request = {.gsr_interface = own};
    struct sockaddr_in addresses[2] = {ip4(group, 0), ip4(source, 0)};
    memcpy(&request.gsr_group, &addresses[0], sizeof addresses[0]);
    memcpy(&request.gsr_source, &addresses[1], sizeof addresses[1]);
    return setsockopt(fd, IPPROTO_IP, option, &request, sizeof request);
}

/* Sends to a group, or to the socket alone. */
static void send4(const char *address, uint16_t port, const char *text)
{
    struct sockaddr_in to = ip4(address, port);
    EXPECT(sendto(sender, text, 5, 0, (struct sockaddr *)&to, sizeof to) == 5, "to %s: errno %d", address, errno);
}

static int send6(uint8_t last)
{
    struct sockaddr_in6 to = ip6(last, heard[3]);
    /* The socket's interface counts. */
    to.sin6_scope_id = 0;
    return sendto(sender6, "group", 5, 0, (struct sockaddr *)&to, sizeof to) == 5;
}

static void expect_next(int fd, const char *what, const char *text)
{
    char got[16] = "";
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    EXPECT(poll(&wait, 1, broken() ? 100 : 30000) == 1, "%s: nothing comes", what);
    ssize_t n = recv(fd, got, sizeof got, 0);
    EXPECT(n == 5 && same_bytes(got, text, 5), "%s: '%s' instead of '%s' (errno %d)", what, got, text, errno);
}

/* Whether the socket hears what has just been sent. If not, what is sent to it alone comes next. */
static void expect(int fd, uint16_t port, const char *what, int hears)
{
    if (hears)
        expect_next(fd, what, "group");
    send4("127.0.0.1", port, "alone");
    expect_next(fd, what, "alone");
}

static int is_member6(uint8_t last)
{
    struct group_filter filter = {.gf_interface = six_interface};
    struct sockaddr_in6 address = ip6(last, 0);
    socklen_t len = sizeof filter;
    memcpy(&filter.gf_group, &address, sizeof address);
    return getsockopt(six, IPPROTO_IPV6, MCAST_MSFILTER, &filter, &len) == 0;
}

/* An interface over which a group can be reached; without one nothing is sent. */
static void choose_interface(void)
{
    struct if_nameindex *all = if_nameindex();
    NEED(all != NULL);
    for (struct if_nameindex *one = all; one->if_index != 0 && !six_sends; one++) {
        set(sender6, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)one->if_index);
        six_sends = send6(0x77);
        strcpy(six_name, six_sends ? one->if_name : own_name);
    }
    if_freenameindex(all);
    six_interface = if_nametoindex(six_name);
    if (!six_sends)
        fprintf(stderr, "no interface takes multicast of IPv6: it is not sent\n");
}

int main(int argc, char **argv)
{
    start(argc, argv);
    if (argc > 3) {
        own_name = argv[2];
        own_address = argv[3];
    }
    struct in_addr address = ip4(own_address, 0).sin_addr;
    own = if_nametoindex(own_name);
    NEED(own != 0);
    plain = receiver(AF_INET, &heard[0]);
    NEED(change(plain, MCAST_JOIN_GROUP, "239.77.1.1") == 0);
    NEED(change(plain, MCAST_JOIN_GROUP, "239.77.1.2") == 0);
    NEED(change(plain, MCAST_LEAVE_GROUP, "239.77.1.2") == 0);
    filtered = receiver(AF_INET, &heard[1]);
    NEED(change(filtered, MCAST_JOIN_GROUP, "239.77.1.1") == 0);
    NEED(change_source(filtered, MCAST_BLOCK_SOURCE, "239.77.1.1", own_address) == 0);
    NEED(change(filtered, MCAST_JOIN_GROUP, "239.77.1.3") == 0);
    NEED(change_source(filtered, MCAST_BLOCK_SOURCE, "239.77.1.3", "127.0.0.9") == 0);
    chosen = receiver(AF_INET, &heard[2]);
    NEED(change_source(chosen, MCAST_JOIN_SOURCE_GROUP, "239.77.1.4", own_address) == 0);
    NEED(change_source(chosen, MCAST_JOIN_SOURCE_GROUP, "239.77.1.4", "127.0.0.5") == 0);
    NEED(change_source(chosen, MCAST_JOIN_SOURCE_GROUP, "239.77.1.5", "127.0.0.5") == 0);
    six = receiver(AF_INET6, &heard[3]);
    sender6 = socket(AF_INET6, SOCK_DGRAM, 0);
    choose_interface();
    set(six, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
    NEED(change6(six, MCAST_JOIN_GROUP, 0x77) == 0);
    NEED(change(six, MCAST_JOIN_GROUP, "239.77.1.6") == 0);
    /* Whoever has joined the group of all hosts is a member beside the kernel. */
    NEED(change6(six, MCAST_JOIN_GROUP, 1) == 0);
    sender = socket(AF_INET, SOCK_DGRAM, 0);
    NEED(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &address, sizeof address) == 0);
    set(sender, IPPROTO_IP, IP_MULTICAST_TTL, 7);
    set(sender6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3);
    ready();
    do {
        next_round();
        own = if_nametoindex(own_name);
        six_interface = if_nametoindex(six_name);
        if (broken()) {
            NEED(change(plain, MCAST_LEAVE_GROUP, "239.77.1.1") == 0);
            NEED(change_source(filtered, MCAST_UNBLOCK_SOURCE, "239.77.1.1", own_address) == 0);
            NEED(change6(six, MCAST_LEAVE_GROUP, 0x77) == 0);
        }
        send4("239.77.1.1", heard[0], "group");
        expect(plain, heard[0], "a group", 1);
        send4("239.77.1.2", heard[0], "group");
        send4("239.77.1.3", heard[0], "group");
        expect(plain, heard[0], "groups that it is not in", 0);
        send4("239.77.1.1", heard[1], "group");
        expect(filtered, heard[1], "a source that it does not hear", 0);
        send4("239.77.1.3", heard[1], "group");
        expect(filtered, heard[1], "another source", 1);
        send4("239.77.1.4", heard[2], "group");
        expect(chosen, heard[2], "a source that it hears", 1);
        send4("239.77.1.5", heard[2], "group");
        expect(chosen, heard[2], "a source that it has not chosen", 0);
        send4("239.77.1.6", heard[3], "group");
        expect(six, heard[3], "a group of IPv4 in a socket for IPv6", 1);
        EXPECT(is_member6(0x77) && is_member6(1) && !is_member6(0x78), "groups of IPv6");
        if (six_sends) {
            EXPECT(send6(0x77), "to ff02::77: errno %d", errno);
            expect(six, heard[3], "ff02::77", 1);
            EXPECT(send6(0x78), "to ff02::78: errno %d", errno);
            expect(six, heard[3], "ff02::78", 0);
        }
        EXPECT(change_source(chosen, MCAST_LEAVE_SOURCE_GROUP, "239.77.1.4", "127.0.0.5") == 0, "second source: %d", errno);
        NEED(change_source(chosen, MCAST_JOIN_SOURCE_GROUP, "239.77.1.4", "127.0.0.5") == 0);
        EXPECT(change(plain, MCAST_LEAVE_GROUP, "239.77.1.1") == 0, "leaving: errno %d", errno);
        send4("239.77.1.1", heard[0], "group");
        expect(plain, heard[0], "a group that it has left", 0);
        NEED(change(plain, MCAST_JOIN_GROUP, "239.77.1.1") == 0);
        EXPECT(get(sender, IPPROTO_IP, IP_MULTICAST_TTL) == 7, "TTL");
        EXPECT(get(sender, IPPROTO_IP, IP_MULTICAST_IF) == (int)address.s_addr, "interface");
        EXPECT(get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS) == 3, "hops");
        EXPECT(get(sender6, IPPROTO_IPV6, IPV6_MULTICAST_IF) == (int)six_interface, "interface of IPv6");
        EXPECT(get(six, IPPROTO_IPV6, IPV6_MULTICAST_ALL) == 0 && get(plain, IPPROTO_IP, IP_MULTICAST_ALL) == 0, "all");
    } while (report());
    return finish();
}
