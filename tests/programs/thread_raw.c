/* Threads made by clone(2) itself, without libc's knowledge: on a stack of the program's, with the program's TLS or
 * with none of its own, one that waits on a futex and one that counts. */
#include "harness.h"
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

enum { STACK = 65536, FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM };
struct shared {
    volatile unsigned counted, turn, served, end, tid;
};
static struct shared *shared;

/* No errno, no libc: the first thread's gs is theirs, too. */
static int raw_call(int number, long a, long b, long c, long d)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

static int count(void *unused)
{
    (void)unused;
    while (!shared->end)
        shared->counted++;
    raw_call(SYS_exit, 0, 0, 0, 0);
    return 0;
}

static int serve(void *unused)
{
    (void)unused;
    while (!shared->end) {
        unsigned seen = shared->served;
        while (shared->turn == seen && !shared->end)
            raw_call(SYS_futex, (long)&shared->turn, FUTEX_WAIT_PRIVATE, (long)seen, 0);
        shared->served++;
    }
    raw_call(SYS_exit, 0, 0, 0, 0);
    return 0;
}

static char *new_stack(void)
{
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(stack != MAP_FAILED);
    return stack + STACK;
}

int main(int argc, char **argv)
{
    pid_t parent;
    start(argc, argv);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED);
    shared->tid = 1;
    NEED(clone(count, new_stack(), FLAGS, NULL) > 0);
    NEED(clone(serve, new_stack(), FLAGS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID, NULL, &parent, NULL, &shared->tid) > 0);
    ready();
    do {
        unsigned round = (unsigned)next_round();
        unsigned before = shared->counted;
        for (int i = 0; i < 20000 && shared->counted == before; i++)
            usleep(500);
        EXPECT(shared->counted != before, "the counting thread stands still");
        EXPECT(shared->served == round - 1, "served %u in round %u", shared->served, round);
        shared->turn++;
        raw_call(SYS_futex, (long)&shared->turn, FUTEX_WAKE_PRIVATE, 1, 0);
        for (int i = 0; i < 20000 && shared->served != round; i++)
            usleep(500);
        if (broken())
            shared->served--;
        EXPECT(shared->served == round, "not served: %u in round %u", shared->served, round);
        if (test_last) {
            shared->end = 1;
            raw_call(SYS_futex, (long)&shared->turn, FUTEX_WAKE_PRIVATE, 1, 0);
            for (int i = 0; i < 20000 && shared->tid != 0; i++)
                usleep(500);
            EXPECT(shared->tid == 0, "the word that is to be cleared at its end");
        }
    } while (report());
    return finish();
}
