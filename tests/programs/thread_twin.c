/* Two threads with one id: an old one that the program knows by the id that it had before a restart, and a new one that
 * has this id from the kernel. DIR/make-twin asks for the new one; it takes a pid namespace in which ids may be chosen. */
#include "harness.h"
#include "semaphores.h"
#include <pthread.h>
#include <signal.h>

enum { OLD, NEW, THREADS };
static pthread_t threads[THREADS];
static sem_t standing;
static volatile sig_atomic_t caught[THREADS];
static __thread int number = -1;
static pid_t known;

static void on_signal(int signal)
{
    (void)signal;
    if (number >= 0)
        caught[number]++;
}

static void *stand(void *argument)
{
    number = (int)(intptr_t)argument;
    if (number == OLD)
        known = gettid();
    sem_post(&standing);
    for (;;)
        pause();
    return NULL;
}

static void *tell_id(void *path)
{
    ssize_t len = readlink("/proc/thread-self", path, 63);
    return (void *)(intptr_t)(len < 0);
}

/* The kernel's last id, so that the next one is the old thread's. */
static int next_id_is(pid_t id)
{
    char text[16], path[64] = "";
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    int len = snprintf(text, sizeof text, "%d", (int)id - 1);
    int right = fd >= 0 && write(fd, text, (size_t)len) == len;
    pthread_t trial;
    void *failed = NULL;
    right &= pthread_create(&trial, NULL, tell_id, path) == 0 && pthread_join(trial, &failed) == 0 && failed == NULL;
    right &= strtol(strrchr(path, '/') + 1, NULL, 10) == id && pwrite(fd, text, (size_t)len, 0) == len;
    close(fd);
    return right;
}

static int reaches(int which, int other)
{
    int before[THREADS] = {caught[OLD], caught[NEW]};
    if (pthread_kill(threads[which], SIGUSR1) != 0)
        return 0;
    for (int i = 0; i < 20000 && caught[which] == before[which]; i++)
        usleep(500);
    return caught[which] == before[which] + 1 && caught[other] == before[other];
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    int has_twin = 0;
    start(argc, argv);
    NEED(sigaction(SIGUSR1, &action, NULL) == 0 && sem_init(&standing, 0, 0) == 0);
    NEED(pthread_create(&threads[OLD], NULL, stand, (void *)OLD) == 0 && came(&standing));
    ready();
    do {
        next_round();
        if (!has_twin && access(test_path("make-twin"), F_OK) == 0) {
            NEED(next_id_is(known));
            NEED(pthread_create(&threads[NEW], NULL, stand, (void *)NEW) == 0 && came(&standing));
            has_twin = 1;
        }
        EXPECT(reaches(OLD, NEW) && !broken(), "a signal to the old thread: %d, %d", (int)caught[OLD], (int)caught[NEW]);
        if (has_twin)
            EXPECT(reaches(NEW, OLD), "a signal to the new thread: %d, %d", (int)caught[OLD], (int)caught[NEW]);
    } while (report());
    return finish();
}
