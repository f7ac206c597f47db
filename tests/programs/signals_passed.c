/* Counts the signals of some kinds and keeps the values that come with one: in each round, one of each kind and three
 * values in order are expected. */
#include "harness.h"
#include <signal.h>

enum { KINDS = 6, VALUES = 3 };
static const int kinds[KINDS] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGWINCH, SIGURG};
static volatile sig_atomic_t counts[KINDS], values[VALUES], value_count;

static void count(int signal)
{
    for (int i = 0; i < KINDS; i++)
        if (kinds[i] == signal)
            counts[i]++;
}

static void keep_value(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    if (info->si_code == SI_QUEUE && value_count < VALUES)
        values[value_count] = info->si_value.sival_int;
    value_count++;
}

static int all_came(void)
{
    for (int i = 0; i < KINDS; i++)
        if (counts[i] == 0)
            return 0;
    return value_count >= VALUES;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = count}, with_value = {.sa_sigaction = keep_value, .sa_flags = SA_SIGINFO};
    start(argc, argv);
    int sends_itself = argc < 3; /* nobody else does */
    for (int i = 0; i < KINDS; i++)
        NEED(sigaction(kinds[i], &action, NULL) == 0);
    NEED(sigaction(SIGRTMIN + 3, &with_value, NULL) == 0);
    ready();
    do {
        int round = next_round();
        for (int i = 0; sends_itself && i < KINDS; i++)
            raise(kinds[i]);
        for (int i = 0; sends_itself && i < VALUES; i++)
            sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 100 * round + i});
        for (int i = 0; i < 20000 && !all_came(); i++)
            usleep(500);
        if (broken())
            counts[1] = 0;
        for (int i = 0; i < KINDS; i++)
            EXPECT(counts[i] == 1, "signal %d came %d times", kinds[i], (int)counts[i]);
        EXPECT(value_count == VALUES, "%d values came", (int)value_count);
        for (int i = 0; i < VALUES; i++)
            EXPECT(values[i] == 100 * round + i, "value %d is %d", i, (int)values[i]);
        memset((void *)counts, 0, sizeof counts);
        value_count = 0;
    } while (report());
    return finish();
}
