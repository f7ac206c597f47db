/*
 * Output that goes on all the time: numbered lines to a file opened O_APPEND, to a plain one, to one
 * through stdio, and to standard output. After a restart no line is there twice, none is missing.
 */
#include "harness.h"

static int append_fd, plain_fd;
static FILE *stream;
static unsigned lines;

static void write_line(int fd, const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, line, len);
        if (n < 0 && errno == EINTR)
            continue;
        NEED(n > 0);
        line += n;
        len -= (size_t)n;
    }
}

static void more(void)
{
    char line[64];
    /* 40 lines and a short sleep: some 20000 lines a second */
    for (int i = 0; i < 40; i++) {
        int len = snprintf(line, sizeof line, "line %u of the output\n", lines + 1);
        write_line(append_fd, line, (size_t)len);
        write_line(plain_fd, line, (size_t)len);
        fputs(line, stream);
        fputs(line, stdout);
        lines++;
    }
    usleep(1500);
}

/* The number of the first line that is not as it should be; 0 if the file holds 1 to lines. */
static long wrong_line(int fd)
{
    static char text[1 << 16];
    size_t have = 0;
    off_t at = 0;
    unsigned number = 0;
    for (;;) {
        ssize_t n = pread(fd, text + have, sizeof text - 1 - have, at);
        NEED(n >= 0);
        if (n == 0)
            break;
        at += n;
        have += (size_t)n;
        text[have] = 0;
        char *line = text, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            char want[64];
            snprintf(want, sizeof want, "line %u of the output\n", ++number);
            if (strncmp(line, want, strlen(want)) != 0 || (size_t)(end - line) + 1 != strlen(want))
                return number;
            line = end + 1;
        }
        have = (size_t)(text + have - line);
        memmove(text, line, have);
    }
    if (have != 0 || number != lines)
        return (long)number + 1;
    return 0;
}

static int reopen(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    NEED(fd >= 0);
    return fd;
}

int main(int argc, char **argv)
{
    struct stat st;
    start(argc, argv);
    append_fd = open(test_path("append"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
    plain_fd = open(test_path("plain"), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    stream = fopen(test_path("stream"), "w");
    NEED(append_fd >= 0 && plain_fd >= 0 && stream);
    NEED(fstat(1, &st) == 0);
    int is_file = S_ISREG(st.st_mode);
    idle = more;
    ready();
    do {
        next_round();
        if (broken()) {
            write_line(append_fd, "line 1 of the output\n", 21);
            lseek(plain_fd, -5, SEEK_CUR);
        }
        more();
        fflush(stream);
        fflush(stdout);
        struct {
            const char *name;
            int fd;
        } files[] = {{"append", reopen(test_path("append"))},
                     {"plain", reopen(test_path("plain"))},
                     {"stream", reopen(test_path("stream"))},
                     {"standard output", is_file ? reopen("/proc/self/fd/1") : -1}};
        for (int i = 0; i < 4; i++) {
            if (files[i].fd < 0)
                continue;
            long wrong = wrong_line(files[i].fd);
            EXPECT(wrong == 0, "%s: line %ld of %u is wrong", files[i].name, wrong, lines);
            close(files[i].fd);
        }
    } while (report());
    return finish();
}
