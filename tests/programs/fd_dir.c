/* Directories: the position of a readdir under way, telldir, and a descriptor for openat. */
#include "harness.h"
#include <dirent.h>

enum { ENTRIES = 3000 };
static unsigned char seen[ENTRIES];
static int doubled, foreign;

static void take(struct dirent *entry)
{
    int n;
    if (sscanf(entry->d_name, "entry-%d", &n) == 1 && n >= 0 && n < ENTRIES)
        doubled += seen[n]++;
    else if (entry->d_name[0] != '.' && strcmp(entry->d_name, "marker") != 0)
        foreign++;
}

/* Begins a new turn through the directory and stops within it. */
static void begin(DIR *dir, int entries)
{
    rewinddir(dir);
    memset(seen, 0, sizeof seen);
    doubled = foreign = 0;
    for (int i = 0; i < entries; i++) {
        struct dirent *entry = readdir(dir);
        NEED(entry);
        take(entry);
    }
}

int main(int argc, char **argv)
{
    char name[300];
    start(argc, argv);
    const char *path = test_path("directory");
    NEED(mkdir(path, 0755) == 0);
    int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    NEED(dir_fd >= 0);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "entry-%d-%0*d", i, 50 + i % 100, 0);
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT, 0644);
        NEED(fd >= 0);
        close(fd);
    }
    int marker = openat(dir_fd, "marker", O_WRONLY | O_CREAT, 0644);
    NEED(marker >= 0);
    close(marker);
    DIR *dir = opendir(path);
    NEED(dir);
    int flags = fcntl(dir_fd, F_GETFL);
    begin(dir, 700);
    ready();
    do {
        int round = next_round();
        struct dirent *entry;
        if (broken())
            rewinddir(dir);
        /* The rest of what was begun before the checkpoint. */
        while ((entry = readdir(dir)) != NULL)
            take(entry);
        int missing = 0;
        for (int i = 0; i < ENTRIES; i++)
            missing += !seen[i];
        EXPECT(missing == 0 && doubled == 0 && foreign == 0,
               "%d entries missing, %d twice, %d foreign", missing, doubled, foreign);
        EXPECT(fcntl(dir_fd, F_GETFL) == flags, "flags %#o instead of %#o", fcntl(dir_fd, F_GETFL), flags);
        EXPECT(faccessat(dir_fd, "marker", F_OK, 0) == 0,
               "openat's directory is another one: errno %d", errno);
        begin(dir, 500 + 100 * (round % 7));
    } while (report());
    return finish();
}
