/* A disk that fails on request, for tests: loaded into a process with LD_PRELOAD.

   FAULT_PATH  only files whose path holds this
   FAULT_CALL  write, sync, name (what gives a file its name, or takes it away) or any
   FAULT_AT    at the so-many-th such call, counted from 1
   FAULT_KIND  kill: the process ends there, before the call; ENOSPC, EIO: the call fails, and so do all after it */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int concerns(int fd) {
    char link[64], path[PATH_MAX];
    const char *wanted = getenv("FAULT_PATH");
    if (!wanted) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, wanted) != NULL;
}

static int named(int folder, const char *name) {
    const char *wanted = getenv("FAULT_PATH");
    if (!wanted) return 0;
    return strstr(name, wanted) != NULL || (name[0] != '/' && folder != AT_FDCWD && concerns(folder));
}

static int reached(const char *call) {
    static int seen;
    const char *kind = getenv("FAULT_KIND"), *which = getenv("FAULT_CALL"), *at = getenv("FAULT_AT");
    if (!kind || !which || !at || (strcmp(which, "any") && strcmp(call, which))) return 0;
    if (__sync_add_and_fetch(&seen, 1) < atoi(at)) return 0;
    if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    errno = strcmp(kind, "EIO") ? ENOSPC : EIO;
    return 1;
}

static int fails(const char *call, int fd) { return getenv("FAULT_KIND") && concerns(fd) && reached(call); }

static int renames(int from, const char *old, int to, const char *new) {
    return getenv("FAULT_KIND") && (named(from, old) || named(to, new)) && reached("name");
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *from, size_t count) {
    REAL(write);
    return fails("write", fd) ? -1 : real(fd, from, count);
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    REAL(pwrite);
    return fails("write", fd) ? -1 : real(fd, from, count, at);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    REAL(pwrite64);
    return fails("write", fd) ? -1 : real(fd, from, count, at);
}
int fsync(int fd) {
    REAL(fsync);
    return fails("sync", fd) ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    return fails("sync", fd) ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return fails("write", fd) ? -1 : real(fd, length);
}
int rename(const char *old, const char *new) {
    REAL(rename);
    return renames(AT_FDCWD, old, AT_FDCWD, new) ? -1 : real(old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    REAL(renameat);
    return renames(from, old, to, new) ? -1 : real(from, old, to, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(linkat);
    return renames(from, old, to, new) ? -1 : real(from, old, to, new, flags);
}
int unlink(const char *name) {
    REAL(unlink);
    return renames(AT_FDCWD, name, AT_FDCWD, name) ? -1 : real(name);
}
int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    return renames(folder, name, folder, name) ? -1 : real(folder, name, flags);
}
