// static
/* A program that no library can be loaded into: to be refused, by name. */
#include <unistd.h>

int main(void)
{
    return write(1, "static\n", 7) == 7 ? 0 : 1;
}
