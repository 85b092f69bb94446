/* Preloaded into the gateway by tests/it/faults.rs: makes the disk fail.
 *
 * The file named by CLERKCAST_FAULT says how, and can change while the gateway runs:
 * "full" fails writes with ENOSPC, "database full" those to the database alone, so that the
 * WAL goes on, "nearly full" fails those that would make a file grow
 * beyond 32 KiB in all, "fsync" fails fsync and fdatasync with EIO, "stall" has both
 * wait for as long as it is there, "read-only" fails opening to write with EROFS. Only
 * files whose name contains "clerkcast.db" are affected. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int is_asked_for(const char *fault) {
    const char *control = getenv("CLERKCAST_FAULT");
    char text[16] = "";
    ssize_t length;
    FILE *file;
    if (control == NULL || (file = fopen(control, "r")) == NULL) return 0;
    length = (ssize_t)fread(text, 1, sizeof text - 1, file);
    fclose(file);
    return length > 0 && strncmp(text, fault, strlen(fault)) == 0;
}

static int fault_is(const char *fault, int fd) {
    char path[64], target[4096];
    ssize_t length;
    if (!is_asked_for(fault)) return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    if (length <= 0) return 0;
    target[length] = 0;
    return strstr(target, "clerkcast.db") != NULL;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_database(int fd) {
    char path[64], target[4096];
    ssize_t length;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof target - 1);
    if (length < 3) return 0;
    target[length] = 0;
    return strcmp(target + length - 3, ".db") == 0;
}

static int has_no_room(int fd, size_t count, off64_t offset) {
    static off64_t grown = 0;
    struct stat file;
    off64_t growth;
    if (fault_is("full", fd)) return 1;
    if (fault_is("database full", fd) && is_database(fd)) return 1;
    if (!fault_is("nearly full", fd) || fstat(fd, &file) != 0) return 0;
    growth = offset + (off64_t)count - file.st_size;
    if (growth <= 0) return 0;
    if (grown + growth > 32768) return 1;
    grown += growth;
    return 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    if (has_no_room(fd, count, offset)) { errno = ENOSPC; return -1; }
    return REAL(pwrite64)(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    if (has_no_room(fd, count, offset)) { errno = ENOSPC; return -1; }
    return REAL(pwrite)(fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (fault_is("full", fd)) { errno = ENOSPC; return -1; }
    return REAL(write)(fd, bytes, count);
}

int fsync(int fd) {
    while (fault_is("stall", fd)) usleep(1000);
    if (fault_is("fsync", fd)) { errno = EIO; return -1; }
    return REAL(fsync)(fd);
}

int fdatasync(int fd) {
    while (fault_is("stall", fd)) usleep(1000);
    if (fault_is("fsync", fd)) { errno = EIO; return -1; }
    return REAL(fdatasync)(fd);
}

static int is_read_only(const char *path, int flags) {
    int writes = flags & (O_WRONLY | O_RDWR | O_CREAT);
    return writes && strstr(path, "clerkcast.db") != NULL && is_asked_for("read-only");
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    mode_t mode;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    if (is_read_only(path, flags)) { errno = EROFS; return -1; }
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    mode_t mode;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
    if (is_read_only(path, flags)) { errno = EROFS; return -1; }
    return REAL(open)(path, flags, mode);
}
