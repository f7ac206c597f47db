/*
 * System V IPC: shared memory that is attached (also twice, read-only, marked for removal), semaphores with what the
 * process owes them (SEM_UNDO), a message queue with messages; with and without a key.
 */
#include "harness.h"
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGE 4096
#define LEN (16 * PAGE)

struct message {
    long type;
    char text[200];
};

static int private_shm, keyed_shm, removed_shm, sem, queue;
static key_t key;
static volatile uint32_t *one, *two, *constant, *removed;

static void operate(int number, int op, int flags)
{
    struct sembuf buf = {.sem_num = (unsigned short)number, .sem_op = (short)op, .sem_flg = (short)flags};
    NEED(semop(sem, &buf, 1) == 0);
}

static int value_of(int number)
{
    return semctl(sem, number, GETVAL);
}

static void send_text(long type, const char *text)
{
    struct message message = {.type = type};
    strcpy(message.text, text);
    NEED(msgsnd(queue, &message, strlen(text), 0) == 0);
}

static void clean_up(void)
{
    shmctl(private_shm, IPC_RMID, NULL);
    shmctl(keyed_shm, IPC_RMID, NULL);
    semctl(sem, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
}

int main(int argc, char **argv)
{
    struct shmid_ds ds;
    start(argc, argv);
    key = 0x51c70000 + (getpid() & 0xffff);
    NEED((private_shm = shmget(IPC_PRIVATE, LEN - 100, IPC_CREAT | 0600)) >= 0);
    NEED((keyed_shm = shmget(key, LEN, IPC_CREAT | IPC_EXCL | 0640)) >= 0);
    NEED((removed_shm = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600)) >= 0);
    one = shmat(private_shm, NULL, 0);
    two = shmat(private_shm, NULL, 0);
    removed = shmat(removed_shm, NULL, 0);
    uint32_t *writer = shmat(keyed_shm, NULL, 0);
    constant = shmat(keyed_shm, NULL, SHM_RDONLY);
    NEED(one != (void *)-1 && two != (void *)-1 && removed != (void *)-1);
    NEED(writer != (void *)-1 && constant != (void *)-1);
    pattern_fill(writer, LEN / 2, 7);
    NEED(shmdt(writer) == 0);
    NEED(shmctl(removed_shm, IPC_RMID, NULL) == 0);
    /* part of it protected otherwise: several mappings of one attachment */
    NEED(mprotect((char *)one + 4 * PAGE, PAGE, PROT_READ) == 0);
    one[0] = 100;
    removed[1] = 200;

    NEED((sem = semget(key, 4, IPC_CREAT | IPC_EXCL | 0600)) >= 0);
    operate(0, 5, 0);
    operate(1, 7, 0);
    operate(1, -3, SEM_UNDO);
    operate(2, 20000, SEM_UNDO);
    operate(2, 10000, SEM_UNDO);
    union { int value; } argument = {32767};
    NEED(semctl(sem, 3, SETVAL, argument) == 0);
    operate(3, -10, SEM_UNDO);

    NEED((queue = msgget(key, IPC_CREAT | IPC_EXCL | 0600)) >= 0);
    send_text(3, "third");
    send_text(1, "first");
    send_text(2, "");
    char ids[100];
    int len = snprintf(ids, sizeof ids, "%d %d %d %d %d", keyed_shm, sem, queue, (int)key, private_shm);
    test_publish("ids", ids, (size_t)len);
    ready();
    do {
        int round = next_round();
        struct message message;
        if (broken()) {
            one[0] = 1;
            operate(0, 1, 0);
        }
        uint32_t want = 99 + (uint32_t)round;
        EXPECT(one[0] == want && two[0] == want, "%u and %u instead of %u", one[0], two[0], want);
        two[0]++;
        EXPECT(one[0] == want + 1, "the two are not the same memory");
        one[PAGE * 5 / 4]++;
        EXPECT(two[PAGE * 5 / 4] == (uint32_t)round, "page 5: %u", two[PAGE * 5 / 4]);
        EXPECT(removed[1] == 199 + (uint32_t)round, "removed: %u", removed[1]);
        removed[1]++;
        EXPECT(pattern_check(constant, LEN / 2, 7) < 0, "contents of the keyed one");
        EXPECT(all_zero((const char *)constant + LEN / 2, LEN / 2), "its second half");
        EXPECT(mprotect((void *)constant, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "it can be made writable");
        EXPECT(shmget(key, 0, 0) == keyed_shm, "key: %d instead of %d", shmget(key, 0, 0), keyed_shm);
        EXPECT(shmctl(keyed_shm, IPC_STAT, &ds) == 0 && (ds.shm_perm.mode & 0777) == 0640 && ds.shm_segsz == LEN, "keyed");
        EXPECT(shmctl(private_shm, IPC_STAT, &ds) == 0 && ds.shm_segsz == LEN - 100, "private: %zu bytes", ds.shm_segsz);
        EXPECT(ds.shm_nattch == 4, "%lu attachments", (unsigned long)ds.shm_nattch);
        struct vma vma;
        EXPECT(vma_at((unsigned long)removed, &vma) && strncmp(vma.name, "/SYSV00000000", 13) == 0, "name '%s'", vma.name);

        EXPECT(semget(key, 4, 0) == sem, "number of the semaphores");
        const int values[] = {4 + round, 4, 30000, 32757};
        for (int i = 0; i < 4; i++)
            EXPECT(value_of(i) == values[i], "semaphore %d: %d instead of %d", i, value_of(i), values[i]);
        operate(0, 1, 0);

        EXPECT(msgget(key, 0) == queue, "number of the queue");
        ssize_t n = msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        EXPECT(n == 5 && message.type == 3 && memcmp(message.text, "third", 5) == 0, "%zd bytes, type %ld", n, message.type);
        n = msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        EXPECT(n >= 5 && message.type == 1 && memcmp(message.text, "first", 5) == 0, "%zd bytes, type %ld", n, message.type);
        n = msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT);
        EXPECT(n == 0 && message.type == 2, "%zd bytes, type %ld", n, message.type);
        EXPECT(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT) == -1 && errno == ENOMSG, "a fourth message");
        send_text(3, "third");
        send_text(1, "first");
        send_text(2, "");
    } while (report());

    /* What the process owes comes due at its end. */
    if (syscall(SYS_unshare, 0x40000 /* CLONE_SYSVSEM */) == 0) {
        const int paid[] = {7, 0, 32767};
        for (int i = 1; i < 4; i++)
            if (value_of(i) != paid[i - 1]) {
                test_die("semaphore %d: %d instead of %d when all is paid", i, value_of(i), paid[i - 1]);
            }
    }
    clean_up();
    return finish();
}
