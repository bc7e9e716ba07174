/* SPDX-License-Identifier: MIT */
/* What worker and child say to each other, as bytes. */
#include "isolate.h"

#include "nanoq_logs.h"

/* A number for each column that a task shows; of a text its size with the NUL, 0: none; of headers how many.
 */
#define FRAME_NUMBER(column, kind, ...) NQ_IF_READ_##kind(int64_t column;)
struct frame_task {
    uint64_t lease, handler, payload_size;
    int64_t group, schedule;
    int64_t expires_at_us, dead_id, due_at_us, keep_us, keep_done_us, ntags;
    NQ_COLUMNS(FRAME_NUMBER)
};

struct frame_answer {
    int64_t delay_us;
    int32_t verdict;
    uint32_t completed;
};

struct frame_progress {
    int64_t done, total;
};

static void frame_head(nq_buf *out, enum nq_frame_kind kind, uint64_t seq, size_t size)
{
    const nq_frame head = {(uint32_t)size, (uint32_t)kind, seq};
    nq_buf_add(out, &head, sizeof head);
}

/* ---- A task: fixed part, texts, headers, tags, payload; a NUL behind each but the first. ---- */

static int64_t frame_text(const char *text)
{
    return text ? (int64_t)strlen(text) + 1 : 0;
}

static const char *frame_take(const char **body, int64_t size)
{
    const char *text = size ? *body : NULL;
    *body += size;
    return text;
}

#define FRAME_OF_ID(v)                                     (v)
#define FRAME_OF_INT(v)                                    (v)
#define FRAME_OF_COUNT(v)                                  (v)
#define FRAME_OF_ATTEMPTS(v)                               (v)
#define FRAME_OF_MS(v)                                     (v)
#define FRAME_OF_TIME(v)                                   (v)
#define FRAME_OF_NAME(v)                                   frame_text(v)
#define FRAME_OF_TEXT(v)                                   frame_text(v)
#define FRAME_OF_HEADERS(v)                                (int64_t) t->nheaders
#define FRAME_TO_ID(v)                                     (v)
#define FRAME_TO_INT(v)                                    (int)(v)
#define FRAME_TO_COUNT(v)                                  (unsigned)(v)
#define FRAME_TO_ATTEMPTS(v)                               (unsigned)(v)
#define FRAME_TO_MS(v)                                     (v)
#define FRAME_TO_TIME(v)                                   (v)
#define FRAME_TO_NAME(v)                                   frame_take(&body, v)
#define FRAME_TO_TEXT(v)                                   frame_take(&body, v)
#define FRAME_TO_HEADERS(v)                                NULL /* behind the texts */

#define FRAME_SIZE(column, kind, goes, unsaid, field, ...) NQ_IF_BYTES_##kind(+(size_t)frame_text(t->field))
#define FRAME_SET(column, kind, goes, unsaid, field, ...)                                                    \
    NQ_IF_READ_##kind(f.column = FRAME_OF_##kind(t->field);)
#define FRAME_ADD(column, kind, goes, unsaid, field, ...)                                                    \
    NQ_IF_BYTES_##kind(nq_buf_add(out, t->field, (size_t)f.column);)
#define FRAME_READ(column, kind, goes, unsaid, field, ...)                                                   \
    NQ_IF_READ_##kind(out->task.field = FRAME_TO_##kind(f.column);)

NQ_PRIVATE size_t nq_frame_task_size(const nq_ctx *ctx)
{
    const nq_task *t = &ctx->claim->task;
    size_t n = sizeof(nq_frame) + sizeof(struct frame_task) + (size_t)frame_text(t->group) +
               (size_t)frame_text(t->schedule) + t->payload_size + 1 NQ_COLUMNS(FRAME_SIZE);
    for (size_t i = 0; i < t->nheaders; i++)
        n += strlen(t->headers[i].name) + strlen(t->headers[i].value) + 2;
    for (size_t i = 0; i < t->ntags; i++)
        n += strlen(t->tags[i]) + 1;
    return n;
}

