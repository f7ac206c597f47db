// host: amd64
/* A 64-bit program: to be refused, by name. */
int main(void)
{
    return 0;
}
