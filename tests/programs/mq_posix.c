/*
 * POSIX message queues: messages in the order of their priorities, attributes, permissions and names; one with two
 * descriptions of different flags, one whose name is gone, an empty one.
 */
// libs: -lrt
#include "harness.h"
#include <mqueue.h>

static char name[64], empty_name[64];

static void put(mqd_t queue, const char *text, unsigned priority)
{
    NEED(mq_send(queue, text, strlen(text), priority) == 0);
}

static void expect(mqd_t queue, const char *what, const char *text, unsigned priority)
{
    char got[200];
    unsigned got_priority = 0;
    struct timespec past = {0, 0};
    ssize_t n = mq_timedreceive(queue, got, sizeof got, &got_priority, &past);
    EXPECT(n == (ssize_t)strlen(text) && same_bytes(got, text, strlen(text)), "%s: %zd bytes '%.*s' (errno %d)", what, n,
           n > 0 ? (int)n : 0, got, errno);
    EXPECT(got_priority == priority, "%s: priority %u instead of %u", what, got_priority, priority);
}

static void expect_nothing(mqd_t queue, const char *what)
{
    struct mq_attr now;
    EXPECT(mq_getattr(queue, &now) == 0 && now.mq_curmsgs == 0, "%s: %ld more", what, now.mq_curmsgs);
}

static void fill(mqd_t queue)
{
    put(queue, "low", 1);
    put(queue, "high", 30000);
    put(queue, "", 7);
    put(queue, "low too", 1);
}

int main(int argc, char **argv)
{
    struct mq_attr attr = {.mq_maxmsg = 5, .mq_msgsize = 120}, small = {.mq_maxmsg = 2, .mq_msgsize = 8}, now;
    struct stat stat_buf;
    start(argc, argv);
    snprintf(name, sizeof name, "/selfckpt-test-%d", (int)getpid());
    snprintf(empty_name, sizeof empty_name, "/selfckpt-test-empty-%d", (int)getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0640, &attr);
    NEED(queue != (mqd_t)-1 && fchmod(queue, 0604) == 0);
    mqd_t reader = mq_open(name, O_RDONLY | O_NONBLOCK);
    mqd_t empty = mq_open(empty_name, O_WRONLY | O_CREAT | O_EXCL, 0600, &small);
    NEED(reader != (mqd_t)-1 && empty != (mqd_t)-1);
    mqd_t nameless = mq_open("/selfckpt-test-nameless", O_RDWR | O_CREAT, 0600, &small);
    NEED(nameless != (mqd_t)-1 && mq_unlink("/selfckpt-test-nameless") == 0);
    fill(queue);
    put(nameless, "gone", 3);
    test_publish("names", name, strlen(name));
    ready();
    do {
        next_round();
        if (broken())
            put(queue, "more", 2);
        expect(reader, "first", "high", 30000);
        expect(queue, "second", "", 7);
        expect(queue, "third", "low", 1);
        expect(reader, "fourth", "low too", 1);
        expect_nothing(queue, "the queue");
        expect_nothing(empty, "the empty queue");
        expect(nameless, "without a name", "gone", 3);
        expect_nothing(nameless, "without a name");
        EXPECT(mq_getattr(reader, &now) == 0 && now.mq_maxmsg == 5 && now.mq_msgsize == 120, "%ld of %ld", now.mq_maxmsg,
               now.mq_msgsize);
        EXPECT(now.mq_flags == O_NONBLOCK, "flags of the reader %lx", now.mq_flags);
        EXPECT(mq_getattr(queue, &now) == 0 && now.mq_flags == 0, "flags %lx", now.mq_flags);
        EXPECT(mq_getattr(nameless, &now) == 0 && now.mq_maxmsg == 2 && now.mq_msgsize == 8, "%ld of %ld", now.mq_maxmsg,
               now.mq_msgsize);
        EXPECT(fstat(queue, &stat_buf) == 0 && (stat_buf.st_mode & 07777) == 0604, "mode %o", stat_buf.st_mode);
        EXPECT(mq_send(reader, "x", 1, 0) == -1 && errno == EBADF, "the reader writes");
        /* The name leads to the same queue. */
        mqd_t again = mq_open(name, O_WRONLY);
        EXPECT(again != (mqd_t)-1, "its name: errno %d", errno);
        put(again, "by name", 2);
        expect(queue, "by name", "by name", 2);
        mq_close(again);
        fill(queue);
        put(nameless, "gone", 3);
    } while (report());
    mq_unlink(name);
    mq_unlink(empty_name);
    return finish();
}
