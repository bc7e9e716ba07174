/* SPDX-License-Identifier: MIT */
/* Steps of everybody else: workers that die and take over, people, the clock. */
#include <inttypes.h>

#include "model.h"

#define STEPS_CRASHES 3

static const char steps_crashed[] = "killed by SIGSEGV";

/* ---- Workers ---- */

void steps_join(struct steps *s, int member)
{
    s->ids[member] = 1 + s->leases; /* without a store: any that is new */
    if (s->q) {
        T_OK(nq_member_join(&s->members[member], nq_store_of(s->q), "model:1", NULL, &t_last));
        s->ids[member] = nq_member_id(s->members[member]);
    }
}

/* kill -9, and the others have seen that it is dead. */
void steps_crash(struct steps *s)
{
    const int member = (int)steps_random(s, MODEL_MEMBERS);
    steps_say(s, "crash of %d", member);
    for (size_t i = 0; i < s->model.n; i++)
        if (s->model.tasks[i].state == NQ_STATE_RUNNING && s->model.tasks[i].member == member)
            s->model.tasks[i].member = -1;
    if (s->q) {
        t_sql("DELETE FROM nanoq_workers WHERE id = %" PRIu64, s->ids[member]);
        STEPS_CHECK(s, nq_member_beat(s->members[member], &t_last) == NQ_ELEASE, "a dead worker's beat");
        nq_member_free(s->members[member]);
    }
    steps_join(s, member);
}

/* What a worker does with the tasks of dead ones. */
void steps_orphans(struct steps *s)
{
    struct model_task *dead[MODEL_TASKS];
    size_t n = 0, got = 0;
    for (size_t i = 0; i < s->model.n; i++) {
        struct model_task *t = &s->model.tasks[i];
        if (t->state == NQ_STATE_RUNNING && t->member < 0)
            dead[n++] = t;
    }
    steps_say(s, "orphans: %zu", n);
    nq_claimed *list = NULL;
    if (s->model.n + n > MODEL_TASKS) /* each may leave a letter */
        return;
    if (s->q) {
        T_OK(nq_store_orphans(nq_store_of(s->q), NULL, MODEL_TASKS, &list, &got, &t_last));
        STEPS_CHECK(s, got == n, "%zu tasks of dead workers, should be %zu", got, n);
        for (const nq_claimed *c = list; c; c = c->next) {
            const struct model_task *t = model_find(&s->model, c->task.id);
            STEPS_CHECK(s, t && t->state == NQ_STATE_RUNNING && t->member < 0 && c->lease == t->lease,
                        "task %" PRId64 " is of no dead worker", c->task.id);
            look_claimed(s, t, c);
        }
        nq_claimed_free(list);
    }
    for (size_t i = 0; i < n; i++) {
        const bool last = dead[i]->crashes + 1 > STEPS_CRASHES ||
                          dead[i]->attempts + 1 > (unsigned)dead[i]->spec.max_retries;
        const int64_t hours = last ? 0 : (int64_t)steps_random(s, 2);
        const nq_outcome said = {.id = dead[i]->id,
                                 .lease = dead[i]->lease,
                                 .kind = last ? NQ_OUT_DEAD : NQ_OUT_RETRY,
                                 .crashed = true,
                                 .delay_us = hours * MODEL_HOUR,
                                 .error = steps_crashed,
                                 .error_size = sizeof steps_crashed - 1};
        nq_outcome o = said, *one[] = {&o};
        const int64_t from = steps_now(s);
        if (s->q) {
            T_OK(nq_store_finish(nq_store_of(s->q), one, 1, &t_last));
            STEPS_CHECK(s, o.result == NQ_OK, "taking over #%d answered %s", dead[i]->number,
                        nq_code_name(o.result));
        }
        model_finish(&s->model, dead[i], &said, said.error);
        look_task(s, dead[i], steps_moves(dead[i], &said) ? from : 0, steps_now(s));
        steps_letters(s, from);
    }
}

