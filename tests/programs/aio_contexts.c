/*
 * Contexts of kernel AIO (io_setup): their numbers, events that nobody has fetched yet, also around the end of the ring,
 * and requests after a restart. With the argument "spoilt" it has written to the ring of the first one.
 */
#include "harness.h"
#include <linux/aio_abi.h>

enum { SIZE = 1000, READS = 3 };
static aio_context_t small, large;
static int file;
static char buffers[READS][SIZE];
static struct iocb requests[READS];

static long get(aio_context_t context, long least, long most, struct io_event *events)
{
    struct timespec now = {0, 0};
    return syscall(SYS_io_getevents, (unsigned long)context, least, most, events, least ? NULL : &now);
}

static void submit(aio_context_t context, int i)
{
    struct iocb *list = &requests[i];
    memset(&requests[i], 0, sizeof requests[i]);
    requests[i].aio_lio_opcode = IOCB_CMD_PREAD;
    requests[i].aio_fildes = (uint32_t)file;
    requests[i].aio_buf = (uintptr_t)buffers[i];
    requests[i].aio_nbytes = SIZE;
    requests[i].aio_offset = i * SIZE;
    requests[i].aio_data = 100u + (unsigned)i;
    NEED(syscall(SYS_io_submit, (unsigned long)context, 1, &list) == 1);
}

/* Whether an event is that of this request, which has read what it should. */
static int is_of(const struct io_event *event, int i)
{
    char want[SIZE];
    memset(want, 'a' + i, sizeof want);
    return event->data == 100u + (unsigned)i && event->obj == (uintptr_t)&requests[i] && event->res == SIZE &&
           event->res2 == 0 && memcmp(buffers[i], want, SIZE) == 0;
}

/* Leaves the events of all requests but the first one in the context. */
static void leave_two(void)
{
    struct io_event event;
    /* More than the ring has room for, over the rounds: what waits lies anywhere in it. */
    for (int i = 0; i < 125; i++) {
        submit(small, 0);
        NEED(get(small, 1, 1, &event) == 1);
    }
    for (int i = 0; i < READS; i++)
        submit(small, i);
    NEED(get(small, 1, 1, &event) == 1 && is_of(&event, 0));
}

int main(int argc, char **argv)
{
    struct io_event events[READS + 1];
    start(argc, argv);
    file = open(test_path("data"), O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < READS; i++) {
        memset(buffers[0], 'a' + i, SIZE);
        NEED(file >= 0 && write(file, buffers[0], SIZE) == SIZE);
    }
    unsigned long id = 0;
    if (syscall(SYS_io_setup, 4, &id) != 0 && errno == ENOSYS)
        skip("this kernel has no AIO");
    NEED((small = id) != 0);
    id = 0;
    NEED(syscall(SYS_io_setup, 500, &id) == 0);
    large = id;
    leave_two();
    /* struct aio_ring: id, nr, head, tail, magic. */
    if (argc > 2 && strcmp(argv[2], "spoilt") == 0)
        ((volatile uint32_t *)(uintptr_t)small)[4] = 0;
    ready();
    do {
        next_round();
        if (broken())
            get(small, 1, 1, events);
        long count = get(small, 0, READS + 1, events);
        EXPECT(count == 2, "%ld events wait: errno %d", count, errno);
        EXPECT(is_of(&events[0], 1) && is_of(&events[1], 2), "data %llu, %llu; result %lld, %lld", events[0].data,
               events[1].data, events[0].res, events[1].res);
        EXPECT(get(small, 0, 1, events) == 0, "a third event");
        EXPECT(get(large, 0, 1, events) == 0, "an event in the other context: errno %d", errno);
        submit(large, 1);
        EXPECT(get(large, 1, 1, events) == 1 && is_of(&events[0], 1), "the other context: errno %d", errno);
        id = 0;
        EXPECT(syscall(SYS_io_setup, 1, &id) == 0 && syscall(SYS_io_destroy, id) == 0, "a new one: errno %d", errno);
        memset(buffers, 0, sizeof buffers);
        leave_two();
        errno = 0;
    } while (report());
    return finish();
}
