/* SPDX-License-Identifier: MIT */
/* What worker and child say to each other, as bytes. */
#include "isolate.h"

struct frame_task {
    int64_t id, timeout_us, created_at_us, run_at_us;
    uint64_t lease, handler, payload_size;
    int32_t priority;
    uint32_t attempt, max_retries, crashes, generation;
    uint32_t queue_size, type_size, error_size; /* with their NUL; 0: none */
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

/* ---- A task: fixed part, queue, type, last error, payload; each text with a NUL behind. */

NQ_PRIVATE size_t nq_frame_task_size(const nq_ctx *ctx)
{
    const nq_task *t = &ctx->claim->task;
    return sizeof(nq_frame) + sizeof(struct frame_task) + strlen(t->queue) + 1 + strlen(t->type) + 1 +
           (t->last_error ? strlen(t->last_error) + 1 : 0) + t->payload_size + 1;
}

NQ_PRIVATE void nq_frame_task(nq_buf *out, const nq_ctx *ctx)
{
    const nq_task *t = &ctx->claim->task;
    struct frame_task f;
    memset(&f, 0, sizeof f);
    f.id = t->id;
    f.timeout_us = t->timeout_us;
    f.created_at_us = t->created_at_us;
    f.run_at_us = t->run_at_us;
    f.lease = ctx->claim->lease;
    f.handler = (uint64_t)(ctx->handler - ctx->worker->handlers);
    f.payload_size = t->payload_size;
    f.priority = t->priority;
    f.attempt = t->attempt;
    f.max_retries = t->max_retries;
    f.crashes = t->crashes;
    f.generation = t->generation;
    f.queue_size = (uint32_t)strlen(t->queue) + 1;
    f.type_size = (uint32_t)strlen(t->type) + 1;
    f.error_size = t->last_error ? (uint32_t)strlen(t->last_error) + 1 : 0;
    frame_head(out, NQ_FRAME_TASK, ctx->seq, nq_frame_task_size(ctx) - sizeof(nq_frame));
    nq_buf_add(out, &f, sizeof f);
    nq_buf_add(out, t->queue, f.queue_size);
    nq_buf_add(out, t->type, f.type_size);
    nq_buf_add(out, t->last_error, f.error_size);
    nq_buf_add(out, t->payload, t->payload_size);
    nq_buf_add(out, "", 1);
}

NQ_PRIVATE void nq_frame_read_task(const char *body, nq_claimed *out, size_t *handler)
{
    struct frame_task f;
    memcpy(&f, body, sizeof f);
    body += sizeof f;
    out->next = NULL;
    out->lease = f.lease;
    out->task = (nq_task){.id = f.id,
                          .queue = body,
                          .type = body + f.queue_size,
                          .payload = body + f.queue_size + f.type_size + f.error_size,
                          .payload_size = f.payload_size,
                          .priority = f.priority,
                          .attempt = f.attempt,
                          .max_retries = f.max_retries,
                          .crashes = f.crashes,
                          .generation = f.generation,
                          .timeout_us = f.timeout_us,
                          .created_at_us = f.created_at_us,
                          .run_at_us = f.run_at_us,
                          .last_error = f.error_size ? body + f.queue_size + f.type_size : NULL};
    *handler = f.handler;
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

NQ_PRIVATE bool nq_frame_heard(const char *p, size_t n, nq_frame *head, bool *more)
{
    *more = n < sizeof *head;
    if (*more)
        return true;
    memcpy(head, p, sizeof *head);
    if ((head->kind != NQ_FRAME_ANSWER && head->kind != NQ_FRAME_PROGRESS) || head->size > NQ_FRAME_SAID_MAX)
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
