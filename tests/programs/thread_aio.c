/* glibc's own helper threads, which block every signal: reads by aio_read that wait for data, one served by a thread of
 * their own each, and a name lookup by getaddrinfo_a. */
// libs: -lanl
#include "harness.h"
#include <aio.h>
#include <netdb.h>
#include <pthread.h>

static int ends[2][2];
static char buffers[2][8];
static struct aiocb blocks[2];

static void begin(int i)
{
    memset(&blocks[i], 0, sizeof blocks[i]);
    blocks[i].aio_fildes = ends[i][0];
    blocks[i].aio_buf = buffers[i];
    blocks[i].aio_nbytes = sizeof buffers[i];
    blocks[i].aio_sigevent.sigev_notify = SIGEV_NONE;
    if (aio_read(&blocks[i]) != 0)
        test_die("aio_read: errno %d", errno);
}

static int await_lookup(const struct gaicb *lookup, const struct timespec *limit)
{
    const struct gaicb *const list[] = {lookup};
    int gave;
    while ((gave = gai_suspend(list, 1, limit)) == EAI_INTR)
        ;
    return gave;
}

int main(int argc, char **argv)
{
    struct gaicb lookup = {.ar_name = "127.0.0.1"}, *lookups[] = {&lookup};
    struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_family = AF_INET};
    struct timespec limit = {10, 0};
    start(argc, argv);
    for (int i = 0; i < 2; i++) {
        NEED(pipe(ends[i]) == 0);
        begin(i);
    }
    lookup.ar_request = &numeric;
    NEED(getaddrinfo_a(GAI_NOWAIT, lookups, 1, NULL) == 0);
    ready();
    do {
        int round = next_round();
        for (int i = 0; i < 2; i++) {
            char text[8];
            const struct aiocb *const list[] = {&blocks[i]};
            snprintf(text, sizeof text, "%d/%d", round % 1000, i);
            EXPECT(aio_error(&blocks[i]) == EINPROGRESS, "read %d is over: %d", i, aio_error(&blocks[i]));
            EXPECT(write(ends[i][1], text, sizeof text) == sizeof text, "errno %d", errno);
            int waited;
            while ((waited = aio_suspend(list, 1, &limit)) != 0 && errno == EINTR)
                ;
            EXPECT(waited == 0, "read %d does not end: errno %d", i, errno);
            EXPECT(aio_return(&blocks[i]) == sizeof text, "read %d: %d", i, aio_error(&blocks[i]));
            if (broken())
                text[0]++;
            EXPECT(same_bytes(text, buffers[i], sizeof text), "read %d gave %.8s", i, buffers[i]);
            begin(i);
        }
        int gave = await_lookup(&lookup, &limit);
        EXPECT(gave == 0 || gave == EAI_ALLDONE, "getaddrinfo_a: %d", gave);
        EXPECT(gai_error(&lookup) == 0 && lookup.ar_result != NULL, "getaddrinfo_a: %d", gai_error(&lookup));
        if (lookup.ar_result)
            freeaddrinfo(lookup.ar_result);
        lookup.ar_result = NULL;
        EXPECT(getaddrinfo_a(GAI_NOWAIT, lookups, 1, NULL) == 0, "getaddrinfo_a");
    } while (report());
    /* libc's thread writes to this function's variables. */
    await_lookup(&lookup, &limit);
    return finish();
}
