/* SPDX-License-Identifier: MIT */
/* Dead letters: who dies leaves a task in the queue that the settings name (dead_to). */
#include <stdio.h>

#include "store.h"

/*
 * The letter is inserted in the transaction that buries the task, so that there is one for each death,
 * whatever dies meanwhile. It is made from the record that the burial wrote: type and payload, and the
 * headers with "nq-dead: ID" before them and without a time of expiry and the group's name; all else has its
 * defaults, and it has no key. A task that is a letter itself leaves none: so letters cannot go round.
 *
 * What would keep a letter from being inserted, a name or a privilege, must not keep the task: that is told
 * to the log. The settings are those that were read last, as everywhere; so a burial where no queue has
 * dead_to asks the database nothing.
 */

/* May tasks of this queue, or of one of its groups, leave letters? */
static bool letters_of(const nq_settings *s, const char *queue)
{
    const size_t base = nq_queue_base(queue);
    for (size_t i = 0; i < s->n; i++)
        if (s->rows[i].dead_to[0] && nq_queue_base(s->rows[i].name) == base &&
            memcmp(s->rows[i].name, queue, base) == 0)
            return true;
    return false;
}

struct letters_record {
    char queue[NQ_MAX_QUEUE + 1];
    nq_buf headers;
    bool found, letter;
};

static int letters_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct letters_record *r = arg;
    const size_t n = cols[0].n < NQ_MAX_QUEUE ? cols[0].n : NQ_MAX_QUEUE;
    (void)ncols;
    r->found = true;
    if (n > 0)
        memcpy(r->queue, cols[0].p, n);
    r->queue[n] = '\0';
    if (cols[1].n == 0 || cols[1].n > NQ_MAX_HEADERS_SIZE)
        return 0;
    r->letter = nq_headers_dead(cols[1].p, cols[1].n);
    nq_headers_of_letter(&r->headers, cols[1].p, cols[1].n);
    return r->headers.failed ? NQ_ENOMEM : 0;
}

/* As many whole lines of those that it had as there is room for. */
static void letters_headers(const nq_store *s, nq_buf *out, nq_id id, const nq_buf *had)
{
    size_t n = had->n;
    nq_buf_str(out, "nq-dead: ");
    nq_sql_id(s, out, id);
    nq_buf_str(out, "\n");
    while (n > 0 && out->n + n > NQ_MAX_HEADERS_SIZE)
        for (n--; n > 0 && had->p[n - 1] != '\n';)
            n--;
    nq_buf_add(out, n ? had->p : "", n);
}

static int letters_insert(nq_conn *c, nq_id id, const char *to, const struct letters_record *r, nq_err *err)
{
    nq_buf sql = {0}, headers = {0};
    letters_headers(c->store, &headers, id, &r->headers);
    nq_buf_str(
        &sql,
        "INSERT INTO {tasks} (queue, headers, run_at, created_at, unique_key, type, payload) VALUES (?, ?, "
        "{now}, {now}, NULL, (SELECT type FROM {finished} WHERE id = ");
    nq_sql_id(c->store, &sql, id);
    nq_buf_str(&sql, "), (SELECT payload FROM {finished} WHERE id = ");
    nq_sql_id(c->store, &sql, id);
    nq_buf_str(&sql, "))");
    const nq_val args[] = {nq_text(to), {NQ_VAL_TEXT, 0, headers.p, headers.n}};
    const nq_place place = {c->store, c, NQ_OWN_TX};
    nq_exec_result res = {0};
    int rc =
        sql.failed || headers.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, args, 2, NULL, NULL, &res, err);
    if (rc == NQ_OK)
        rc = nq_tags_renew(&place, res.insert_id, false, nq_tags_in(headers.p, headers.n), err);
    nq_buf_free(&sql);
    nq_buf_free(&headers);
    return rc;
}

/* Is it this letter that cannot be, while the transaction goes on? */
static bool letters_refused(int rc)
{
    return nq_row_refused(rc) || rc == NQ_EDUPLICATE || rc == NQ_EDENIED;
}

static int letters_read(nq_conn *c, nq_id id, struct letters_record *r, nq_err *err)
{
    nq_buf sql = {0};
    nq_buf_str(&sql, "SELECT {bytes:t.queue}, {short:t.headers} FROM {finished} t WHERE t.id = ");
    nq_sql_id(c->store, &sql, id);
    const int rc = sql.failed ? nq_err_nomem(err) : nq_sql(c, sql.p, NULL, 0, letters_row, r, NULL, err);
    nq_buf_free(&sql);
    return rc;
}

static int letters_send(nq_conn *c, const nq_settings *settings, nq_id id, uint64_t *hint, nq_err *err)
{
    struct letters_record r = {0};
    char to[NQ_MAX_QUEUE + 1];
    nq_err why = {0};
    int rc = letters_read(c, id, &r, &why);
    if (rc == NQ_OK && r.found && !r.letter && nq_settings_dead_to(settings, r.queue, to)) {
        rc = letters_insert(c, id, to, &r, &why);
        if (rc == NQ_OK)
            *hint = nq_hint_queue(to);
        if (letters_refused(rc)) {
            nq_conn_log(c, NQ_LOG_WARN, "task %lld is dead, and no copy of it goes to queue '%s': %.300s",
                        (long long)id, to, why.message);
            rc = NQ_OK;
        }
    }
    if (rc != NQ_OK && err)
        *err = why;
    nq_buf_free(&r.headers);
    return rc;
}

NQ_PRIVATE int nq_letter_send(nq_conn *c, nq_id id, const char *queue, uint64_t *hint, nq_err *err)
{
    int rc = NQ_OK;
    *hint = NQ_HINT_ANY;
    if (atomic_load(&c->store->letters_are) == NQ_LETTERS_UNKNOWN)
        rc = nq_settings_read_in(c, err);
    if (rc != NQ_OK || atomic_load(&c->store->letters_are) != NQ_LETTERS_SOME)
        return rc;
    nq_settings *const settings = nq_settings_kept(c->store);
    if (settings && (!queue || letters_of(settings, queue)))
        rc = letters_send(c, settings, id, hint, err);
    nq_settings_unref(settings);
    return rc;
}
