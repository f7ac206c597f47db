/* The working directory and the umask. */
#include "harness.h"

static mode_t mask(void)
{
    mode_t m = umask(0);
    umask(m);
    return m;
}

int main(int argc, char **argv)
{
    char want[PATH_MAX], now[PATH_MAX];
    mode_t want_mask = 027;
    start(argc, argv);
    snprintf(want, sizeof want, "%s", test_path("with space"));
    NEED(mkdir(want, 0755) == 0 && chdir(want) == 0);
    umask(want_mask);
    ready();
    do {
        int round = next_round();
        struct stat st;
        if (broken()) {
            NEED(chdir("/") == 0);
            umask(022);
        }
        EXPECT(getcwd(now, sizeof now) && strcmp(now, want) == 0, "the directory is %s instead of %s",
               now, want);
        EXPECT(mask() == want_mask, "the umask is %#o instead of %#o", mask(), want_mask);
        int fd = open("here", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        EXPECT(fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == (0666 & ~want_mask),
               "a new file has mode %#o", st.st_mode & 0777);
        close(fd);
        unlink("here");
        snprintf(want, sizeof want, "%s/%d", test_dir, round);
        NEED((mkdir(want, 0777) == 0 || errno == EEXIST) && chdir(want) == 0);
        want_mask = round % 2 ? 0 : 077;
        umask(want_mask);
    } while (report());
    return finish();
}
