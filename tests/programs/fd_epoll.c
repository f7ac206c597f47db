/*
 * epoll: targets with their masks and data, one-shot armed and fired, edge, nested, nested with an edge and with a shot
 * that was fired, one whose number was closed while a
 * dup keeps the file, one whose number was given to another file, a descriptor shared by dup.
 */
#include "harness.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int outer, inner;

static void add(int epoll, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    NEED(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* Events that came with this data, or 0. */
static uint32_t wait_for(int epoll, uint64_t data)
{
    struct epoll_event got[16];
    int n = epoll_wait(epoll, got, 16, 0);
    for (int i = 0; i < n; i++)
        if (got[i].data.u64 == data)
            return got[i].events;
    return 0;
}

static void fill(int fd)
{
    uint64_t one = 1;
    NEED(write(fd, &one, 8) == 8);
}

static void drain(int fd)
{
    uint64_t got;
    NEED(read(fd, &got, 8) == 8);
}

int main(int argc, char **argv)
{
    start(argc, argv);
    int level = eventfd(0, EFD_NONBLOCK), edge = eventfd(0, EFD_NONBLOCK), armed = eventfd(0, EFD_NONBLOCK);
    int fired = eventfd(0, EFD_NONBLOCK), deep = eventfd(0, EFD_NONBLOCK), moved = eventfd(0, EFD_NONBLOCK);
    outer = epoll_create1(EPOLL_CLOEXEC);
    inner = epoll_create1(0);
    add(outer, level, EPOLLIN, 0x1111222233334444ull);
    add(outer, edge, EPOLLIN | EPOLLET, 2);
    add(outer, armed, EPOLLIN | EPOLLONESHOT, 3);
    add(outer, fired, EPOLLIN | EPOLLONESHOT, 4);
    add(inner, deep, EPOLLIN | EPOLLPRI, 5);
    add(outer, inner, EPOLLIN, 6);
    /* the number goes, the file stays */
    add(outer, moved, EPOLLIN, 7);
    int kept = dup(moved), reused = moved;
    close(moved);
    NEED(eventfd(0, EFD_NONBLOCK) == reused);
    int shared = dup(outer);
    int edgy = epoll_create1(0), shot = epoll_create1(0), leaf = eventfd(0, EFD_NONBLOCK), spent = eventfd(0, EFD_NONBLOCK);
    add(edgy, leaf, EPOLLIN, 8);
    add(outer, edgy, EPOLLIN | EPOLLET, 9);
    add(shot, spent, EPOLLIN | EPOLLET, 10);
    add(outer, shot, EPOLLIN | EPOLLONESHOT, 11);
    fill(fired);
    NEED(wait_for(outer, 4) == EPOLLIN);
    fill(spent);
    NEED(wait_for(outer, 11) == EPOLLIN);
    ready();
    do {
        next_round();
        if (broken())
            NEED(epoll_ctl(outer, EPOLL_CTL_DEL, level, NULL) == 0);
        EXPECT(fcntl(outer, F_GETFD) == FD_CLOEXEC && fcntl(inner, F_GETFD) == 0, "close-on-exec");
        EXPECT(wait_for(outer, 4) == 0, "the fired shot fires again");
        fill(level);
        EXPECT(wait_for(shared, 0x1111222233334444ull) == EPOLLIN, "level");
        EXPECT(wait_for(outer, 0x1111222233334444ull) == EPOLLIN, "level, second time");
        drain(level);
        EXPECT(wait_for(outer, 0x1111222233334444ull) == 0, "level, nothing there");
        fill(edge);
        EXPECT(wait_for(outer, 2) == EPOLLIN, "edge");
        EXPECT(wait_for(outer, 2) == 0, "edge, second time");
        drain(edge);
        fill(armed);
        EXPECT(wait_for(outer, 3) == EPOLLIN, "one shot");
        EXPECT(wait_for(outer, 3) == 0, "one shot, second time");
        drain(armed);
        struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 3};
        EXPECT(epoll_ctl(outer, EPOLL_CTL_MOD, armed, &again) == 0, "cannot arm it again");
        fill(deep);
        EXPECT(wait_for(outer, 6) == EPOLLIN, "nested");
        EXPECT(wait_for(inner, 5) == EPOLLIN, "inner");
        drain(deep);
        fill(leaf);
        EXPECT(wait_for(outer, 9) == EPOLLIN, "nested edge");
        EXPECT(wait_for(outer, 9) == 0, "nested edge, second time");
        EXPECT(wait_for(edgy, 8) == EPOLLIN, "below the edge");
        drain(leaf);
        EXPECT(wait_for(edgy, 8) == 0, "below the edge, nothing there");
        EXPECT(wait_for(outer, 11) == 0, "the nested shot fires again");
        again = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 11};
        EXPECT(epoll_ctl(outer, EPOLL_CTL_MOD, shot, &again) == 0, "cannot arm the nested shot again");
        drain(spent);
        fill(spent);
        EXPECT(wait_for(outer, 11) == EPOLLIN, "the nested shot, armed again");
        fill(kept);
        EXPECT(wait_for(outer, 7) == EPOLLIN, "file whose number was closed");
        drain(kept);
        fill(reused);
        EXPECT(wait_for(outer, 7) == 0, "the number's new file is watched");
        drain(reused);
        again = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 4};
        EXPECT(epoll_ctl(outer, EPOLL_CTL_MOD, fired, &again) == 0, "cannot arm it again");
        EXPECT(wait_for(outer, 4) == EPOLLIN, "armed again");
    } while (report());
    return finish();
}
