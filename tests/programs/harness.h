/*
 * What every test program shares: how it talks to the test that runs it.
 *
 * The talk goes through files in one directory, argv[1], and through nothing else, so that no
 * descriptor, pipe or mapping has to survive a checkpoint except the one that the program tests.
 *
 *   program                                    test
 *   sets its state up
 *   DIR/ready  (its pid)              ---->    takes checkpoints, kills, restarts
 *   waits                             <----    DIR/go.1   words, see below
 *   checks its state, changes it
 *   DIR/result.1  "PASS" or "FAIL..." ---->
 *   waits for go.2 ...
 *
 * A round is one such turn. A checkpoint may fall anywhere; after a restart the program waits for
 * (or works on) the round that it was in when the image was taken. Words of a go file:
 *   end        this round is the last; the program exits with 0 if all rounds passed, else with 1
 *   restarted  the program was restarted since the previous go file that it has answered
 *
 * A program looks like this:
 *
 *   int main(int argc, char **argv)
 *   {
 *       start(argc, argv);
 *       ...set the state up...
 *       ready();
 *       do {
 *           int round = next_round();
 *           if (broken()) ...spoil the state as a bad restore would...
 *           EXPECT(state is right, "what is wrong: %d", number);
 *           ...change the state for the next round...
 *       } while (report());
 *       return finish();
 *   }
 *
 * With TEST_BREAK=1 in the environment broken() is true, and the program must then report FAIL:
 * the tests run each program once that way, without any checkpoint, to see that it can.
 *
 * The program waits in idle(), again and again. A test whose state lives in registers, in a handler
 * or in an unfinished system call sets its own idle function, so that nearly every checkpoint falls
 * into it.
 */
#ifndef SELFCKPT_TEST_HARNESS_H
#define SELFCKPT_TEST_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define TEST_UNUSED __attribute__((unused))
#define TEST_NOINLINE __attribute__((noinline))

static char test_dir[PATH_MAX - 64];
static int test_broken;
static int test_round;
static int test_last;
static int test_restarted;
static int test_failures; /* in this round */
static int test_failed;   /* in any round */
static char test_text[16384];
static size_t test_text_len;

/* Must leave errno and everything else as it is, as far as the test looks at it. */
static void test_idle_sleep(void)
{
    usleep(1500);
}
static void (*idle)(void) = test_idle_sleep;

/* The path DIR/NAME; the last few results stay valid. */
static TEST_UNUSED const char *test_path(const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, PATH_MAX, "%s/%s", test_dir, name);
    return path;
}

static TEST_UNUSED void test_die(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    if (len > (int)sizeof text - 2)
        len = (int)sizeof text - 2;
    text[len] = '\n';
    if (write(2, text, (size_t)len + 1) < 0)
        _exit(98);
    _exit(99);
}
/* For set-up steps that have to work before there is anything to test. */
#define NEED(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_die("%s:%d: set-up failed: %s (errno %d)", __FILE__, __LINE__, #condition, errno); \
    } while (0)

/* A file that is there complete or not at all. */
static void test_publish(const char *name, const char *text, size_t len)
{
    char temporary[PATH_MAX], path[PATH_MAX];
    snprintf(temporary, sizeof temporary, "%s/.%s.tmp", test_dir, name);
    snprintf(path, sizeof path, "%s/%s", test_dir, name);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        test_die("cannot create %s: errno %d", temporary, errno);
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            test_die("cannot write %s: errno %d", temporary, errno);
        text += n;
        len -= (size_t)n;
    }
    close(fd);
    /* A restart from an image of before finds that it was done. */
    if (rename(temporary, path) != 0 && (errno != ENOENT || access(path, F_OK) != 0))
        test_die("cannot rename %s: errno %d", temporary, errno);
}

static TEST_UNUSED void start(int argc, char **argv)
{
    if (argc < 2 || realpath(argv[1], test_dir) == NULL)
        test_die("usage: %s DIR, a directory for the talk with the test", argv[0]);
    test_broken = getenv("TEST_BREAK") != NULL;
}

/* The process's number in /proc. After a restart with new ids it is not what getpid() goes on to say. */
static TEST_UNUSED int proc_pid(void)
{
    char text[16];
    ssize_t len = readlink("/proc/self", text, sizeof text - 1);
    if (len <= 0)
        test_die("/proc/self: errno %d", errno);
    text[len] = 0;
    return atoi(text);
}

static TEST_UNUSED void ready(void)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    test_publish("ready", text, (size_t)len);
}

/* This machine has no such state. */
static TEST_UNUSED void skip(const char *reason)
{
    test_publish("skip", reason, strlen(reason));
    exit(77);
}

static TEST_UNUSED int broken(void)
{
    return test_broken;
}

static TEST_UNUSED int restarted(void)
{
    return test_restarted;
}

