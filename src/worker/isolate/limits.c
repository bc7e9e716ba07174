/* SPDX-License-Identifier: MIT */
/* What a child may use: the options of an isolated handler, checked, and put into force. */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "isolate.h"

#define LIMITS_TASKS      10000
#define LIMITS_STDERR     2000
#define LIMITS_STDERR_MAX 3000 /* with the rest of the text below NQ_MAX_ERROR, which keeps the end */

/* ---- Options ---- */

static int limits_environment(nq_limits *out, const nq_isolation_options *o, nq_err *err)
{
    if (o->nenvironment == 0)
        return NQ_OK;
    if (!o->environment)
        return nq_err_set(err, NQ_EINVAL, "environment is NULL, but nenvironment is not 0");
    out->environment = calloc(o->nenvironment, sizeof *out->environment);
    if (!out->environment)
        return nq_err_nomem(err);
    for (size_t i = 0; i < o->nenvironment; i++) {
        const char *s = o->environment[i], *equals = s ? strchr(s, '=') : NULL;
        if (!equals || equals == s) /* the text may be a secret */
            return nq_err_set(err, NQ_EINVAL, "environment[%zu] is not NAME=value", i);
        if (!(out->environment[i] = strdup(s)))
            return nq_err_nomem(err);
        out->nenvironment = i + 1;
    }
    return NQ_OK;
}

/* Is anything set that only a child heeds? */
static bool limits_any(const nq_isolation_options *o)
{
    return o->memory || o->cpu_seconds || o->files || o->processes || o->tasks_per_child || o->stderr_bytes ||
           o->nice || o->nenvironment;
}

NQ_PRIVATE int nq_limits_read(nq_limits *out, const nq_isolation_options *o, nq_err *err)
{
    memset(out, 0, sizeof *out);
    if (o->kind < NQ_THREAD || o->kind > NQ_PROCESS)
        return nq_err_set(err, NQ_EINVAL, "isolation.kind is %d; see enum nq_isolation", o->kind);
    if (o->kind == NQ_THREAD && limits_any(o))
        return nq_err_set(
            err, NQ_EINVAL,
            "memory, cpu_seconds and what follows need isolation.kind = NQ_PROCESS: a thread has no "
            "limits of its own");
    const int nice = (int)nq_option(o->nice, 0);
    if (nice < 0 || nice > 19)
        return nq_err_set(err, NQ_EINVAL, "nice is %d; allowed are 0 to 19", o->nice);
    const int64_t stderr_bytes = nq_option(o->stderr_bytes, LIMITS_STDERR);
    if (stderr_bytes < 0 || stderr_bytes > LIMITS_STDERR_MAX)
        return nq_err_set(err, NQ_EINVAL, "stderr_bytes is %d; allowed are NQ_ZERO (none) and 1 to %d",
                          o->stderr_bytes, LIMITS_STDERR_MAX);
    out->memory = o->memory;
    out->cpu_seconds = o->cpu_seconds;
    out->files = o->files;
    out->processes = o->processes;
    out->tasks = o->tasks_per_child ? o->tasks_per_child : LIMITS_TASKS;
    out->stderr_bytes = (unsigned)stderr_bytes;
    out->nice = nice;
    return limits_environment(out, o, err);
}

NQ_PRIVATE void nq_limits_free(nq_limits *l)
{
    for (size_t i = 0; i < l->nenvironment; i++)
        free(l->environment[i]);
    free(l->environment);
}

NQ_PRIVATE bool nq_limits_same(const nq_limits *a, const nq_limits *b)
{
    if (a->memory != b->memory || a->cpu_seconds != b->cpu_seconds || a->files != b->files ||
        a->processes != b->processes || a->tasks != b->tasks || a->stderr_bytes != b->stderr_bytes ||
        a->nice != b->nice || a->nenvironment != b->nenvironment)
        return false;
    for (size_t i = 0; i < a->nenvironment; i++)
        if (strcmp(a->environment[i], b->environment[i]) != 0)
            return false;
    return true;
}

/* ---- In the child ---- */

/* Bytes of address space now. */
static rlim_t limits_mapped(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

NQ_PRIVATE void nq_limits_private(const nq_store *s)
{
    const char *named = nq_url_option_get(&s->url, "password_env", NULL);
    unsetenv("NANOQ_PASSWORD");
    if (named)
        unsetenv(named);
    nq_rlimit_no_core();
}

NQ_PRIVATE int nq_limits_apply(const nq_limits *l)
{
    for (size_t i = 0; i < l->nenvironment; i++)
        if (putenv(l->environment[i]) != 0)
            return -1;
    if (l->nice) {
        errno = 0;
        if (nice(l->nice) == -1 && errno != 0)
            return -1;
    }
    if (l->processes && nq_rlimit_lower(RLIMIT_NPROC, l->processes, true) != 0)
        return -1;
    if (l->files) {
        const int next = dup(0); /* the first free one */
        if (next < 0)
            return -1;
        close(next);
        if (nq_rlimit_lower(RLIMIT_NOFILE, (rlim_t)next + l->files, true) != 0)
            return -1;
    }
    if (l->memory) {
        const rlim_t mapped = limits_mapped();
        if (mapped == 0) {
            errno = ENOSYS;
            return -1;
        }
        return nq_rlimit_lower(RLIMIT_AS, mapped + l->memory, true);
    }
    return 0;
}

NQ_PRIVATE void nq_limits_task(const nq_limits *l)
{
    if (l->cpu_seconds > 0)
        (void)nq_rlimit_cpu(0, NQ_SECONDS(l->cpu_seconds));
}
