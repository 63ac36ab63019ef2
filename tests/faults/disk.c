/* A disk that fails on request, for tests: loaded into a process with LD_PRELOAD.

   FAULT_PATH  only files whose path holds this
   FAULT_CALL  write, sync, name (what gives a file its name, or takes it away) or any
   FAULT_AT    at the so-many-th such call, counted from 1
   FAULT_KIND  kill: the process ends there, before the call; ENOSPC, EIO: the call fails, and so do all after it;
               power: it ends there, and of every file only what was synced is left. Names stay, as a journal of
               names alone would have it: a file that was renamed and not synced has its new name and its old bytes */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

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

/* What files held before writes that were not synced yet, the newest first. */
struct before {
    struct before *older;
    int fd; /* of our own: the process may close its own, or take the name away */
    dev_t device;
    ino_t file;
    off_t size, at;
    size_t count;
    char bytes[];
};
static struct before *unsynced;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int loses_power(void) {
    const char *kind = getenv("FAULT_KIND");
    return kind && !strcmp(kind, "power");
}

static int truncated(int fd, off_t length) {
    int (*real)(int, off64_t) = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
    return real(fd, length);
}

static ssize_t written(int fd, const void *from, size_t count, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    return real(fd, from, count, at);
}

/* Before bytes from `at` on are overwritten or cut off. */
static void keep(int fd, off_t at, size_t count) {
    char name[64];
    struct stat file;
    if (!loses_power() || !concerns(fd) || fstat(fd, &file) || !S_ISREG(file.st_mode)) return;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int own = open(name, O_RDWR | O_CLOEXEC);
    if (own < 0) return;
    if (fcntl(fd, F_GETFL) & O_APPEND) at = file.st_size;
    count = at >= file.st_size ? 0 : at + (off_t)count > file.st_size ? (size_t)(file.st_size - at) : count;
    struct before *found = malloc(sizeof *found + count);
    if (!found || pread(own, found->bytes, count, at) != (ssize_t)count) abort();
    *found = (struct before){unsynced, own, file.st_dev, file.st_ino, file.st_size, at, count};
    unsynced = found;
}

static void synced(int fd) {
    struct stat file;
    if (!loses_power() || !concerns(fd) || fstat(fd, &file)) return;
    for (struct before **each = &unsynced; *each;) {
        struct before *found = *each;
        if (found->device == file.st_dev && found->file == file.st_ino) {
            *each = found->older;
            close(found->fd);
            free(found);
        } else {
            each = &found->older;
        }
    }
}

static void lose(void) {
    for (struct before *each = unsynced; each; each = each->older)
        if (truncated(each->fd, each->size) || written(each->fd, each->bytes, each->count, each->at) < 0) abort();
}

static int reached(const char *call) {
    static int seen;
    const char *kind = getenv("FAULT_KIND"), *which = getenv("FAULT_CALL"), *at = getenv("FAULT_AT");
    if (!kind || !which || !at || (strcmp(which, "any") && strcmp(call, which))) return 0;
    if (__sync_add_and_fetch(&seen, 1) < atoi(at)) return 0;
    if (loses_power()) lose();
    if (loses_power() || !strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    errno = strcmp(kind, "EIO") ? ENOSPC : EIO;
    return 1;
}

static int fails(const char *call, int fd) { return getenv("FAULT_KIND") && concerns(fd) && reached(call); }

static int renames(int from, const char *old, int to, const char *new) {
    return getenv("FAULT_KIND") && (named(from, old) || named(to, new)) && reached("name");
}

/* One call after the other, so that nothing is written while power is lost. */
#define AFTER(kept, call, done)                                       \
    int there = loses_power();                                        \
    if (there) pthread_mutex_lock(&turn);                             \
    __typeof__(call) result = -1;                                     \
    if (!(kept)) {                                                    \
        result = (call);                                              \
        done;                                                         \
    }                                                                 \
    if (there) pthread_mutex_unlock(&turn);                           \
    return result

ssize_t write(int fd, const void *from, size_t count) {
    REAL(write);
    AFTER(fails("write", fd) || (keep(fd, lseek(fd, 0, SEEK_CUR), count), 0), real(fd, from, count), );
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
    REAL(pwrite);
    AFTER(fails("write", fd) || (keep(fd, at, count), 0), real(fd, from, count, at), );
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    REAL(pwrite64);
    AFTER(fails("write", fd) || (keep(fd, at, count), 0), real(fd, from, count, at), );
}
int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    AFTER(fails("write", fd) || (keep(fd, length, SSIZE_MAX), 0), real(fd, length), );
}
int fsync(int fd) {
    REAL(fsync);
    AFTER(fails("sync", fd), real(fd), synced(fd));
}
int fdatasync(int fd) {
    REAL(fdatasync);
    AFTER(fails("sync", fd), real(fd), synced(fd));
}
int rename(const char *old, const char *new) {
    REAL(rename);
    AFTER(renames(AT_FDCWD, old, AT_FDCWD, new), real(old, new), );
}
int renameat(int from, const char *old, int to, const char *new) {
    REAL(renameat);
    AFTER(renames(from, old, to, new), real(from, old, to, new), );
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(linkat);
    AFTER(renames(from, old, to, new), real(from, old, to, new, flags), );
}
int unlink(const char *name) {
    REAL(unlink);
    AFTER(renames(AT_FDCWD, name, AT_FDCWD, name), real(name), );
}
int unlinkat(int folder, const char *name, int flags) {
    REAL(unlinkat);
    AFTER(renames(folder, name, folder, name), real(folder, name, flags), );
}
