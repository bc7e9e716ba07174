/* SPDX-License-Identifier: MIT */
/* One time of a schedule: its task, and the record that it came. */
#include <stdio.h>

#include "firing.h"

#define FIRING_FORGET 100 /* one in so many looks for old ones to forget */

static int firing_lives(nq_conn *c, nq_id id, bool *lives, nq_err *err)
{
    nq_buf sql = {0};
    *lives = false;
    if (id == 0)
        return NQ_OK;
    nq_buf_str(&sql, "SELECT 1 FROM {tasks} {by_id} WHERE id = ");
    nq_sql_id(c->store, &sql, id);
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, nq_row_any, lives, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

/* INSERT ... SELECT would hold InnoDB's lock on the table's AUTO_INCREMENT. */
#define FIRING_OF(column) "(SELECT " column " FROM {schedules} WHERE name = ?), "

/* The task of one time. */
static int firing_insert(nq_conn *c, const nq_due *r, int64_t due_us, nq_id *id, nq_err *err)
{
    char header[NQ_MAX_SCHEDULE + 64];
    nq_exec_result res = {0};
    const nq_val name = nq_text(r->name);
    const int64_t jitter = r->jitter_us > 0 ? (int64_t)nq_random((uint64_t)r->jitter_us) : 0;
    snprintf(header, sizeof header, "nq-schedule: %s %lld\n", r->name, (long long)due_us);
    const nq_val args[] = {
        name, name, name, name, name, name, nq_text(header), name, nq_int(due_us + jitter)};
    const nq_place place = {c->store, c, NQ_OWN_TX};
    int rc = nq_sql(
        c,
        "INSERT INTO {tasks} (queue, type, priority, max_retries, timeout_ms, payload, headers, run_at, "
        "created_at, unique_key) VALUES (" FIRING_OF("queue") FIRING_OF("type") FIRING_OF("priority")
            FIRING_OF("max_retries") FIRING_OF("timeout_ms") FIRING_OF("payload")
                FIRING_OF("{with_header}") "{at}, {now}, NULL)",
        args, sizeof args / sizeof *args, NULL, NULL, &res, err);
    *id = res.insert_id;
    return rc == NQ_OK ? nq_tags_renew(&place, *id, false, r->tagged, err) : rc;
}

static int firing_record(nq_conn *c, const nq_due *r, int64_t due_us, nq_id id, nq_err *err)
{
    const nq_val args[] = {nq_text(r->name), nq_int(due_us), id ? nq_int(id) : nq_null()};
    const int rc =
        nq_sql(c, "INSERT INTO {firings} (name, due_at, task_id, made_at) VALUES (?, {at}, ?, {now})", args,
               3, NULL, NULL, NULL, err);
    return rc == NQ_EDUPLICATE
               ? nq_err_set(err, NQ_ECONFLICT, "schedule '%s' was fired by another meanwhile", r->name)
               : rc;
}

static int firing_number(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].type == NQ_VAL_INT ? cols[0].i : 0;
    return 0;
}

/* Firings of more than 30 days ago, and all but the last thousand. */
static int firing_forget(nq_conn *c, const nq_due *r, nq_err *err)
{
    const nq_val name = nq_text(r->name);
    int64_t last = 0;
    int rc =
        nq_sql(c, "SELECT {us:due_at} FROM {firings} WHERE name = ? ORDER BY due_at DESC LIMIT 1 OFFSET 1000",
               &name, 1, firing_number, &last, NULL, err);
    const int64_t old = r->now_us - NQ_DAYS(30);
    const nq_val args[] = {name, nq_int(last > old ? last : old)};
    if (rc == NQ_OK)
        rc = nq_sql(c, "DELETE FROM {firings} WHERE name = ? AND due_at <= {at}", args, 2, NULL, NULL, NULL,
                    err);
    return rc;
}

NQ_PRIVATE int nq_fire_time(nq_conn *c, nq_due *r, int64_t due_us, bool by_hand, nq_id *id, nq_err *err)
{
    const nq_val key[] = {nq_text(r->name), nq_int(due_us)};
    bool fired = false, lives = false;
    *id = 0;
    int rc = nq_sql(c, "SELECT 1 FROM {firings} WHERE name = ? AND due_at = {at}", key, 2, nq_row_any, &fired,
                    NULL, err);
    if (rc != NQ_OK || fired)
        return rc;
    if (r->overlap != NQ_OVERLAP_ALLOW && (rc = firing_lives(c, r->task_id, &lives, err)) != NQ_OK)
        return rc;
    if (lives && by_hand)
        return nq_err_set(err, NQ_EDUPLICATE,
                          "task %lld of schedule '%s' has not ended, and they are not to overlap",
                          (long long)r->task_id, r->name);
    if (!lives && (rc = firing_insert(c, r, due_us, id, err)) != NQ_OK)
        return rc;
    if (*id)
        r->task_id = *id;
    if ((rc = firing_record(c, r, due_us, *id, err)) != NQ_OK || nq_random(FIRING_FORGET) != 0)
        return rc;
    return firing_forget(c, r, err);
}

/*
 * It is left alone from now on. A server checks all values of a row that is changed, so one that no check has
 * let through cannot even get its error: then what is checked gets its default with it, and where that does
 * not help, the name being none, the row goes.
 */
NQ_PRIVATE int nq_fire_stop(nq_conn *c, const nq_due *r, const nq_err *why, nq_err *err)
{
    static const char *const ways[] = {"UPDATE {schedules} SET error = ? WHERE name = ?",
                                       "UPDATE {schedules} SET error = ?, queue = 'default', priority = 0, "
                                       "max_retries = 10, timeout_ms = 60000, "
                                       "misfire = 0, overlap = 0, jitter_us = 0 WHERE name = ?",
                                       "DELETE FROM {schedules} WHERE COALESCE(?, '') <> '' AND name = ?"};
    char text[256], shown[2 * NQ_MAX_SCHEDULE];
    nq_printable(shown, sizeof shown, r->name, strlen(r->name));
    nq_printable(text, sizeof text, why->message, strlen(why->message));
    nq_conn_log(c, NQ_LOG_ERROR, "schedule '%s' is stopped: %s", shown, why->message);
    const nq_val args[] = {nq_text(text), nq_text(r->name)};
    int rc = NQ_EINVAL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && nq_row_refused(rc); i++)
        rc = nq_sql(c, ways[i], args, 2, NULL, NULL, NULL, err);
    return rc;
}
