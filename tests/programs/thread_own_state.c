// libs: -lm
/* What each thread has of its own: blocked signals and pending ones with their values, alternate stack, name, rounding
 * of x87 and SSE, a segment from set_thread_area. */
#include "harness.h"
#include <fenv.h>
#include <pthread.h>
#include <asm/ldt.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>

enum { THREADS = 4 };
static sem_t standing, check[THREADS], checked;
static const int roundings[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
static __thread volatile int own;
static volatile double three = 3;

static void expect_segment(int me, unsigned entry, unsigned char *block)
{
    unsigned short old, selector = (unsigned short)(entry * 8 + 3);
    unsigned char byte;
    __asm__ volatile("movw %%fs, %0" : "=r"(old));
    EXPECT(old == selector, "thread %d: fs is %#x, not %#x", me, old, selector);
    __asm__ volatile("movb %%fs:0, %0" : "=q"(byte));
    EXPECT(byte == block[0], "thread %d: fs:0 is %u, not %u", me, byte, block[0]);
}

static void *stand(void *argument)
{
    int me = (int)(intptr_t)argument, round = 0;
    char name[16], read_back[16] = "";
    unsigned char *block = malloc(4096);
    char *alternate = malloc(SIGSTKSZ);
    struct user_desc desc = {.entry_number = (unsigned)-1, .base_addr = (unsigned)(uintptr_t)block, .limit = 4095,
                             .seg_32bit = 1, .useable = 1};
    stack_t stack = {.ss_sp = alternate, .ss_size = SIGSTKSZ};
    sigset_t mine, now, pending;
    int signal = SIGRTMIN + 6 + me;

    block[0] = (unsigned char)(me + 100);
    sigemptyset(&mine);
    sigaddset(&mine, signal);
    sigaddset(&mine, SIGHUP);
    int wrong = pthread_sigmask(SIG_BLOCK, &mine, NULL) != 0 || sigaltstack(&stack, NULL) != 0 ||
                fesetround(roundings[me]) != 0 || syscall(SYS_set_thread_area, &desc) != 0;
    snprintf(name, sizeof name, "stand-%d", me);
    wrong |= pthread_setname_np(pthread_self(), name) != 0;
    if (wrong)
        test_die("thread %d: errno %d", me, errno);
    unsigned short selector = (unsigned short)(desc.entry_number * 8 + 3);
    __asm__ volatile("movw %0, %%fs" : : "r"(selector));
    volatile double third = 1 / three, now_third;
    for (;;) {
        /* Two pending for this thread alone. */
        own = me * 1000 + round;
        for (int i = 0; i < 2; i++) {
            siginfo_t info = {.si_signo = signal, .si_code = SI_QUEUE, .si_value = {.sival_int = own + i}};
            if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, &info) != 0)
                test_die("rt_tgsigqueueinfo: errno %d", errno);
        }
        sem_post(&standing);
        while (sem_wait(&check[me]) != 0)
            ;
        /* One after the other: EXPECT is not for several threads at once. */
        EXPECT(own == me * 1000 + round, "thread %d: thread-local %d", me, own);
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        for (int i = SIGRTMIN + 6; i < SIGRTMIN + 6 + THREADS; i++)
            EXPECT(sigismember(&now, i) == (i == signal), "thread %d: signal %d is %sblocked", me, i, i == signal ? "not " : "");
        EXPECT(sigismember(&now, SIGHUP) == 1, "thread %d: SIGHUP is not blocked", me);
        sigpending(&pending);
        for (int i = SIGRTMIN + 6; i < SIGRTMIN + 6 + THREADS; i++)
            EXPECT(sigismember(&pending, i) == (i == signal), "thread %d: signal %d is %spending", me, i, i == signal ? "not " : "");
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, signal);
        for (int i = 0; i < 2; i++) {
            siginfo_t info = {0};
            struct timespec none = {0, 0};
            int got = sigtimedwait(&one, &info, &none);
            EXPECT(got == signal && info.si_value.sival_int == own + i && info.si_code == SI_QUEUE,
                   "thread %d: signal %d with %d, code %d", me, got, info.si_value.sival_int, info.si_code);
        }
        stack_t old = {0};
        sigaltstack(NULL, &old);
        EXPECT(old.ss_sp == alternate && old.ss_size == (size_t)SIGSTKSZ && old.ss_flags == 0,
               "thread %d: alternate stack at %p, flags %d", me, old.ss_sp, old.ss_flags);
        prctl(PR_GET_NAME, read_back);
        EXPECT(strcmp(name, read_back) == 0, "thread %d is called %s", me, read_back);
        now_third = 1 / three;
        EXPECT(fegetround() == roundings[me] && now_third == third, "thread %d rounds by %#x", me, fegetround());
        expect_segment(me, desc.entry_number, block);
        struct user_desc area = {.entry_number = desc.entry_number};
        EXPECT(syscall(SYS_get_thread_area, &area) == 0 && area.base_addr == desc.base_addr && area.limit == 4095,
               "thread %d: segment at %#x", me, area.base_addr);
        block[0]++;
        round++;
        sem_post(&checked);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    start(argc, argv);
    NEED(sem_init(&standing, 0, 0) == 0 && sem_init(&checked, 0, 0) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        NEED(sem_init(&check[i], 0, 0) == 0);
        NEED(pthread_create(&thread, NULL, stand, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        while (sem_wait(&standing) != 0)
            ;
    ready();
    do {
        next_round();
        sigset_t pending;
        sigpending(&pending);
        for (int i = SIGRTMIN + 6; i < SIGRTMIN + 6 + THREADS; i++)
            EXPECT(sigismember(&pending, i) == broken(), "signal %d is pending for the first thread too", i);
        for (int i = 0; i < THREADS; i++) {
            sem_post(&check[i]);
            while (sem_wait(&checked) != 0)
                ;
            while (sem_wait(&standing) != 0)
                ;
        }
    } while (report());
    return finish();
}
