// Preloaded into a process: a system on which something is not as elsewhere. Variables of the environment switch it on.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// ODD_LOCKS=1: no file can be locked, as on Lustre mounted without -o flock.
int flock(int fd, int operation) {
    if (!getenv("ODD_LOCKS")) return REAL(flock)(fd, operation);
    errno = ENOSYS;
    return -1;
}

static int odd_fcntl(int (*real)(int, int, ...), int fd, int command, void *argument) {
    if (getenv("ODD_LOCKS") && (command == F_SETLK || command == F_SETLKW)) {
        errno = ENOLCK;
        return -1;
    }
    return real(fd, command, argument);
}

#define FCNTL(name)                                        \
    int name(int fd, int command, ...) {                   \
        va_list rest;                                      \
        va_start(rest, command);                           \
        void *argument = va_arg(rest, void *);             \
        va_end(rest);                                      \
        return odd_fcntl(REAL(name), fd, command, argument); \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

// ODD_CLOCK=FILE: while there is such a file, the clock on the wall is a day behind.
int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = REAL(clock_gettime)(clock, now);
    const char *file = getenv("ODD_CLOCK");
    if (clock == CLOCK_REALTIME && file && !access(file, F_OK)) now->tv_sec -= 24 * 3600;
    return status;
}

// ODD_QUOTA=FILE: while there is such a file, nothing more goes into files of its folder.
static int is_over(int fd) {
    char link[64], path[4096];
    struct stat found;
    const char *file = getenv("ODD_QUOTA");
    if (!file || access(file, F_OK) || fstat(fd, &found) || !S_ISREG(found.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    const char *end = strrchr(file, '/');
    if (length <= end - file || strncmp(path, file, end - file)) return 0;
    errno = EDQUOT;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size) { return is_over(fd) ? -1 : REAL(write)(fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int n) { return is_over(fd) ? -1 : REAL(writev)(fd, parts, n); }
