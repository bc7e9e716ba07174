/* SPDX-License-Identifier: MIT */
/* The model beside the store: one task, one claim, all of it. */
#include <inttypes.h>

#include "model.h"

const char *const model_queues[MODEL_QUEUES] = {"default", "mail", "shop"};
const char *const model_groups[MODEL_GROUPS] = {"", "42", "a//b", "7"};
const char *const model_types[MODEL_TYPES] = {"t", "order.paid", "a long type with spaces"};
const struct model_letters model_letters[MODEL_LETTERS] = {{NULL, 0, 0},
                                                           {"default", 0, 0},
                                                           {"mail", MODEL_LIMITED, 0},
                                                           {"shop//42", MODEL_SHARED, 1},
                                                           {"shop", MODEL_SHARED, 0}};
const struct model_word model_words[MODEL_WORDS] = {
    {"{\"id\":1}", 8}, {"b", 1}, {"\0\0", 2}, {"\xff\xfe'\"\\", 5}, {"B", 1}, {"order 17 \xc3\xa4", 11}};

void look_task(struct steps *s, struct model_task *t, int64_t from_us, int64_t to_us)
{
    if (!s->q)
        return;
    t_task is;
    const int rc = t_get(s->q, t->id, &is);
    if (t->state == MODEL_GONE) {
        STEPS_CHECK(s, rc == NQ_ENOTFOUND, "task #%d is still there", t->number);
        return;
    }
    STEPS_CHECK(s, rc == NQ_OK, "task #%d is not there", t->number);
    const struct model_word *payload = &model_words[t->spec.payload];
    STEPS_CHECK(s, (int)is.info.state == t->state, "task #%d is %s, should be %s", t->number,
                nq_state_name((int)is.info.state), nq_state_name(t->state));
    STEPS_CHECK(s,
                strcmp(is.queue, model_queues[t->spec.queue]) == 0 &&
                    strcmp(is.type, model_types[t->spec.type]) == 0 &&
                    strcmp(is.group, model_groups[t->spec.group]) == 0,
                "task #%d is a %s of %s, group '%s', should be in '%s' of %s", t->number, is.type, is.queue,
                is.group, model_groups[t->spec.group], model_queues[t->spec.queue]);
    STEPS_CHECK(s, is.info.payload_size == payload->n && memcmp(is.payload, payload->p, payload->n) == 0,
                "the payload of task #%d", t->number);
    STEPS_CHECK(s, is.info.priority == t->spec.priority && (int)is.info.max_retries == t->spec.max_retries,
                "task #%d has priority %d, retries %u", t->number, is.info.priority, is.info.max_retries);
    STEPS_CHECK(s,
                is.info.attempts == t->attempts && is.info.crashes == t->crashes &&
                    is.info.generation == t->generation,
                "task #%d: attempts %u crashes %u generation %u, should be %u %u %u", t->number,
                is.info.attempts, is.info.crashes, is.info.generation, t->attempts, t->crashes,
                t->generation);
    STEPS_CHECK(s, strcmp(is.error, t->error) == 0, "the error of task #%d is '%s', should be '%s'",
                t->number, is.error, t->error);
    STEPS_CHECK(s, is.info.cancelling == t->cancelling, "task #%d: cancelling is %d", t->number,
                is.info.cancelling);
    STEPS_CHECK(s, is.info.dead_id == t->dead_id, "task #%d is the letter of %" PRId64, t->number,
                is.info.dead_id);
    if (t->state == NQ_STATE_WAITING || t->state == NQ_STATE_RUNNING) {
        STEPS_CHECK(s, (is.info.expires_at_us != 0) == (t->expires_hour != 0), "task #%d expires at %" PRId64,
                    t->number, is.info.expires_at_us);
        const int64_t hours = (t->due_hour - s->model.hour) * MODEL_HOUR;
        if (from_us != 0) {
            STEPS_CHECK(s, is.info.run_at_us >= from_us + hours && is.info.run_at_us <= to_us + hours,
                        "task #%d is due %" PRId64 " us after it should be", t->number,
                        is.info.run_at_us - from_us - hours);
        }
        if (from_us != 0 || t->run_at_us == 0)
            t->run_at_us = is.info.run_at_us;
        STEPS_CHECK(s, is.info.run_at_us == t->run_at_us, "task #%d: its time moved by %" PRId64 " us",
                    t->number, is.info.run_at_us - t->run_at_us);
    }
    t_task_free(&is);
}