/* Waits for the next round and returns its number, from 1. */
static TEST_UNUSED int next_round(void)
{
    char path[PATH_MAX], words[128];
    test_round++;
    test_failures = 0;
    test_text_len = 0;
    snprintf(path, sizeof path, "%s/go.%d", test_dir, test_round);
    while (access(path, F_OK) != 0)
        idle();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof words - 1);
    if (n < 0)
        test_die("cannot read %s: errno %d", path, errno);
    close(fd);
    words[n] = 0;
    test_last = strstr(words, "end") != NULL;
    test_restarted = strstr(words, "restarted") != NULL;
    return test_round;
}

/* A line of the result file. */
static TEST_UNUSED void note(const char *format, ...)
{
    size_t room = sizeof test_text - test_text_len;
    va_list args;
    if (room < 2)
        return;
    va_start(args, format);
    int len = vsnprintf(test_text + test_text_len, room - 1, format, args);
    va_end(args);
    test_text_len += len < (int)room - 1 ? (size_t)len : room - 2;
    test_text[test_text_len++] = '\n';
}

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition) && test_failures++ < 50) {                                                \
            note("FAIL %s:%d: %s", __FILE__, __LINE__, #condition);                                \
            note("     " __VA_ARGS__);                                                             \
        }                                                                                          \
    } while (0)

/* Writes the result of the round; false after the last one. */
static TEST_UNUSED int report(void)
{
    char name[32];
    if (test_failures == 0)
        note("PASS");
    else
        test_failed = 1;
    snprintf(name, sizeof name, "result.%d", test_round);
    test_publish(name, test_text, test_text_len);
    return !test_last;
}

static TEST_UNUSED int finish(void)
{
    return test_failed;
}

/* ---- Small things that several programs use ---- */

/* A pattern that is another one for each seed; never zero over a whole page. */
static TEST_UNUSED uint32_t pattern_at(uint32_t seed, size_t index)
{
    uint32_t x = seed * 0x9e3779b9u + (uint32_t)index * 0x85ebca6bu + 1;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    return x ^ x >> 12;
}

static TEST_UNUSED void pattern_fill(volatile void *start, size_t len, uint32_t seed)
{
    volatile uint32_t *word = start;
    for (size_t i = 0; i < len / 4; i++)
        word[i] = pattern_at(seed, i);
}

/* Index of the first word that is wrong, or -1. */
static TEST_UNUSED long pattern_check(const volatile void *start, size_t len, uint32_t seed)
{
    const volatile uint32_t *word = start;
    for (size_t i = 0; i < len / 4; i++)
        if (word[i] != pattern_at(seed, i))
            return (long)i;
    return -1;
}

static TEST_UNUSED int all_zero(const volatile void *start, size_t len)
{
    const volatile uint32_t *word = start;
    for (size_t i = 0; i < len / 4; i++)
        if (word[i] != 0)
            return 0;
    return 1;
}

/* Reads a whole (proc) file without malloc; returns its length. */
static TEST_UNUSED size_t slurp(const char *path, char *buffer, size_t size)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        test_die("cannot open %s: errno %d", path, errno);
    while (len + 1 < size) {
        ssize_t n = read(fd, buffer + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    buffer[len] = 0;
    return len;
}

/* The line of /proc/self/maps or smaps that covers an address, as numbers; 0 if there is none. */
struct vma {
    unsigned long start, end, offset;
    char perms[5];
    char name[256];
};
static TEST_UNUSED int vma_parse(const char *line, struct vma *vma)
{
    int used = 0;
    vma->name[0] = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %*x:%*x %*u %n", &vma->start, &vma->end, vma->perms,
               &vma->offset, &used) < 4)
        return 0;
    size_t len = strcspn(line + used, "\n");
    if (len >= sizeof vma->name)
        len = sizeof vma->name - 1;
    memcpy(vma->name, line + used, len);
    vma->name[len] = 0;
    return 1;
}
static TEST_UNUSED int vma_at(unsigned long address, struct vma *vma)
{
    static char maps[1 << 18];
    slurp("/proc/self/maps", maps, sizeof maps);
    for (char *line = maps; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (vma_parse(line, vma) && vma->start <= address && address < vma->end)
            return 1;
    }
    return 0;
}

/* A number that /proc/self/smaps tells of the mapping at an address, -1 if it does not. */
static TEST_UNUSED long smaps_number(const void *address, const char *name)
{
    static char smaps[1 << 19];
    struct vma vma;
    int inside = 0;
    size_t len = strlen(name);
    slurp("/proc/self/smaps", smaps, sizeof smaps);
    for (char *line = smaps; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (vma_parse(line, &vma))
            inside = vma.start <= (uintptr_t)address && (uintptr_t)address < vma.end;
        else if (inside && strncmp(line, name, len) == 0 && line[len] == ':')
            return atol(line + len + 1);
    }
    return -1;
}

static TEST_UNUSED int same_bytes(const void *a, const void *b, size_t len)
{
    return memcmp(a, b, len) == 0;
}

#endif
