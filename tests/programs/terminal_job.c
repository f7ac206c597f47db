/* Tells on its terminal what it reads there and which signals it gets; ends with 3 when it reads "quit". */
#include "terminal.h"

int main(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    char line[64];

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("<begins>\n");
    while (read_line(0, line, sizeof line)) {
        printf("<read %s>\n", line);
        if (strcmp(line, "quit") == 0)
            return 3;
    }
    return 4;
}
