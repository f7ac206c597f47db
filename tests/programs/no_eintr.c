/*
 * Sleeps and waits that a checkpoint interrupts: none of them returns EINTR, none returns early.
 * (After a restart a wait may end at once, since its time is over.)
 */
#include "harness.h"
#include <poll.h>
#include <signal.h>
#include <sys/select.h>

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

enum { WAIT = 60000 }; /* microseconds */
static unsigned turn;
static int failed_call = -1, failed_errno;
static long failed_after;

static const char *const names[] = {"nanosleep", "clock_nanosleep", "poll", "select", "poll with an entry",
                                    "sigtimedwait", "clock_nanosleep absolute", "ppoll", "pselect"};

static void wait_once(void)
{
    struct timespec t = {0, WAIT * 1000};
    struct timeval tv = {0, WAIT};
    sigset_t set;
    int which = (int)(turn++ % 9), result = 0, error = 0;
    int64_t before = now();
    errno = 0;
    switch (which) {
    case 0:
        result = nanosleep(&t, NULL);
        break;
    case 1:
        error = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        break;
    case 2:
        result = poll(NULL, 0, WAIT / 1000);
        break;
    case 3:
        result = select(0, NULL, NULL, NULL, &tv);
        break;
    case 4:
        result = poll(&(struct pollfd){.fd = -1}, 1, WAIT / 1000);
        break;
    case 5:
        sigemptyset(&set);
        sigaddset(&set, SIGWINCH);
        result = sigtimedwait(&set, NULL, &t);
        if (result < 0 && errno == EAGAIN)
            result = 0;
        break;
    case 6:
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += WAIT * 1000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        break;
    case 7:
        result = ppoll(NULL, 0, &t, NULL);
        break;
    case 8:
        result = pselect(0, NULL, NULL, NULL, &t, NULL);
        break;
    }
    if (result < 0)
        error = errno;
    int64_t took = now() - before;
    if ((error != 0 || took < WAIT - 100) && failed_call < 0) {
        failed_call = which;
        failed_errno = error;
        failed_after = (long)took;
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    idle = wait_once;
    ready();
    do {
        next_round();
        if (broken()) {
            failed_call = 0;
            failed_errno = EINTR;
        }
        EXPECT(failed_call < 0, "%s ended after %ld us with errno %d", names[failed_call],
               failed_after, failed_errno);
        failed_call = -1;
    } while (report());
    return finish();
}
