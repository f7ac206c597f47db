// flags: -nostartfiles -no-pie
/* Linked as with a libc before 2.34: pthread_kill tells a thread that has ended from one that runs. */
#include "harness.h"
#include <pthread.h>
#include <signal.h>

__asm__(".symver pthread_create, pthread_create@GLIBC_2.1");
__asm__(".symver pthread_kill, pthread_kill@GLIBC_2.0");
__asm__(".symver pthread_join, pthread_join@GLIBC_2.0");
/* The usual beginning asks for a function of 2.34. */
__asm__(".globl _start\n_start: xorl %ebp, %ebp\nmovl %esp, %eax\nandl $-16, %esp\nsubl $8, %esp\nleal 4(%eax), %ecx\n"
        "pushl %ecx\npushl (%eax)\ncall main\nmovl %eax, (%esp)\ncall exit\n");

static void *end(void *unused)
{
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    start(argc, argv);
    NEED(pthread_create(&thread, NULL, end, NULL) == 0);
    ready();
    do {
        next_round();
        int error = 0;
        for (int tries = 0; error == 0 && tries < 5000; tries++, usleep(1000))
            error = pthread_kill(thread, 0);
        EXPECT(error == (broken() ? 0 : ESRCH), "pthread_kill of a thread that has ended: %d", error);
        pthread_join(thread, NULL);
        NEED(pthread_create(&thread, NULL, end, NULL) == 0);
    } while (report());
    return finish();
}