NQ_PRIVATE void nq_frame_task(nq_buf *out, const nq_ctx *ctx)
{
    const nq_task *t = &ctx->claim->task;
    struct frame_task f;
    memset(&f, 0, sizeof f);
    f.lease = ctx->claim->lease;
    f.handler = (uint64_t)(ctx->handler - ctx->worker->handlers);
    f.payload_size = t->payload_size;
    f.group = frame_text(t->group);
    f.expires_at_us = t->expires_at_us;
    f.dead_id = t->dead_id;
    f.schedule = frame_text(t->schedule);
    f.due_at_us = t->due_at_us;
    f.keep_us = ctx->claim->keep_us;
    f.keep_done_us = nq_ctx_keep_done(ctx);
    f.ntags = (int64_t)t->ntags;
    NQ_COLUMNS(FRAME_SET)
    frame_head(out, NQ_FRAME_TASK, ctx->seq, nq_frame_task_size(ctx) - sizeof(nq_frame));
    nq_buf_add(out, &f, sizeof f);
    NQ_COLUMNS(FRAME_ADD)
    nq_buf_add(out, t->group, (size_t)f.group);
    nq_buf_add(out, t->schedule, (size_t)f.schedule);
    for (size_t i = 0; i < t->nheaders; i++) {
        nq_buf_add(out, t->headers[i].name, strlen(t->headers[i].name) + 1);
        nq_buf_add(out, t->headers[i].value, strlen(t->headers[i].value) + 1);
    }
    for (size_t i = 0; i < t->ntags; i++)
        nq_buf_add(out, t->tags[i], strlen(t->tags[i]) + 1);
    nq_buf_add(out, t->payload, t->payload_size);
    nq_buf_add(out, "", 1);
}

NQ_PRIVATE void nq_frame_read_task(const char *body, nq_claimed *out, nq_header headers[NQ_MAX_HEADERS],
                                   const char *tags[NQ_MAX_TAGS], size_t *handler)
{
    struct frame_task f;
    memcpy(&f, body, sizeof f);
    body += sizeof f;
    out->next = NULL;
    out->lease = f.lease;
    out->task = (nq_task){.payload_size = (size_t)f.payload_size};
    NQ_COLUMNS(FRAME_READ)
    out->task.group = frame_take(&body, f.group);
    out->task.schedule = frame_take(&body, f.schedule);
    out->task.expires_at_us = f.expires_at_us;
    out->task.dead_id = f.dead_id;
    out->task.due_at_us = f.due_at_us;
    out->keep_us = f.keep_us;
    out->keep_done_us = f.keep_done_us;
    out->task.headers = f.headers ? headers : NULL;
    out->task.nheaders = (size_t)f.headers;
    for (size_t i = 0; i < out->task.nheaders; i++) {
        headers[i].name = frame_take(&body, frame_text(body));
        headers[i].value = frame_take(&body, frame_text(body));
    }
    out->task.tags = f.ntags ? tags : NULL;
    out->task.ntags = (size_t)f.ntags;
    for (size_t i = 0; i < out->task.ntags; i++)
        tags[i] = frame_take(&body, frame_text(body));
    out->task.payload = body;
    *handler = (size_t)f.handler;
}

/* ---- What the child says ---- */

NQ_PRIVATE void nq_frame_answer(nq_buf *out, uint64_t seq, const nq_answer *answer)
{
    struct frame_answer f;
    memset(&f, 0, sizeof f);
    f.delay_us = answer->delay_us;
    f.verdict = (int32_t)answer->verdict;
    f.completed = answer->completed;
    frame_head(out, NQ_FRAME_ANSWER, seq, sizeof f + answer->message_size);
    nq_buf_add(out, &f, sizeof f);
    nq_buf_add(out, answer->message, answer->message_size);
}

NQ_PRIVATE void nq_frame_progress(nq_buf *out, uint64_t seq, const nq_reported *reported)
{
    const struct frame_progress f = {reported->done, reported->total};
    frame_head(out, NQ_FRAME_PROGRESS, seq, sizeof f + reported->note_size);
    nq_buf_add(out, &f, sizeof f);
    nq_buf_add(out, reported->note, reported->note_size);
}

