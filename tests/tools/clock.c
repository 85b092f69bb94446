/* Preloaded into the gateway by tests/it/clock.rs and tests/it/wal.rs: sets the time of day
 * ahead or back by as many seconds as the file named by CLERKCAST_CLOCK says, which can change
 * meanwhile, and the clock that only counts by those of CLERKCAST_CLOCK_MONOTONIC. With an `@`
 * before them, the seconds are a moment of Unix time at which the clock stands. The kernel's
 * waits are until a moment of its own clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void adjust(struct timespec *time, const char *variable) {
    char text[32] = "";
    const char *path = getenv(variable);
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    if (text[0] != '@') {
        time->tv_sec += strtol(text, NULL, 10);
        return;
    }
    time->tv_sec = strtol(text + 1, NULL, 10);
    time->tv_nsec = 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    int result;
    if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, time);
    if (result != 0) return result;
    if (clock == CLOCK_REALTIME) adjust(time, "CLERKCAST_CLOCK");
    if (clock == CLOCK_MONOTONIC) adjust(time, "CLERKCAST_CLOCK_MONOTONIC");
    return result;
}
