/* Preloaded into the gateway by tests/it/power_cut.rs: records what a disk would see.
 *
 * The file named by CLERKCAST_TRACE receives, in the order in which they happened, each
 * write to the database and its WAL, each fsync ('S') and fdatasync ('D'), each change of a
 * length, and each answer: a "200" that left through a socket, or a line of a process that
 * has none (tests/it/child.rs). An entry is: kind (1 byte), file (1 byte: 'd' the database,
 * 'w' its WAL, 's' a socket or such a line), offset (8 bytes), length (4 bytes), both in the
 * machine's order, and so many bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), count = strlen(end);
    return length >= count && strcmp(text + length - count, end) == 0;
}

static char file_of(int fd) {
    char path[64], target[4096];
    ssize_t length;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    if (length <= 0) return 0;
    target[length] = 0;
    if (ends_with(target, "/clerkcast.db")) return 'd';
    if (ends_with(target, "/clerkcast.db-wal")) return 'w';
    return 0;
}

/* Called with the lock held, so that the trace has one order. */
static void record(char kind, char file, uint64_t offset, const void *bytes, uint32_t length) {
    static int trace = -1;
    char head[14];
    if (trace < 0) {
        const char *path = getenv("CLERKCAST_TRACE");
        if (path == NULL) return;
        trace = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (trace < 0) abort();
    }
    head[0] = kind;
    head[1] = file;
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 4);
    if (syscall(SYS_write, trace, head, sizeof head) != sizeof head) abort();
    if (length > 0 && syscall(SYS_write, trace, bytes, length) != (long)length) abort();
}

#define TRACED(fd, operation, entry)                 \
    do {                                             \
        char file = file_of(fd);                     \
        __typeof__(operation) result;                \
        int error;                                   \
        if (file == 0) return operation;             \
        pthread_mutex_lock(&lock);                   \
        result = operation;                          \
        error = errno;                               \
        if (result >= 0) { entry; }                  \
        pthread_mutex_unlock(&lock);                 \
        errno = error;                               \
        return result;                               \
    } while (0)

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    TRACED(fd, REAL(pwrite64)(fd, bytes, count, offset),
           record('W', file, (uint64_t)offset, bytes, (uint32_t)result));
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    TRACED(fd, REAL(pwrite)(fd, bytes, count, offset),
           record('W', file, (uint64_t)offset, bytes, (uint32_t)result));
}

int ftruncate64(int fd, off64_t length) {
    TRACED(fd, REAL(ftruncate64)(fd, length), record('T', file, (uint64_t)length, NULL, 0));
}

int ftruncate(int fd, off_t length) {
    TRACED(fd, REAL(ftruncate)(fd, length), record('T', file, (uint64_t)length, NULL, 0));
}

int fsync(int fd) { TRACED(fd, REAL(fsync)(fd), record('S', file, 0, NULL, 0)); }

int fdatasync(int fd) { TRACED(fd, REAL(fdatasync)(fd), record('D', file, 0, NULL, 0)); }

/* Recorded before it leaves: whoever receives it does so later. */
static void answer(const char *start, const void *bytes, size_t count) {
    if (count < strlen(start) || memcmp(bytes, start, strlen(start)) != 0) return;
    pthread_mutex_lock(&lock);
    record('A', 's', 0, bytes, (uint32_t)count);
    pthread_mutex_unlock(&lock);
}

ssize_t send(int fd, const void *bytes, size_t count, int flags) {
    answer("HTTP/1.1 200", bytes, count);
    return REAL(send)(fd, bytes, count, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char joined[4096];
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        size_t room = sizeof joined - length;
        size_t part = parts[i].iov_len < room ? parts[i].iov_len : room;
        memcpy(joined + length, parts[i].iov_base, part);
        length += part;
    }
    answer("HTTP/1.1 200", joined, length);
    return REAL(writev)(fd, parts, count);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    answer("{\"acknowledged\"", bytes, count);
    return REAL(write)(fd, bytes, count);
}
