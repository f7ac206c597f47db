/*
 * Sealed memfds: against all writing, against new writable mappings while an old one still writes, against more seals, never
 * sealable, not executable (where the kernel has that); each with its contents.
 */
#include "harness.h"
#include <sys/mman.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif

enum { WHOLE, FUTURE, CLOSED, NEVER, NOEXEC, KINDS };
static const struct {
    const char *name;
    unsigned flags;
    int seals;
} kinds[] = {
    {"no writing", MFD_ALLOW_SEALING, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW},
    {"no new writing", MFD_ALLOW_SEALING | MFD_CLOEXEC, F_SEAL_FUTURE_WRITE},
    {"no more seals", MFD_ALLOW_SEALING, F_SEAL_SEAL | F_SEAL_GROW},
    {"no seals ever", 0, 0},
    {"not executable", MFD_NOEXEC_SEAL, 0},
};

int main(int argc, char **argv)
{
    int fds[KINDS], seals[KINDS];
    struct stat stat;
    char got[16];
    start(argc, argv);
    char *writer = MAP_FAILED;
    for (int i = 0; i < KINDS; i++) {
        fds[i] = memfd_create(kinds[i].name, kinds[i].flags);
        if (fds[i] < 0 && i == NOEXEC)
            continue;
        NEED(fds[i] >= 0 && ftruncate(fds[i], 8192) == 0 && pwrite(fds[i], kinds[i].name, 8, 4096) == 8);
        if (i == FUTURE)
            writer = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
        NEED(kinds[i].seals == 0 || fcntl(fds[i], F_ADD_SEALS, kinds[i].seals) == 0);
        seals[i] = fcntl(fds[i], F_GET_SEALS);
        NEED((seals[i] & kinds[i].seals) == kinds[i].seals);
    }
    char *reader = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fds[WHOLE], 0);
    NEED(writer != MAP_FAILED && reader != MAP_FAILED);
    ready();
    do {
        int round = next_round();
        if (broken())
            NEED(fcntl(fds[CLOSED] = fds[NEVER], F_GETFD) >= 0);
        for (int i = 0; i < KINDS; i++) {
            if (fds[i] < 0)
                continue;
            EXPECT(fcntl(fds[i], F_GET_SEALS) == seals[i], "%s: seals %#x instead of %#x", kinds[i].name,
                   fcntl(fds[i], F_GET_SEALS), seals[i]);
            EXPECT(pread(fds[i], got, 8, 4096) == 8 && same_bytes(got, kinds[i].name, 8), "%s: contents", kinds[i].name);
        }
        EXPECT(pwrite(fds[WHOLE], "x", 1, 0) == -1 && errno == EPERM, "it can be written");
        EXPECT(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fds[WHOLE], 0) == MAP_FAILED, "it can be mapped for writing");
        EXPECT(same_bytes(reader + 4096, kinds[WHOLE].name, 8), "its mapping");
        EXPECT(pwrite(fds[FUTURE], "x", 1, 0) == -1 && errno == EPERM, "it can be written from now on");
        writer[0] = (char)round;
        EXPECT(pread(fds[FUTURE], got, 1, 0) == 1 && got[0] == round, "what its mapping has written");
        EXPECT(fcntl(fds[CLOSED], F_ADD_SEALS, F_SEAL_SHRINK) == -1 && errno == EPERM, "it takes another seal");
        EXPECT(fcntl(fds[NEVER], F_ADD_SEALS, F_SEAL_SHRINK) == -1 && errno == EPERM, "it can be sealed");
        EXPECT(fds[NOEXEC] < 0 || (fstat(fds[NOEXEC], &stat) == 0 && (stat.st_mode & 0111) == 0), "mode %o", stat.st_mode);
    } while (report());
    return finish();
}