struct frame_hold {
    int64_t us;
    int32_t scope, unused;
};

NQ_PRIVATE void nq_frame_hold(nq_buf *out, uint64_t seq, int scope, int64_t us)
{
    const struct frame_hold f = {.us = us, .scope = scope};
    frame_head(out, NQ_FRAME_HOLD, seq, sizeof f);
    nq_buf_add(out, &f, sizeof f);
}

NQ_PRIVATE bool nq_frame_read_hold(const nq_frame *head, const char *body, int *scope, int64_t *us)
{
    struct frame_hold f;
    if (head->kind != NQ_FRAME_HOLD || head->size != sizeof f)
        return false;
    memcpy(&f, body, sizeof f);
    *scope = f.scope;
    *us = f.us;
    return (f.scope == NQ_SCOPE_GROUP || f.scope == NQ_SCOPE_QUEUE) && f.us >= 0 && f.us <= NQ_MAX_DURATION;
}

NQ_PRIVATE void nq_frame_log(nq_buf *out, uint64_t seq, int level, const char *text, size_t n)
{
    const int32_t f = level;
    frame_head(out, NQ_FRAME_LOG, seq, sizeof f + n);
    nq_buf_add(out, &f, sizeof f);
    nq_buf_add(out, text, n);
}

NQ_PRIVATE bool nq_frame_read_log(const nq_frame *head, const char *body, int *level, const char **text,
                                  size_t *n)
{
    int32_t f;
    if (head->kind != NQ_FRAME_LOG || head->size < sizeof f || head->size - sizeof f > NQ_MAX_LOG_LINE)
        return false;
    memcpy(&f, body, sizeof f);
    *level = f;
    *text = body + sizeof f;
    *n = head->size - sizeof f;
    return f >= NQ_LOG_DEBUG && f <= NQ_LOG_ERROR;
}

NQ_PRIVATE void nq_frame_result(nq_buf *out, uint64_t seq, const void *bytes, size_t n)
{
    size_t at = 0;
    do {
        const size_t some = n - at < NQ_FRAME_SAID_MAX ? n - at : NQ_FRAME_SAID_MAX;
        frame_head(out, NQ_FRAME_RESULT, seq, some);
        nq_buf_add(out, (const char *)bytes + at, some);
        at += some;
    } while (at < n);
}

NQ_PRIVATE bool nq_frame_heard(const char *p, size_t n, nq_frame *head, bool *more)
{
    *more = n < sizeof *head;
    if (*more)
        return true;
    memcpy(head, p, sizeof *head);
    if (head->kind < NQ_FRAME_ANSWER || head->kind > NQ_FRAME_LOG || head->size > NQ_FRAME_SAID_MAX)
        return false;
    *more = n - sizeof *head < head->size;
    return true;
}

NQ_PRIVATE bool nq_frame_read_answer(const nq_frame *head, const char *body, nq_answer *out)
{
    struct frame_answer f;
    if (head->kind != NQ_FRAME_ANSWER || head->size < sizeof f || head->size - sizeof f > NQ_MAX_ERROR)
        return false;
    memcpy(&f, body, sizeof f);
    if (f.verdict < NQ_DONE || f.verdict > NQ_SNOOZE || f.completed > 1 || f.delay_us < -1 ||
        f.delay_us > NQ_MAX_DURATION)
        return false;
    out->verdict = (nq_verdict)f.verdict;
    out->delay_us = f.delay_us;
    out->completed = f.completed;
    out->message = body + sizeof f;
    out->message_size = head->size - sizeof f;
    return true;
}

NQ_PRIVATE bool nq_frame_read_progress(const nq_frame *head, const char *body, nq_reported *out)
{
    struct frame_progress f;
    if (head->kind != NQ_FRAME_PROGRESS || head->size < sizeof f || head->size - sizeof f > NQ_MAX_NOTE + 1)
        return false;
    memcpy(&f, body, sizeof f);
    *out = (nq_reported){f.done, f.total, body + sizeof f, head->size - sizeof f};
    return true;
}
