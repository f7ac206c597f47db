/*
 * Standard input and output are pipes to the outside: in each round a line is read, and an answer
 * written. After a restart they are those of the restarting command.
 */
#include "harness.h"

int main(int argc, char **argv)
{
    char line[256], answer[300];
    start(argc, argv);
    ready();
    do {
        int round = next_round();
        size_t len = 0;
        while (len < sizeof line - 1) {
            ssize_t n = read(0, line + len, 1);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0 || line[len] == '\n')
                break;
            len++;
        }
        line[len] = 0;
        char want[32];
        snprintf(want, sizeof want, "line %d", round);
        EXPECT(strcmp(line, want) == 0, "read '%s' instead of '%s'", line, want);
        int n = snprintf(answer, sizeof answer, "answer to %s\n", line);
        EXPECT(write(1, answer, (size_t)n) == n, "cannot write the answer: errno %d", errno);
    } while (report());
    return finish();
}
