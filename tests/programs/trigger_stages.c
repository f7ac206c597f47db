/*
 * Stands still in each stage of its life, until the file DIR/on.STAGE is there: in a constructor, in main, in the
 * destructor of a key when main has called pthread_exit (with argv[2]), in a handler of atexit, in a destructor.
 */
// libs: -lpthread
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *dir;

static void stage(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/at.%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || close(fd) != 0)
        abort();
    snprintf(path, sizeof path, "%s/on.%s", dir, name);
    while (access(path, F_OK) != 0)
        usleep(500);
}

__attribute__((constructor)) static void before_main(int argc, char **argv)
{
    if (argc < 2)
        abort();
    dir = argv[1];
    stage("constructor");
}

__attribute__((destructor)) static void after_main(void)
{
    stage("destructor");
}

static void at_exit(void)
{
    stage("atexit");
}

static void of_key(void *unused)
{
    (void)unused;
    stage("key");
}

int main(int argc, char **argv)
{
    pthread_key_t key;
    (void)argv;
    if (atexit(at_exit) != 0 || pthread_key_create(&key, of_key) != 0 || pthread_setspecific(key, &dir) != 0)
        abort();
    stage("main");
    if (argc > 2)
        pthread_exit(NULL);
    return 7;
}
