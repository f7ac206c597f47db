/*
 * What /proc/self says of the program: exe, cmdline (rewritten as setproctitle does), environ, auxv,
 * comm, the address fields of stat.
 */
#include "harness.h"
#include <sys/auxv.h>
#include <sys/prctl.h>

extern char **environ;

struct text {
    char data[65536];
    size_t len;
};
static struct text cmdline[2], environment[2], auxv[2], comm[2];
static char exe[2][PATH_MAX];
static unsigned long long addresses[2][10];

static void read_text(const char *path, struct text *text)
{
    text->len = slurp(path, text->data, sizeof text->data);
}

static void read_all(int i)
{
    char stat[2048];
    read_text("/proc/self/cmdline", &cmdline[i]);
    read_text("/proc/self/environ", &environment[i]);
    read_text("/proc/self/auxv", &auxv[i]);
    read_text("/proc/self/comm", &comm[i]);
    memset(exe[i], 0, sizeof exe[i]);
    NEED(readlink("/proc/self/exe", exe[i], sizeof exe[i] - 1) > 0);
    slurp("/proc/self/stat", stat, sizeof stat);
    /* fields 26 to 28 and 45 to 51; the name in parentheses may hold anything */
    char *p = strrchr(stat, ')') + 1;
    for (int field = 3, n = 0; n < 10 && p; field++) {
        p = strchr(p + 1, ' ');
        int next = field + 1;
        if (p && ((next >= 26 && next <= 28) || (next >= 45 && next <= 51)))
            addresses[i][n++] = strtoull(p, NULL, 10);
    }
}

int main(int argc, char **argv)
{
    start(argc, argv);
    /* as setproctitle: over the arguments, in place */
    char *first = argv[0], *last = argv[argc - 1] + strlen(argv[argc - 1]);
    size_t room = (size_t)(last - first);
    static char old[PATH_MAX * 2];
    memset(first, ' ', room);
    NEED(room > 20 && room < sizeof old);
    memcpy(first, "rewritten: a title", 18);
    prctl(PR_SET_NAME, "new (name) 1");
    /* and a changed environment block */
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "TEST_TITLE=", 11) == 0)
            memset(*e + 11, 'x', strlen(*e + 11));
    read_all(0);
    unsigned long vdso = getauxval(AT_SYSINFO_EHDR), random = getauxval(AT_RANDOM);
    ready();
    do {
        int round = next_round();
        if (broken()) {
            prctl(PR_SET_NAME, "other");
            first[0] = '!';
        }
        read_all(1);
        EXPECT(strcmp(exe[0], exe[1]) == 0, "exe is %s instead of %s", exe[1], exe[0]);
        EXPECT(cmdline[0].len == cmdline[1].len &&
                   same_bytes(cmdline[0].data, cmdline[1].data, cmdline[0].len),
               "cmdline is '%s' instead of '%s'", cmdline[1].data, cmdline[0].data);
        EXPECT(environment[0].len == environment[1].len &&
                   same_bytes(environment[0].data, environment[1].data, environment[0].len),
               "environ has %zu bytes instead of %zu, beginning '%.60s' instead of '%.60s'",
               environment[1].len, environment[0].len, environment[1].data, environment[0].data);
        EXPECT(auxv[0].len == auxv[1].len && same_bytes(auxv[0].data, auxv[1].data, auxv[0].len),
               "auxv changed");
        EXPECT(strcmp(comm[0].data, comm[1].data) == 0, "comm is '%s' instead of '%s'",
               comm[1].data, comm[0].data);
        for (int i = 0; i < 10; i++)
            EXPECT(addresses[0][i] == addresses[1][i],
                   "address %d of /proc/self/stat (startcode endcode startstack start_data end_data "
                   "start_brk arg_start arg_end env_start env_end) is %#llx instead of %#llx",
                   i, addresses[1][i], addresses[0][i]);
        EXPECT(getauxval(AT_SYSINFO_EHDR) == vdso && getauxval(AT_RANDOM) == random, "getauxval");
        char name[32];
        snprintf(name, sizeof name, "new (name) %d", round + 1);
        prctl(PR_SET_NAME, name);
        memset(first, 'a' + round % 26, 10);
        read_all(0);
    } while (report());
    return finish();
}
