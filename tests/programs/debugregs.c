/*
 * Debug registers: watchpoints that a child has set on this process (before it is ready; the child
 * is gone by then) fire when the watched variables are touched, after a restart too.
 */
#include "harness.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

static volatile uint32_t watched, untouched;
static volatile unsigned char watched_byte;
static volatile int traps, wrong_code;

static void on_trap(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (info->si_code != TRAP_HWBKPT)
        wrong_code = info->si_code;
    traps++;
}

#define DR(i) ((void *)(offsetof(struct user, u_debugreg) + 4 * (i)))

/* In the child. dr0: writes to watched (4 bytes); dr2: reads and writes of watched_byte. */
static int set_watchpoints(pid_t parent, uint32_t dr7)
{
    int status;
    if (ptrace(PTRACE_SEIZE, parent, 0, 0) || ptrace(PTRACE_INTERRUPT, parent, 0, 0))
        return 1;
    if (waitpid(parent, &status, __WALL) != parent)
        return 2;
    if (ptrace(PTRACE_POKEUSER, parent, DR(7), 0) ||
        ptrace(PTRACE_POKEUSER, parent, DR(0), (void *)&watched) ||
        ptrace(PTRACE_POKEUSER, parent, DR(2), (void *)&watched_byte) ||
        ptrace(PTRACE_POKEUSER, parent, DR(7), (void *)(uintptr_t)dr7))
        return 3;
    return ptrace(PTRACE_DETACH, parent, 0, 0) ? 4 : 0;
}

static int helper(uint32_t dr7)
{
    int status, pipes[2];
    char byte;
    NEED(pipe(pipes) == 0);
    pid_t parent = getpid(), child = fork();
    NEED(child >= 0);
    if (child == 0) {
        close(pipes[1]);
        if (read(pipes[0], &byte, 1) != 1)
            _exit(9);
        _exit(set_watchpoints(parent, dr7));
    }
    close(pipes[0]);
    prctl(PR_SET_PTRACER, child, 0, 0, 0);
    NEED(write(pipes[1], "x", 1) == 1);
    close(pipes[1]);
    while (waitpid(child, &status, 0) < 0)
        NEED(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    start(argc, argv);
    NEED(sigaction(SIGTRAP, &action, NULL) == 0);
    /* enable 0 and 2 locally; 0: write, 4 bytes; 2: read or write, 1 byte */
    int failed = helper(1u << 0 | 1u << 4 | (1u | 3u << 2) << 16 | (3u | 0u << 2) << 24);
    if (failed)
        skip("a child cannot ptrace this process");
    traps = 0;
    watched = 1;
    if (traps != 1)
        skip("watchpoints do not fire here");
    ready();
    do {
        int round = next_round();
        if (broken())
            helper(0);
        traps = 0;
        watched = (uint32_t)round;
        EXPECT(traps == 1, "%d traps for a write to the first variable", traps);
        traps = 0;
        watched_byte++; /* a read and a write, in one instruction or in several */
        EXPECT(traps >= 1, "no trap for the second variable");
        traps = 0;
        untouched = watched;
        EXPECT(traps == 0, "%d traps for a read of a variable that is watched for writes", traps);
        EXPECT(wrong_code == 0, "a SIGTRAP with si_code %d", wrong_code);
        wrong_code = 0;
    } while (report());
    return finish();
}