/* Which running tasks are to be cancelled, as a worker asks. */
void steps_cancels(struct steps *s)
{
    const int member = (int)steps_random(s, MODEL_MEMBERS);
    size_t n = 0, should = 0;
    steps_say(s, "cancels of %d", member);
    for (size_t i = 0; i < s->model.n; i++) {
        const struct model_task *t = &s->model.tasks[i];
        should += t->state == NQ_STATE_RUNNING && t->member == member && t->cancelling;
    }
    if (!s->q)
        return;
    nq_attempt *list = NULL;
    T_OK(nq_store_cancels(nq_store_of(s->q), s->ids[member], &list, &n, &t_last));
    STEPS_CHECK(s, n == should, "%zu to be cancelled, should be %zu", n, should);
    for (size_t i = 0; i < n; i++) {
        const struct model_task *t = model_find(&s->model, list[i].id);
        STEPS_CHECK(s, t && t->cancelling && t->lease == list[i].lease, "task %" PRId64 " is to be cancelled",
                    list[i].id);
    }
    free(list);
}

/* ---- Admin, time ---- */

void steps_admin(struct steps *s)
{
    static int (*const real[])(nq *, nq_id, nq_err *) = {nq_retry, nq_cancel, nq_delete};
    static int (*const modelled[])(struct model *, struct model_task *) = {model_retry, model_cancel,
                                                                           model_delete};
    static const char *const names[] = {"retry", "cancel", "delete"};
    const size_t what = s->model.n > MODEL_FULL ? 2 : steps_random(s, 3);
    const bool absent = steps_random(s, 30) == 0;
    struct model_task *t = absent ? NULL : steps_task(s, MODEL_GONE);
    const bool moves = t && what == 0 && (t->state != NQ_STATE_WAITING || t->due_hour > s->model.hour);
    steps_say(s, "%s #%d", names[what], t ? t->number : 0);
    s->changed = true;
    const int64_t from = steps_now(s);
    const nq_id id = t ? t->id : INT64_MAX - 7;
    const int expected = modelled[what](&s->model, t);
    if (s->q) {
        const int is = real[what](s->q, id, &t_last);
        STEPS_CHECK(s, is == expected, "it answered %s, should be %s", nq_code_name(is),
                    nq_code_name(expected));
    }
    if (t)
        look_task(s, t, moves && expected == NQ_OK ? from : 0, steps_now(s));
}

/* What a claimer does with a row that the database lets nobody claim. */
void steps_bury(struct steps *s)
{
    struct model_task *t = steps_task(s, NQ_STATE_WAITING);
    steps_say(s, "bury #%d", t ? t->number : 0);
    if (!t || s->model.n == MODEL_TASKS)
        return;
    s->changed = true;
    const int64_t from = steps_now(s);
    if (s->q)
        T_OK(nq_bury_waiting(nq_store_of(s->q), t->id, "cannot be claimed", "a test", &t_last));
    model_bury(&s->model, t, "cannot be claimed: a test");
    look_task(s, t, 0, 0);
    steps_letters(s, from);
}

void steps_promote(struct steps *s)
{
    struct model_task *made[MODEL_FOLLOWUPS];
    const size_t before = s->model.n;
    steps_say(s, "promote %zu", s->model.nfollowups);
    if (before + s->model.nfollowups > MODEL_TASKS)
        return;
    const int64_t from = steps_now(s);
    const size_t n = model_promote(&s->model, made);
    if (!s->q)
        return;
    size_t is = 0, now = 0;
    bool more = true;
    while (more) {
        T_OK(nq_store_promote(nq_store_of(s->q), 100, &now, &more, &t_last));
        is += now;
    }
    STEPS_CHECK(s, is == n, "%zu follow-ups became tasks, should be %zu", is, n);
    for (size_t i = 0; i < n; i++) { /* in order, so their ids are the next ones */
        made[i]->id = s->newest = t_sql("SELECT MIN(id) FROM nanoq_tasks WHERE id > %" PRId64, s->newest);
        look_task(s, made[i], made[i]->due_hour > s->model.hour ? 0 : from, steps_now(s));
    }
}

