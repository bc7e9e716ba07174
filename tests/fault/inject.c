/* SPDX-License-Identifier: MIT */
/* The switch; allocations and system calls. */
#include "inject.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>

static inject_plan inject_now;
static atomic_bool inject_armed, inject_over;
static _Thread_local bool inject_paused;
static atomic_long inject_counted, inject_failed;

/* ---- The switch ----------------------------------------------------------------------------- */

#define INJECT_LIVE 65536 /* allocations that are remembered at a time */

/* Lock rule: inject_lock guards the table and is held for nothing else. */
static pthread_mutex_t inject_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    void *p;
    const void *from;
} inject_table[INJECT_LIVE];
static bool inject_remember;

void inject_set(const inject_plan *plan)
{
    inject_now = *plan;
    atomic_store(&inject_over, false);
    atomic_store(&inject_counted, 0);
    atomic_store(&inject_failed, 0);
    pthread_mutex_lock(&inject_lock);
    memset(inject_table, 0, sizeof inject_table);
    inject_remember = true;
    pthread_mutex_unlock(&inject_lock);
}

void inject_arm(void)
{
    atomic_store(&inject_armed, true);
}

void inject_disarm(void)
{
    atomic_store(&inject_armed, false);
}

void inject_stop(void)
{
    atomic_store(&inject_over, true);
}

bool inject_pause(bool pause)
{
    const bool was = inject_paused;
    inject_paused = pause;
    return was;
}

long inject_count(void)
{
    return atomic_load(&inject_counted);
}

long inject_hits(void)
{
    return atomic_load(&inject_failed);
}

enum inject_how inject_how(void)
{
    return inject_now.how;
}

bool inject_hit(enum inject_kind kind)
{
    if (!atomic_load(&inject_armed) || atomic_load(&inject_over) || inject_paused || inject_now.kind != kind)
        return false;
    const long n = atomic_fetch_add(&inject_counted, 1) + 1;
    if (inject_now.at <= 0 || n < inject_now.at || (n > inject_now.at && !inject_now.persistent))
        return false;
    atomic_fetch_add(&inject_failed, 1);
    return true;
}

bool inject_failing(void)
{
    return atomic_load(&inject_failed) > 0 && !atomic_load(&inject_over) && !inject_paused;
}

/* ---- What is alive -------------------------------------------------------------------------- */

static size_t inject_slot(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u >> 48) % INJECT_LIVE;
}

static void inject_born(void *p, const void *from)
{
    pthread_mutex_lock(&inject_lock);
    for (size_t i = inject_slot(p), tries = 0; p && inject_remember && tries < INJECT_LIVE;
         i = (i + 1) % INJECT_LIVE, tries++)
        if (!inject_table[i].p || inject_table[i].p == p) {
            inject_table[i].p = p;
            inject_table[i].from = from;
            break;
        }
    pthread_mutex_unlock(&inject_lock);
}

/* Entries are blanked in place: `from` stays and keeps the search going past them. */
static void inject_died(const void *p)
{
    pthread_mutex_lock(&inject_lock);
    for (size_t i = inject_slot(p), tries = 0;
         p && inject_remember && inject_table[i].from && tries < INJECT_LIVE;
         i = (i + 1) % INJECT_LIVE, tries++)
        if (inject_table[i].p == p) {
            inject_table[i].p = NULL;
            break;
        }
    pthread_mutex_unlock(&inject_lock);
}

size_t inject_live(void)
{
    size_t n = 0;
    pthread_mutex_lock(&inject_lock);
    for (size_t i = 0; i < INJECT_LIVE; i++)
        if (inject_table[i].p)
            n++;
    pthread_mutex_unlock(&inject_lock);
    return n;
}

void inject_print_live(void)
{
    pthread_mutex_lock(&inject_lock);
    for (size_t i = 0; i < INJECT_LIVE; i++)
        if (inject_table[i].p)
            fprintf(stderr, "not freed: got at %p\n", inject_table[i].from);
    pthread_mutex_unlock(&inject_lock);
}

/* ---- Allocations ---------------------------------------------------------------------------- */

#define INJECT_FROM __builtin_return_address(0)

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __real_vasprintf(char **out, const char *fmt, va_list ap);
int __wrap_vasprintf(char **out, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* What vasprintf is called under _FORTIFY_SOURCE. */
int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
char *__real_realpath(const char *path, char *out);
char *__wrap_realpath(const char *path, char *out);
char *__real_getcwd(char *out, size_t size);
char *__wrap_getcwd(char *out, size_t size);

static void *inject_none(void)
{
    errno = ENOMEM;
    return NULL;
}

static void *inject_got(void *p, const void *from)
{
    inject_born(p, from);
    return p;
}

void *__wrap_malloc(size_t n)
{
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_malloc(n), INJECT_FROM);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_calloc(n, size), INJECT_FROM);
}

void *__wrap_realloc(void *p, size_t n)
{
    if (inject_hit(INJECT_ALLOC))
        return inject_none();
    inject_died(p);
    return inject_got(__real_realloc(p, n), INJECT_FROM);
}

void __wrap_free(void *p)
{
    inject_died(p); /* first: another thread may get the same address at once */
    __real_free(p);
}

char *__wrap_strdup(const char *s)
{
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_strdup(s), INJECT_FROM);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_strndup(s, n), INJECT_FROM);
}

int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
    if (inject_hit(INJECT_ALLOC)) {
        errno = ENOMEM;
        return -1;
    }
    const int n = __real_vasprintf(out, fmt, ap);
    if (n >= 0)
        inject_born(*out, INJECT_FROM);
    return n;
}

int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list ap)
{
    (void)flag;
    return __wrap_vasprintf(out, fmt, ap);
}

char *__wrap_realpath(const char *path, char *out)
{
    if (out)
        return __real_realpath(path, out);
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_realpath(path, NULL), INJECT_FROM);
}

char *__wrap_getcwd(char *out, size_t size)
{
    if (out)
        return __real_getcwd(out, size);
    return inject_hit(INJECT_ALLOC) ? inject_none() : inject_got(__real_getcwd(NULL, size), INJECT_FROM);
}

/* ---- System calls --------------------------------------------------------------------------- */

int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __real_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *at, socklen_t n);
int __wrap_bind(int fd, const struct sockaddr *at, socklen_t n);
int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);
FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    return inject_hit(INJECT_SYSTEM) ? EAGAIN : __real_pthread_create(t, attr, fn, arg);
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
    return inject_hit(INJECT_SYSTEM) ? ENOMEM : __real_pthread_mutex_init(m, attr);
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
    return inject_hit(INJECT_SYSTEM) ? ENOMEM : __real_pthread_cond_init(c, attr);
}

static bool inject_no_descriptor(void)
{
    errno = EMFILE;
    return inject_hit(INJECT_SYSTEM);
}

int __wrap_eventfd(unsigned count, int flags)
{
    return inject_no_descriptor() ? -1 : __real_eventfd(count, flags);
}

int __wrap_socket(int domain, int type, int protocol)
{
    return inject_no_descriptor() ? -1 : __real_socket(domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *at, socklen_t n)
{
    return inject_no_descriptor() ? -1 : __real_bind(fd, at, n);
}

int __wrap_inotify_init1(int flags)
{
    return inject_no_descriptor() ? -1 : __real_inotify_init1(flags);
}

FILE *__wrap_fopen64(const char *path, const char *mode)
{
    return inject_no_descriptor() ? NULL : __real_fopen64(path, mode);
}