void look_claimed(struct steps *s, const struct model_task *t, const nq_claimed *c)
{
    const nq_task *is = &c->task;
    const struct model_word *payload = &model_words[t->spec.payload];
    const struct model_task *other = model_find(&s->model, is->id);
    STEPS_CHECK(s, is->id == t->id, "claimed #%d, should be #%d (%" PRId64 " us between them)",
                other ? other->number : 0, t->number, other ? other->run_at_us - t->run_at_us : 0);
    STEPS_CHECK(s,
                strcmp(is->type, model_types[t->spec.type]) == 0 &&
                    strcmp(is->queue, model_queues[t->spec.queue]) == 0 &&
                    strcmp(is->group ? is->group : "", model_groups[t->spec.group]) == 0 &&
                    is->payload_size == payload->n && memcmp(is->payload, payload->p, payload->n) == 0,
                "what was claimed of task #%d", t->number);
    STEPS_CHECK(s,
                is->attempt == t->attempts + 1 && is->crashes == t->crashes &&
                    is->generation == t->generation && is->priority == t->spec.priority &&
                    (int)is->max_retries == t->spec.max_retries,
                "task #%d was claimed as attempt %u, crashes %u, generation %u", t->number, is->attempt,
                is->crashes, is->generation);
    STEPS_CHECK(s, strcmp(is->last_error ? is->last_error : "", t->error) == 0, "the last error of task #%d",
                t->number);
}

void look_expiry(struct steps *s, const struct model_task *t, const nq_claimed *c)
{
    STEPS_CHECK(s, (c->expires_us != 0) == (t->expires_hour != 0), "task #%d was claimed%s to expire",
                t->number, t->expires_hour ? ", and is not" : ", and is");
    STEPS_CHECK(s, (c->expires_us != 0 && c->expires_us <= nq_mono_us()) == t->late,
                "task #%d was claimed%s in time", t->number, t->late ? "" : " not");
}

static int look_listed(const nq_info *info, void *udata)
{
    struct steps *s = udata;
    const struct model_task *t = model_find(&s->model, info->id);
    STEPS_CHECK(s, t, "a task %" PRId64 " that should not be there, %s", info->id,
                nq_state_name((int)info->state));
    STEPS_CHECK(s, t->state == (int)info->state, "task #%d is listed as %s", t->number,
                nq_state_name((int)info->state));
    return 0;
}

static int look_queue(const nq_queue_stats *stats, void *udata)
{
    struct steps *s = udata;
    uint64_t counts[6] = {0}; /* by state, and at 5 those that are delayed */
    for (size_t i = 0; i < s->model.n; i++) {
        const struct model_task *t = &s->model.tasks[i];
        if (t->state != MODEL_GONE && strcmp(model_queues[t->spec.queue], stats->queue) == 0)
            counts[t->state == NQ_STATE_WAITING && t->due_hour > s->model.hour ? 5 : t->state]++;
    }
    STEPS_CHECK(s,
                stats->due == counts[NQ_STATE_WAITING] && stats->delayed == counts[5] &&
                    stats->running == counts[NQ_STATE_RUNNING] && stats->done == counts[NQ_STATE_DONE] &&
                    stats->dead == counts[NQ_STATE_DEAD] && stats->cancelled == counts[NQ_STATE_CANCELLED],
                "the counts of queue %s", stats->queue);
    return 0;
}

void look_all(struct steps *s)
{
    if (!s->q)
        return;
    model_sweep(&s->model);
    for (size_t i = 0; i < s->model.n; i++)
        look_task(s, &s->model.tasks[i], 0, 0);
    T_OK(nq_list(s->q, &(nq_list_options){.size = sizeof(nq_list_options), .limit = 10000}, look_listed, s,
                 &t_last));
    T_OK(nq_stats(s->q, look_queue, s, &t_last));
    const int64_t followups = t_sql("SELECT COUNT(*) FROM nanoq_followups");
    STEPS_CHECK(s, followups == (int64_t)s->model.nfollowups, "%" PRId64 " follow-ups, should be %zu",
                followups, s->model.nfollowups);
}
