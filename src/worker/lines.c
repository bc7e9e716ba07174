/* SPDX-License-Identifier: MIT */
/* What attempts write to the logs of their tasks, and how it comes into the database. */
#include <stdarg.h>
#include <stdio.h>

#include "isolate/isolate.h"

#include "nanoq_logs.h"

/* While the database is away. */
#define LINES_MOST_BYTES ((size_t)8 << 20)

NQ_PRIVATE void nq_lines_init(nq_lines *l)
{
    pthread_mutex_init(&l->lock, NULL);
    atomic_init(&l->any, false);
}

static size_t lines_drop(nq_log_line *line)
{
    size_t n = 0;
    for (; line; n++) {
        nq_log_line *next = line->next;
        free(line);
        line = next;
    }
    return n;
}

NQ_PRIVATE void nq_lines_free(nq_lines *l)
{
    lines_drop(l->first);
    free(l->gone);
    pthread_mutex_destroy(&l->lock);
}

/* ---- What handlers say ---- */

static size_t lines_size(const nq_log_line *line)
{
    return sizeof *line + line->n;
}

/* With the lock held. */
static void lines_put(nq_ctx *ctx, enum nq_log_level level, const char *text, size_t n)
{
    nq_lines *l = &ctx->worker->lines;
    nq_log_line *line = NULL;
    if (l->bytes + sizeof *line + n <= LINES_MOST_BYTES)
        line = malloc(sizeof *line + n);
    if (!line) {
        l->lost++;
        return;
    }
    *line = (nq_log_line){.task = ctx->claim->task.id,
                          .generation = ctx->claim->task.generation,
                          .seq = ++ctx->lines.n,
                          .at_us = nq_mono_us(),
                          .level = (int)level,
                          .n = n};
    if (n > 0)
        memcpy(line->text, text, n);
    if (l->last)
        l->last->next = line;
    else
        l->first = line;
    l->last = line;
    l->bytes += lines_size(line);
    ctx->lines.bytes += n;
}

NQ_PRIVATE void nq_lines_add(nq_ctx *ctx, enum nq_log_level level, const char *text, size_t n)
{
    static const char full[] = "the rest of what this attempt writes is left out";
    nq_lines *l = &ctx->worker->lines;
    if (ctx->claim->task.id <= 0) /* one that plain SQL gave */
        return;
    pthread_mutex_lock(&l->lock);
    if (!ctx->lines.full && ctx->lines.n < NQ_MAX_LOG_LINES && ctx->lines.bytes + n <= NQ_MAX_LOG_BYTES) {
        lines_put(ctx, level, text, n);
    } else if (!ctx->lines.full) {
        lines_put(ctx, NQ_LOG_WARN, full, sizeof full - 1);
        ctx->lines.full = true;
    }
    pthread_mutex_unlock(&l->lock);
    if (!atomic_load(&l->any))
        atomic_store(&l->any, true);
}

/* As much of a line as is kept. */
static void lines_say(nq_ctx *ctx, enum nq_log_level level, const char *text, size_t n)
{
    static const char cut[] = " [cut]";
    char short_line[NQ_MAX_LOG_LINE];
    if (n > 0 && text[n - 1] == '\r')
        n--;
    if (n > NQ_MAX_LOG_LINE) {
        size_t keep = NQ_MAX_LOG_LINE - (sizeof cut - 1);
        for (size_t i = 0; i < 3 && ((unsigned char)text[keep] & 0xc0) == 0x80; i++)
            keep--; /* no half character */
        memcpy(short_line, text, keep);
        memcpy(short_line + keep, cut, sizeof cut - 1);
        text = short_line;
        n = keep + sizeof cut - 1;
    }
    if (ctx->page)
        nq_child_log(ctx, (int)level, text, n);
    else
        nq_lines_add(ctx, level, text, n);
}

NQ_API void nq_ctx_log_bytes(nq_ctx *ctx, enum nq_log_level level, const void *text, size_t n)
{
    const char *p = text, *const end = n ? p + n : p;
    if ((int)level < NQ_LOG_DEBUG || level > NQ_LOG_ERROR)
        level = NQ_LOG_INFO;
    do {
        const char *feed = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        lines_say(ctx, level, p, (size_t)((feed ? feed : end) - p));
        p = feed ? feed + 1 : end;
    } while (p < end);
}