/* Times of expiry are text. */
static void steps_clock_headers(const char *table, int64_t hours)
{
    static const char key[] = "nq-expires: ";
    const int64_t us = hours * MODEL_HOUR;
    const int n = (int)sizeof key - 1, digits = 16;
    if (T_MYSQL)
        t_sql("UPDATE %s SET headers = CONCAT(SUBSTRING(headers, 1, LOCATE('%s', headers) + %d), "
              "CAST(SUBSTRING(headers, LOCATE('%s', headers) + %d, %d) AS SIGNED) - %" PRId64
              ", SUBSTRING(headers, LOCATE('%s', headers) + %d)) WHERE headers LIKE '%%%s%%'",
              table, key, n - 1, key, n, digits, us, key, n + digits, key);
    else
        t_sql("UPDATE %s SET headers = substr(headers, 1, instr(headers, '%s') + %d) || "
              "(CAST(substr(headers, instr(headers, '%s') + %d, %d) AS INTEGER) - %" PRId64
              ") || substr(headers, instr(headers, '%s') + %d) WHERE headers LIKE '%%%s%%'",
              table, key, n - 1, key, n, digits, us, key, n + digits, key);
}

/* Rates are a little ahead of the hour: a start was assigned the time when its claim would be made. */
static void steps_clock_gates(int64_t hours)
{
    const int64_t ns = (hours * MODEL_HOUR + NQ_MS(500)) * 1000;
    t_sql("UPDATE nanoq_gates SET tat = tat - %" PRId64 " WHERE tat > %" PRId64, ns, ns);
    if (T_MYSQL)
        t_sql("UPDATE nanoq_gates SET not_before = not_before - INTERVAL %" PRId64 " HOUR", hours);
    else
        t_sql("UPDATE nanoq_gates SET not_before = not_before - %" PRId64, hours * MODEL_HOUR);
}

void steps_clock(struct steps *s)
{
    const int64_t hours = 1 + (int64_t)steps_random(s, 3);
    static const char *const columns[][2] = {
        {"nanoq_tasks", "run_at"}, {"nanoq_followups", "run_at"}, {"nanoq_finished", "finished_at"}};
    steps_say(s, "%" PRId64 " hours go by", hours);
    s->model.hour += hours;
    s->changed = true;
    for (size_t i = 0; i < s->model.n; i++)
        s->model.tasks[i].run_at_us -= s->model.tasks[i].run_at_us != 0 ? hours * MODEL_HOUR : 0;
    for (size_t i = 0; i < 3 && s->q; i++) {
        steps_clock_headers(columns[i][0], hours);
        if (T_MYSQL) {
            t_sql("UPDATE %s SET %s = %s - INTERVAL %" PRId64 " HOUR", columns[i][0], columns[i][1],
                  columns[i][1], hours);
        } else {
            t_sql("UPDATE %s SET %s = %s - %" PRId64, columns[i][0], columns[i][1], columns[i][1],
                  hours * MODEL_HOUR);
        }
    }
    if (s->q)
        steps_clock_gates(hours);
}

void steps_purge(struct steps *s)
{
    const int64_t done = 1 + (int64_t)steps_random(s, 3), dead = 1 + (int64_t)steps_random(s, 6);
    const size_t n = model_purge(&s->model, done, dead);
    steps_say(s, "purge %" PRId64 " %" PRId64 ": %zu", done, dead, n);
    if (s->q) {
        uint64_t is = 0;
        T_OK(nq_store_purge(nq_store_of(s->q), done * MODEL_HOUR, dead * MODEL_HOUR, 1000, &is, &t_last));
        STEPS_CHECK(s, is == n, "%" PRIu64 " were purged, should be %zu", is, n);
    }
}
