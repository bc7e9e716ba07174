/* SPDX-License-Identifier: MIT */
/* What Debian's libsqlite3.a wants of glibc under a name that musl does not have, or, from 1.2.4 on, no
 * longer links: the ...64 are the plain ones there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#undef open64
#undef fcntl64
#undef stat64
#undef fstat64
#undef lstat64
#undef ftruncate64
#undef pread64
#undef pwrite64
#undef mmap64

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room);
void *__memmove_chk(void *to, const void *from, size_t n, size_t room);
void *__memset_chk(void *to, int c, size_t n, size_t room);
int open64(const char *path, int flags, ...);
int fcntl64(int fd, int what, ...);
int stat64(const char *path, struct stat *out);
int fstat64(int fd, struct stat *out);
int lstat64(const char *path, struct stat *out);
int ftruncate64(int fd, off_t size);
ssize_t pread64(int fd, void *to, size_t n, off_t at);
ssize_t pwrite64(int fd, const void *from, size_t n, off_t at);
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t from);

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room)
{
    (void)room;
    return memcpy(to, from, n);
}

void *__memmove_chk(void *to, const void *from, size_t n, size_t room)
{
    (void)room;
    return memmove(to, from, n);
}

void *__memset_chk(void *to, int c, size_t n, size_t room)
{
    (void)room;
    return memset(to, c, n);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open(path, flags, mode);
}

int fcntl64(int fd, int what, ...)
{
    va_list ap;
    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return fcntl(fd, what, arg);
}

int stat64(const char *path, struct stat *out)
{
    return stat(path, out);
}

int fstat64(int fd, struct stat *out)
{
    return fstat(fd, out);
}

int lstat64(const char *path, struct stat *out)
{
    return lstat(path, out);
}

int ftruncate64(int fd, off_t size)
{
    return ftruncate(fd, size);
}

ssize_t pread64(int fd, void *to, size_t n, off_t at)
{
    return pread(fd, to, n, at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off_t at)
{
    return pwrite(fd, from, n, at);
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t from)
{
    return mmap(at, n, protection, flags, fd, from);
}
