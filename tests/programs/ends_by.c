/* Ends as argv[2] says: by raise, by abort, by an exit status, leaving a child behind. Waits for a child in each round. */
#include "harness.h"
#include <signal.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    start(argc, argv);
    const char *how = argc > 2 ? argv[2] : "exit";
    ready();
    do {
        next_round();
        pid_t child = fork();
        if (child == 0)
            _exit(7);
        int status = 0;
        EXPECT(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "status %x", status);
        EXPECT(!broken(), "as asked");
    } while (report());
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "term") == 0)
        raise(SIGTERM);
    if (strcmp(how, "orphan") == 0 && fork() == 0) {
        /* Outlives the program. */
        while (access(test_path("let-go"), F_OK) != 0)
            usleep(1000);
        test_publish("orphan", "here\n", 5);
        _exit(0);
    }
    return strcmp(how, "42") == 0 ? 42 : finish();
}