NQ_API void nq_ctx_log(nq_ctx *ctx, enum nq_log_level level, const char *fmt, ...)
{
    char small[512], *text = small;
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof small) {
        if (!(text = malloc((size_t)n + 1)))
            return;
        va_start(ap, fmt);
        vsnprintf(text, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    nq_ctx_log_bytes(ctx, level, text, (size_t)n);
    if (text != small)
        free(text);
}

/* ---- What nobody can read any more ---- */

NQ_PRIVATE void nq_lines_forget(nq_worker *w, const nq_ctx *ctx)
{
    nq_lines *l = &w->lines;
    if (!atomic_load(&l->any))
        return; /* all is written, or there was nothing */
    pthread_mutex_lock(&l->lock);
    nq_lines_gone *more = ctx->lines.n > 0 ? nq_grow(l->gone, l->ngone, &l->capgone, sizeof *more) : NULL;
    if (more) { /* else they are written, and swept later */
        l->gone = more;
        more[l->ngone++] = (nq_lines_gone){ctx->claim->task.id, ctx->claim->task.generation};
    }
    pthread_mutex_unlock(&l->lock);
}

static int lines_compare(const void *a, const void *b)
{
    const nq_lines_gone *x = a, *y = b;
    if (x->task != y->task)
        return x->task < y->task ? -1 : 1;
    return (x->generation > y->generation) - (x->generation < y->generation);
}

/* With the lock held, by who writes: take the lines of those that are gone out of the list. */
static void lines_take_out(nq_lines *l)
{
    if (l->ngone == 0)
        return;
    qsort(l->gone, l->ngone, sizeof *l->gone, lines_compare);
    nq_log_line **at = &l->first;
    l->last = NULL;
    while (*at) {
        nq_log_line *line = *at;
        const nq_lines_gone of = {line->task, line->generation};
        if (bsearch(&of, l->gone, l->ngone, sizeof of, lines_compare)) {
            *at = line->next;
            l->bytes -= lines_size(line);
            free(line);
        } else {
            l->last = line;
            at = &line->next;
        }
    }
    l->ngone = 0;
}

/* ---- Writing ---- */

/* Those that are in the database. */
static void lines_written(nq_lines *l, size_t n)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < n; i++) {
        nq_log_line *line = l->first;
        l->first = line->next;
        l->bytes -= lines_size(line);
        free(line);
    }
    if (!l->first)
        l->last = NULL;
    pthread_mutex_unlock(&l->lock);
}

NQ_PRIVATE int nq_lines_write(nq_worker *w, nq_err *err)
{
    nq_lines *l = &w->lines;
    const nq_log_line *lines[NQ_LOGS_CHUNK];
    int rc = NQ_OK;
    if (!atomic_exchange(&l->any, false))
        return NQ_OK;
    for (;;) {
        size_t n = 0;
        pthread_mutex_lock(&l->lock);
        lines_take_out(l);
        /* Only this thread takes lines out. The others add behind the last one, so that its link is no longer
         * to be read without the lock. */
        for (const nq_log_line *at = l->first; at && n < NQ_LOGS_CHUNK; at = at->next)
            lines[n++] = at;
        const uint64_t lost = l->lost;
        l->lost = 0;
        pthread_mutex_unlock(&l->lock);
        if (lost)
            nq_worker_log(w, NQ_LOG_WARN, "no room for %llu lines of tasks' logs, which are lost",
                          (unsigned long long)lost);
        if (n == 0)
            return NQ_OK;
        if ((rc = nq_store_logs_add(w->store, lines, n, err)) != NQ_OK)
            break;
        lines_written(l, n);
    }
    if (rc == NQ_EUNAVAILABLE || rc == NQ_ECONFLICT || rc == NQ_EUNKNOWN || rc == NQ_ENOMEM) {
        atomic_store(&l->any, true);
        return rc;
    }
    /* They would be refused again, and stand before all others for ever. */
    pthread_mutex_lock(&l->lock);
    nq_log_line *all = l->first;
    l->first = l->last = NULL;
    l->bytes = 0;
    pthread_mutex_unlock(&l->lock);
    nq_worker_log(w, NQ_LOG_WARN, "%zu lines of tasks' logs are lost, the database refuses them: %s",
                  lines_drop(all), err ? err->message : "");
    return NQ_OK;
}

NQ_PRIVATE void nq_lines_end(nq_worker *w, bool may_write)
{
    nq_err err = {0};
    size_t left = 0;
    if (!may_write)
        nq_err_set(&err, NQ_EUNAVAILABLE, "the worker is not entered in the database");
    else if (nq_lines_write(w, &err) == NQ_OK)
        return;
    pthread_mutex_lock(&w->lines.lock);
    for (const nq_log_line *line = w->lines.first; line; line = line->next)
        left++;
    pthread_mutex_unlock(&w->lines.lock);
    if (left)
        nq_worker_log(w, NQ_LOG_WARN, "%zu lines of tasks' logs are lost, the worker ends: %s", left,
                      err.message);
}
