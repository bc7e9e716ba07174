/* SPDX-License-Identifier: MIT */
/* Completion in the caller's transaction, and finding out afterwards whether it took effect. */
#include "store.h"

/* ---- The caller's transaction ---- */

/* A statement that has to change the row of the claim: NQ_ELEASE when it changes none. */
static int complete_run(const nq_store *s, nq_tx tx, const char *template_sql, const nq_val args[],
                        size_t nargs, nq_err *err)
{
    nq_buf sql = {0};
    nq_exec_result res = {0};
    int rc = NQ_OK;
    if (nq_sql_expand(s, template_sql, &sql))
        rc = nq_err_nomem(err);
    else if (tx.ops->exec(tx.conn, sql.p, args, nargs, NULL, NULL, &res))
        rc = s->driver->caller_failed(s, &res, err);
    else if (res.affected == 0)
        rc =
            nq_err_set(err, NQ_ELEASE, "the task is another's by now, or is gone: roll the transaction back");
    nq_buf_free(&sql);
    return rc;
}

/* REPLACE: ids may have begun again, and the history have one like this. Nothing is logged of it, as
 * elsewhere (nq_replace_record): the transaction is the caller's, who may still roll it back. The time that
 * SQLite's own connections ask nanoq_now() for is not to be had on the caller's; but there this host's clock
 * is the database's. */
#define COMPLETE_KEEP(now)                                                                                   \
    "REPLACE INTO {full:finished} (" NQ_MOVED_COLUMNS                                                        \
    "run_at, state, finished_at, attempts, crashes, error) "                                                 \
    "SELECT " NQ_MOVED_COLUMNS "run_at, ?, " now                                                             \
    ", attempts, crashes, error FROM {full:tasks} WHERE id = ? AND lease = ?"

static int complete_keep(const nq_store *s, nq_tx tx, nq_id id, uint64_t lease, nq_err *err)
{
    const nq_val state = nq_int(nq_state_move(NQ_STATE_RUNNING, NQ_MOVE_COMPLETE));
    const nq_val told[] = {state, nq_int(nq_real_us()), nq_int(id), nq_int((int64_t)lease)};
    const nq_val asked[] = {state, told[2], told[3]};
    return s->driver->hosts_clock ? complete_run(s, tx, COMPLETE_KEEP("{at}"), told, 4, err)
                                  : complete_run(s, tx, COMPLETE_KEEP("{now}"), asked, 3, err);
}

NQ_PRIVATE int nq_complete_kept(const nq_store *s, nq_tx tx, const nq_outcome *o, nq_err *err)
{
    const nq_val args[] = {nq_int(o->id), nq_int((int64_t)o->lease)};
    int rc = nq_tx_check(s, tx, err);
    if (rc != NQ_OK)
        return rc;
    if (!tx.ops)
        return nq_err_set(err, NQ_EINVAL, "needs a transaction of the caller's: nq_tx_mysql or nq_tx_sqlite");
    if (!tx.ops->in_tx(tx.conn))
        return nq_err_set(err, NQ_EINVAL, "no transaction is open on this connection: begin one first");
    if (o->keep && (rc = complete_keep(s, tx, o->id, o->lease, err)) != NQ_OK)
        return rc;
    if (o->keep_us > 0 && (rc = nq_result_in(s, tx, o, err)) != NQ_OK)
        return rc;
    return complete_run(s, tx, "DELETE FROM {full:tasks} WHERE id = ? AND lease = ?", args, 2, err);
}

NQ_PRIVATE int nq_complete_in(const nq_store *s, nq_tx tx, nq_id id, uint64_t lease, bool keep, nq_err *err)
{
    return nq_complete_kept(s, tx, &(nq_outcome){.id = id, .lease = lease, .keep = keep}, err);
}

/* ---- Did it take effect? ---- */

struct complete_confirm {
    nq_outcome *const *all;
    size_t n;
    int found; /* what a row with our lease means: NQ_ECONFLICT at first, NQ_ESTATE when we have its lock */
    nq_buf sql;
};

static int complete_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct complete_confirm *k = arg;
    (void)ncols;
    for (size_t i = 0; i < k->n; i++)
        if (k->all[i]->id == cols[0].i)
            k->all[i]->result = k->all[i]->lease == (uint64_t)cols[1].i ? k->found : NQ_ELEASE;
    return 0;
}

/* Read the rows of those whose result is `of`. */
static int complete_read(nq_conn *c, struct complete_confirm *k, int of, const char *tail, nq_err *err)
{
    size_t asked = 0;
    nq_buf_clear(&k->sql);
    nq_buf_str(&k->sql, "SELECT id, lease FROM {tasks} {by_id} WHERE id IN (");
    for (size_t i = 0; i < k->n; i++) {
        if (k->all[i]->result != of)
            continue;
        nq_sql_list_id(c->store, &k->sql, k->all[i]->id);
        asked++;
    }
    nq_buf_fmt(&k->sql, ")%s", tail);
    if (k->sql.failed)
        return nq_err_nomem(err);
    return asked ? nq_sql(c, k->sql.p, NULL, 0, complete_row, k, NULL, err) : NQ_OK;
}

/* A plain reading tells what is committed and waits for nobody: mostly the row is gone, and that was all. */
static int complete_look(nq_conn *c, void *arg, nq_err *err)
{
    struct complete_confirm *k = arg;
    k->found = NQ_ECONFLICT;
    for (size_t i = 0; i < k->n; i++)
        k->all[i]->result = NQ_OK;
    return complete_read(c, k, NQ_OK, "", err);
}

/* A row that is there and not locked: the transaction has ended, and not by a commit. SQLite locks the file,
 * which we have now. */
static int complete_free(nq_conn *c, void *arg, nq_err *err)
{
    struct complete_confirm *k = arg;
    k->found = NQ_ESTATE;
    for (size_t i = 0; i < k->n; i++)
        if (k->all[i]->result == NQ_ESTATE) /* of a try before this one */
            k->all[i]->result = NQ_ECONFLICT;
    return complete_read(c, k, NQ_ECONFLICT, " {lock_free}", err);
}

NQ_PRIVATE int nq_store_confirm(nq_store *s, nq_outcome *const outcomes[], size_t n, nq_err *err)
{
    struct complete_confirm k = {.all = outcomes, .n = n};
    bool there = false;
    int rc = nq_store_do(s, complete_look, &k, err);
    for (size_t i = 0; i < n && rc == NQ_OK; i++)
        there = there || outcomes[i]->result == NQ_ECONFLICT;
    if (there)
        rc = nq_store_tx(s, complete_free, &k, err);
    nq_buf_free(&k.sql);
    return rc;
}
