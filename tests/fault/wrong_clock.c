/* SPDX-License-Identifier: MIT */
/* LD_PRELOAD: the wall clock of a process is wrong by what a file says, and may be set while it runs. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The file FAULT_CLOCK holds one int64_t, the offset in seconds, shared by all that map it: writing it is a
 * step of the clock. CLOCK_MONOTONIC stays right, as it does on a real machine. */
static const volatile int64_t *wrong_clock_offset;

__attribute__((constructor)) static void wrong_clock_map(void)
{
    const char *path = getenv("FAULT_CLOCK");
    const int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (p != MAP_FAILED)
        wrong_clock_offset = p;
}

static int64_t wrong_clock_by(void)
{
    return wrong_clock_offset ? *wrong_clock_offset : 0;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    const long rc = syscall(SYS_clock_gettime, id, ts);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        ts->tv_sec += wrong_clock_by();
    return (int)rc;
}

time_t time(time_t *out)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

/* A point in time that was made with the wrong clock, as the kernel has to hear it. Monotonic ones count from
 * the machine's start and are recognised by being small. */
static struct timespec wrong_clock_right(const struct timespec *at)
{
    struct timespec ts = *at;
    if (ts.tv_sec > 1000000000)
        ts.tv_sec -= wrong_clock_by();
    return ts;
}

/* With a tail call the compiler would warn about the object-to-function cast. */
typedef int (*wrong_clock_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
typedef int (*wrong_clock_sem)(sem_t *, const struct timespec *);

static void *wrong_clock_next(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort();
    return p;
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m,
                           const struct timespec *restrict at)
{
    static wrong_clock_wait next;
    const struct timespec ts = wrong_clock_right(at);
    if (!next)
        *(void **)&next = wrong_clock_next("pthread_cond_timedwait");
    return next(c, m, &ts);
}

int sem_timedwait(sem_t *restrict s, const struct timespec *restrict at)
{
    static wrong_clock_sem next;
    const struct timespec ts = wrong_clock_right(at);
    if (!next)
        *(void **)&next = wrong_clock_next("sem_timedwait");
    return next(s, &ts);
}
