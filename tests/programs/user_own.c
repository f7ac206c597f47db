/* What an ordinary user is and may do: his ids and files are his own, he cannot become or name another. */
#include "harness.h"
#include <grp.h>

/* In a user namespace other ids do not exist, so that the error may be EINVAL. */
static int refused(int result)
{
    return result < 0 && (errno == EPERM || errno == EINVAL);
}

int main(int argc, char **argv)
{
    struct stat status;
    gid_t none = 0;
    start(argc, argv);
    if (geteuid() == 0)
        skip("needs an ordinary user");
    const uid_t uid = getuid(), euid = geteuid();
    const gid_t gid = getgid(), egid = getegid();
    const int groups = getgroups(0, NULL);
    int fd = open(test_path("own"), O_RDWR | O_CREAT, 0640);
    NEED(fd >= 0);
    ready();
    do {
        next_round();
        EXPECT(getuid() == uid && geteuid() == euid && getgid() == gid && getegid() == egid, "ids %u %u %u %u",
               (unsigned)getuid(), (unsigned)geteuid(), (unsigned)getgid(), (unsigned)getegid());
        EXPECT(getgroups(0, NULL) == groups, "%d groups instead of %d", getgroups(0, NULL), groups);
        EXPECT(setuid(uid) == 0 && setreuid(uid, euid) == 0 && setgid(gid) == 0 && setegid(egid) == 0, "errno %d", errno);
        EXPECT(refused(setuid(0)), "setuid(0): errno %d", errno);
        EXPECT(refused(seteuid(uid + 1)), "seteuid: errno %d", errno);
        EXPECT(refused(setgid(0)), "setgid(0): errno %d", errno);
        EXPECT(refused(setgroups(0, NULL)) && refused(setgroups(1, &none)), "setgroups: errno %d", errno);
        EXPECT(fstat(fd, &status) == 0 && status.st_uid == uid && status.st_gid == gid, "the own file is of %u, %u",
               (unsigned)status.st_uid, (unsigned)status.st_gid);
        EXPECT(fchown(fd, uid, gid) == 0 && fchown(fd, (uid_t)-1, gid) == 0, "chown to oneself: errno %d", errno);
        EXPECT(refused(fchown(fd, 0, (gid_t)-1)) && refused(fchown(fd, (uid_t)-1, 0)), "chown: errno %d", errno);
        EXPECT(fchmod(fd, broken() ? 0600 : 0644) == 0 && fstat(fd, &status) == 0 && (status.st_mode & 0777) == 0644,
               "chmod: mode %o", status.st_mode);
        EXPECT(access("/", W_OK) != 0 && errno == EACCES, "the root directory can be written");
        int other = open(test_path("another"), O_RDWR | O_CREAT | O_TRUNC, 0600);
        EXPECT(other >= 0 && fstat(other, &status) == 0 && status.st_uid == uid, "a new file");
        close(other);
        NEED(unlink(test_path("another")) == 0 && fchmod(fd, 0640) == 0);
    } while (report());
    return finish();
}
