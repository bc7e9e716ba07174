/* SPDX-License-Identifier: MIT */
/* SQLite: enqueueing, in a transaction of our own or of the caller's. */
#include "sqlite_driver.h"

#define NQ_SQLITE_ENQUEUE_NAMES   NQ_COLUMNS(NQ_SAID_NAME) "payload, run_at, created_at, unique_key"
#define NQ_SQLITE_ENQUEUE_HEAD    "INSERT INTO {tasks} (" NQ_SQLITE_ENQUEUE_NAMES ") VALUES "
#define NQ_SQLITE_ENQUEUE_COLUMNS (NQ_SAID_COUNT + 4)
#define NQ_SQLITE_ENQUEUE_MARKS   NQ_COLUMNS(NQ_SAID_MARK) "?, ?, ?, ?"
#define NQ_SQLITE_ENQUEUE_ROW     "(" NQ_SQLITE_ENQUEUE_MARKS ")"
#define NQ_SQLITE_ENQUEUE_TAIL    " ON CONFLICT DO NOTHING"

/* Places of those behind what is said. */
enum sqlite_enqueue_place {
    SQLITE_ENQUEUE_PAYLOAD = NQ_SAID_COUNT,
    SQLITE_ENQUEUE_RUN_AT,
    SQLITE_ENQUEUE_CREATED_AT,
    SQLITE_ENQUEUE_KEY
};

static const char sqlite_enqueue_insert[] =
    NQ_SQLITE_ENQUEUE_HEAD NQ_SQLITE_ENQUEUE_ROW NQ_SQLITE_ENQUEUE_TAIL;

/* One that is claimed as it is inserted, by a worker that is still a member. */
static const char sqlite_enqueue_born_sql[] =
    "INSERT INTO {tasks} (" NQ_SQLITE_ENQUEUE_NAMES
    ", state, generation, claimed_at, lease) SELECT " NQ_SQLITE_ENQUEUE_MARKS
    ", 1, 1, ?, ? WHERE EXISTS (SELECT 1 FROM {workers} WHERE id = ?)" NQ_SQLITE_ENQUEUE_TAIL;

/*
 * The live task, and whether it has to be followed: it runs, and no follow-up of its key is there yet. The
 * caller's transaction holds the file's write lock from the INSERT on, so a task that waits cannot be
 * claimed, nor a follow-up be promoted, before its commit: one rule for both kinds of transaction. The
 * expression must be the unique index's own, or the look-up scans.
 */
static const char sqlite_enqueue_find[] =
    "SELECT id, state = 1 AND NOT EXISTS (SELECT 1 FROM {followups} f WHERE {same_key}) FROM {tasks} t"
    " WHERE unique_key IS NOT NULL AND type = ? AND CASE typeof(unique_key)"
    " WHEN 'integer' THEN CAST(payload AS BLOB) ELSE CAST(unique_key AS BLOB) END = ?";

static const char sqlite_enqueue_follow[] =
    "INSERT INTO {followups} (" NQ_SQLITE_ENQUEUE_NAMES ", task_id) VALUES (" NQ_SQLITE_ENQUEUE_MARKS ", ?)";

enum sqlite_enqueue_step {
    SQLITE_ENQUEUE_INSERT,
    SQLITE_ENQUEUE_FIND,
    SQLITE_ENQUEUE_FOLLOW,
    SQLITE_ENQUEUE_STEPS
};

static const struct {
    const char *sql;
    enum nq_sqlite_hot hot;
} sqlite_enqueue_steps[SQLITE_ENQUEUE_STEPS] = {
    {sqlite_enqueue_insert, NQ_SQLITE_INSERT},
    {sqlite_enqueue_find, NQ_SQLITE_FIND},
    {sqlite_enqueue_follow, NQ_SQLITE_FOLLOW},
};

/* Between INSERT and look-up the live task can only go when the caller's handle is outside a transaction. */
#define NQ_SQLITE_ENQUEUE_TRIES 4

/* Rows of one INSERT on the caller's handle, where each statement has to be prepared anew. */
#define NQ_SQLITE_ENQUEUE_CHUNK 50

typedef struct sqlite_enqueue_job {
    nq_store *store;
    const nq_new *tasks;
    size_t n;
    nq_id *ids;
    int *results;
    nq_tx tx;                                 /* the caller's; unused for an own transaction */
    nq_sqlite_conn *c;                        /* NULL: the caller's handle */
    sqlite3_stmt *stmt[SQLITE_ENQUEUE_STEPS]; /* on c */
    nq_buf sql[SQLITE_ENQUEUE_STEPS];         /* for the caller's handle */
    int64_t now;
    bool tagged; /* some of the tasks have tags */
} sqlite_enqueue_job;

struct sqlite_enqueue_live {
    nq_id id;
    bool follow;
};

static int sqlite_enqueue_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct sqlite_enqueue_live *live = arg;
    (void)ncols;
    live->id = cols[0].i;
    live->follow = cols[1].i != 0;
    return 0;
}

/* An id that plain SQL gave was the last one: the next one meets the check on the column. */
static int sqlite_enqueue_failed(int rc, const nq_exec_result *res, nq_err *err)
{
    if (rc != NQ_EINVAL || !strstr(res->message, "id BETWEEN"))
        return rc;
    return nq_err_set(
        err, NQ_EFULL,
        "the ids of the tasks are used up: somebody gave the last there is; see docs/schema.md");
}

/* Run one of the statements where the job takes place. */
static int sqlite_enqueue_run(sqlite_enqueue_job *job, enum sqlite_enqueue_step step, const nq_val args[],
                              size_t nargs, struct sqlite_enqueue_live *live, nq_exec_result *res,
                              nq_err *err)
{
    nq_row_fn row = live ? sqlite_enqueue_row : NULL;
    if (job->c) {
        if (nq_sqlite_run(job->c->db, job->stmt[step], args, nargs, row, live, res))
            return sqlite_enqueue_failed(nq_sqlite_conn_failed(job->c, res, err), res, err);
        return NQ_OK;
    }
    if (!job->tx.ops->exec(job->tx.conn, job->sql[step].p, args, nargs, row, live, res))
        return NQ_OK;
    return sqlite_enqueue_failed(nq_sqlite_caller_failed(job->store, res, err), res, err);
}

/* An earlier time is refused by the table: plain SQL has been seen to give seconds. For us it is as due. */
static int64_t sqlite_enqueue_at(int64_t us)
{
    return us < NQ_SECONDS(10000000) ? NQ_SECONDS(10000000) : us;
}

static nq_val sqlite_enqueue_key(const nq_new *t)
{
    return t->unique == NQ_UNIQUE_NONE   ? nq_null()
           : t->unique == NQ_UNIQUE_DATA ? nq_blob(t->data, t->data_size)
                                         : nq_int(1);
}

#define SQLITE_ENQUEUE_VALUE(column, kind, goes, ...)                                                        \
    NQ_IF_SAID_##goes(row[NQ_SAID_##column] = NQ_VALUE_##kind(t->column);)

static void sqlite_enqueue_values(const sqlite_enqueue_job *job, size_t i,
                                  nq_val row[NQ_SQLITE_ENQUEUE_COLUMNS])
{
    const nq_new *t = &job->tasks[i];
    NQ_COLUMNS(SQLITE_ENQUEUE_VALUE)
    row[SQLITE_ENQUEUE_PAYLOAD] = nq_blob(t->payload, t->payload_size);
    row[SQLITE_ENQUEUE_RUN_AT] =
        nq_int(t->run_at_us ? sqlite_enqueue_at(t->run_at_us) : job->now + t->delay_us);
    row[SQLITE_ENQUEUE_CREATED_AT] = nq_int(job->now);
    row[SQLITE_ENQUEUE_KEY] = sqlite_enqueue_key(t);
}

/* birth->did false: the worker is gone, or there is a live task of its key. */
static int sqlite_enqueue_born(sqlite_enqueue_job *job, nq_birth *birth, nq_err *err)
{
    nq_val row[NQ_SQLITE_ENQUEUE_COLUMNS + 3];
    sqlite3_stmt *stmt;
    nq_exec_result res;
    int rc = nq_sqlite_hot_get(job->c, NQ_SQLITE_BORN, sqlite_enqueue_born_sql, &stmt, err);
    if (rc != NQ_OK)
        return rc;
    sqlite_enqueue_values(job, 0, row);
    row[NQ_SQLITE_ENQUEUE_COLUMNS] = nq_int(job->now);
    row[NQ_SQLITE_ENQUEUE_COLUMNS + 1] = nq_int((int64_t)birth->lease);
    row[NQ_SQLITE_ENQUEUE_COLUMNS + 2] = nq_int((int64_t)NQ_LEASE_WORKER(birth->lease));
    if (nq_sqlite_run(job->c->db, stmt, row, NQ_SQLITE_ENQUEUE_COLUMNS + 3, NULL, NULL, &res))
        return sqlite_enqueue_failed(nq_sqlite_conn_failed(job->c, &res, err), &res, err);
    job->results[0] = NQ_OK;
    job->ids[0] = res.insert_id;
    *birth = (nq_birth){birth->lease, res.affected > 0, job->now};
    return NQ_OK;
}

static int sqlite_enqueue_one(sqlite_enqueue_job *job, size_t i, nq_err *err)
{
    nq_val row[NQ_SQLITE_ENQUEUE_COLUMNS + 1];
    nq_birth *const birth = job->tasks[i].birth;
    if (birth) {
        birth->did = false;
        const int born = sqlite_enqueue_born(job, birth, err);
        if (born != NQ_OK || birth->did)
            return born;
    }
    sqlite_enqueue_values(job, i, row);
    const nq_val wanted[] = {
        row[NQ_SAID_type],
        row[job->tasks[i].unique == NQ_UNIQUE_DATA ? SQLITE_ENQUEUE_KEY : SQLITE_ENQUEUE_PAYLOAD],
    };
    nq_exec_result res;
    int rc;

    for (int tries = 0; tries < NQ_SQLITE_ENQUEUE_TRIES; tries++) {
        struct sqlite_enqueue_live live = {0};
        if ((rc = sqlite_enqueue_run(job, SQLITE_ENQUEUE_INSERT, row, NQ_SQLITE_ENQUEUE_COLUMNS, NULL, &res,
                                     err)) != NQ_OK)
            return rc;
        job->results[i] = NQ_OK;
        job->ids[i] = res.insert_id;
        if (res.affected)
            return NQ_OK;
        if ((rc = sqlite_enqueue_run(job, SQLITE_ENQUEUE_FIND, wanted, 2, &live, &res, err)) != NQ_OK)
            return rc;
        job->results[i] = NQ_DUPLICATE;
        job->ids[i] = live.id;
        row[NQ_SQLITE_ENQUEUE_COLUMNS] = nq_int(live.id);
        if (live.follow)
            nq_store_followed_saw(job->store, true);
        if (live.follow)
            return sqlite_enqueue_run(job, SQLITE_ENQUEUE_FOLLOW, row, NQ_SQLITE_ENQUEUE_COLUMNS + 1, NULL,
                                      &res, err);
        if (live.id)
            return NQ_OK;
    }
    return nq_err_set(err, NQ_ECONFLICT, "the live task with the same key kept changing");
}

static int sqlite_enqueue_all(sqlite_enqueue_job *job, nq_err *err)
{
    int rc = NQ_OK;
    job->now = nq_store_clock(job->store);
    for (size_t i = 0; i < job->n && rc == NQ_OK; i++)
        rc = sqlite_enqueue_one(job, i, err);
    return rc;
}

/* Those of the tasks that were added. */
static int sqlite_enqueue_tags(const sqlite_enqueue_job *job, nq_err *err)
{
    const nq_place place = {job->store, job->c ? &job->c->base : NULL, job->tx};
    nq_tags tags = {.place = &place};
    int rc = NQ_OK;
    for (size_t i = 0; i < job->n && rc == NQ_OK && job->tagged; i++)
        if (job->results[i] == NQ_OK)
            rc = nq_tags_put(&tags, &job->tasks[i], job->ids[i], err);
    return rc == NQ_OK ? nq_tags_end(&tags, err) : rc;
}

static int sqlite_enqueue_own(nq_conn *conn, void *arg, nq_err *err)
{
    sqlite_enqueue_job *job = arg;
    int rc = NQ_OK;
    job->c = (nq_sqlite_conn *)conn;
    for (int i = 0; i < SQLITE_ENQUEUE_STEPS && rc == NQ_OK; i++)
        rc = nq_sqlite_hot_get(job->c, sqlite_enqueue_steps[i].hot, sqlite_enqueue_steps[i].sql,
                               &job->stmt[i], err);
    if (rc == NQ_OK)
        rc = sqlite_enqueue_all(job, err);
    return rc == NQ_OK ? sqlite_enqueue_tags(job, err) : rc;
}

/* A statement without parameters on the caller's handle. */
static int sqlite_enqueue_control(const sqlite_enqueue_job *job, const char *sql, nq_err *err)
{
    nq_exec_result res;
    if (!job->tx.ops->exec(job->tx.conn, sql, NULL, 0, NULL, NULL, &res))
        return NQ_OK;
    return nq_sqlite_caller_failed(job->store, &res, err);
}

/* Insert tasks from..from+n with one statement. *all false: some are duplicates, and none was inserted. */
static int sqlite_enqueue_chunk(sqlite_enqueue_job *job, nq_store *s, size_t from, size_t n, bool *all,
                                nq_err *err)
{
    nq_val *rows = malloc(n * NQ_SQLITE_ENQUEUE_COLUMNS * sizeof *rows);
    nq_buf text = {0}, sql = {0};
    nq_exec_result res;
    int rc;

    nq_buf_str(&text, NQ_SQLITE_ENQUEUE_HEAD);
    for (size_t i = 0; i < n; i++)
        nq_buf_str(&text, i ? ", " NQ_SQLITE_ENQUEUE_ROW : NQ_SQLITE_ENQUEUE_ROW);
    nq_buf_str(&text, NQ_SQLITE_ENQUEUE_TAIL);
    if (!rows || text.failed || nq_sql_expand(s, text.p, &sql) || sql.failed) {
        rc = nq_err_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        sqlite_enqueue_values(job, from + i, rows + i * NQ_SQLITE_ENQUEUE_COLUMNS);
    if ((rc = sqlite_enqueue_control(job, "SAVEPOINT nanoq_chunk", err)) != NQ_OK)
        goto out;
    if (job->tx.ops->exec(job->tx.conn, sql.p, rows, n * NQ_SQLITE_ENQUEUE_COLUMNS, NULL, NULL, &res)) {
        rc = nq_sqlite_caller_failed(job->store, &res, err);
        goto out;
    }
    *all = res.affected == n;
    if (!*all && (rc = sqlite_enqueue_control(job, "ROLLBACK TO nanoq_chunk", err)) != NQ_OK)
        goto out;
    rc = sqlite_enqueue_control(job, "RELEASE nanoq_chunk", err);
    for (size_t i = 0; i < n && *all; i++) /* AUTOINCREMENT: one statement's ids follow each other */
        job->ids[from + i] = res.insert_id - (nq_id)(n - 1 - i);
out:
    free(rows);
    nq_buf_free(&text);
    nq_buf_free(&sql);
    return rc;
}

static int sqlite_enqueue_chunks(sqlite_enqueue_job *job, nq_store *s, nq_err *err)
{
    int rc = NQ_OK;
    job->now = nq_store_clock(job->store);
    for (size_t from = 0, n; from < job->n && rc == NQ_OK; from += n) {
        bool all = false;
        n = job->n - from < NQ_SQLITE_ENQUEUE_CHUNK ? job->n - from : NQ_SQLITE_ENQUEUE_CHUNK;
        rc = sqlite_enqueue_chunk(job, s, from, n, &all, err);
        for (size_t i = from; i < from + n && !all && rc == NQ_OK; i++)
            rc = sqlite_enqueue_one(job, i, err);
    }
    return rc;
}

static int sqlite_enqueue_caller(nq_store *s, sqlite_enqueue_job *job, nq_err *err)
{
    nq_err why = {0};
    int rc;
    if (job->tx.ops->kind != NQ_TX_SQLITE)
        return nq_err_set(err, NQ_EINVAL, "the transaction is not one of SQLite's: use nq_tx_sqlite");
    for (int i = 0; i < SQLITE_ENQUEUE_STEPS; i++)
        if (nq_sql_expand(s, sqlite_enqueue_steps[i].sql, &job->sql[i]))
            return nq_err_nomem(err);
    if (job->n == 1 && !job->tagged)
        return sqlite_enqueue_all(job, err);
    /* A savepoint makes it all or nothing, inside a transaction or outside. */
    if ((rc = sqlite_enqueue_control(job, "SAVEPOINT nanoq_enqueue", err)) != NQ_OK)
        return rc;
    rc = sqlite_enqueue_chunks(job, s, &why);
    if (rc == NQ_OK)
        rc = sqlite_enqueue_tags(job, &why);
    if (rc == NQ_OK)
        rc = sqlite_enqueue_control(job, "RELEASE nanoq_enqueue", &why);
    if (rc != NQ_OK) {
        if (!why.transaction_lost && !sqlite_enqueue_control(job, "ROLLBACK TO nanoq_enqueue", NULL))
            sqlite_enqueue_control(job, "RELEASE nanoq_enqueue", NULL);
        if (err)
            *err = why;
    }
    return rc;
}

NQ_PRIVATE int nq_sqlite_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[],
                                 int results[], nq_err *err)
{
    sqlite_enqueue_job job = {.store = s, .tasks = tasks, .n = n, .tx = tx};
    int rc;

    if (n == 0)
        return NQ_OK;
    job.ids = calloc(n, sizeof *job.ids);
    job.results = calloc(n, sizeof *job.results);
    for (size_t i = 0; i < n && !job.tagged; i++)
        job.tagged = tasks[i].ntags > 0;
    if (!job.ids || !job.results)
        rc = nq_err_nomem(err);
    else if (tx.ops)
        rc = sqlite_enqueue_caller(s, &job, err);
    else
        rc = nq_store_tx(s, sqlite_enqueue_own, &job, err);
    if (rc == NQ_OK && ids)
        memcpy(ids, job.ids, n * sizeof *ids);
    if (rc == NQ_OK && results)
        memcpy(results, job.results, n * sizeof *results);
    free(job.ids);
    free(job.results);
    for (int i = 0; i < SQLITE_ENQUEUE_STEPS; i++)
        nq_buf_free(&job.sql[i]);
    return rc;
}

/* ---- One task whose key is looked after ---- */

NQ_PRIVATE size_t nq_sqlite_key(const nq_new *task, uint8_t room[32], nq_val match[2], nq_val *column)
{
    (void)room;
    match[0] = nq_text(task->type);
    match[1] = nq_blob(task->data, task->data_size);
    *column = sqlite_enqueue_key(task);
    return 2;
}

NQ_PRIVATE int nq_sqlite_put(const nq_place *p, const nq_new *task, nq_id follows, nq_id *id, nq_err *err)
{
    const enum sqlite_enqueue_step step = follows ? SQLITE_ENQUEUE_FOLLOW : SQLITE_ENQUEUE_INSERT;
    sqlite_enqueue_job job = {
        .store = p->store, .tasks = task, .n = 1, .tx = p->tx, .now = nq_store_clock(p->store)};
    nq_val row[NQ_SQLITE_ENQUEUE_COLUMNS + 1];
    nq_exec_result res = {0};
    int rc = NQ_OK;
    job.c = p->c ? (nq_sqlite_conn *)p->c : NULL;
    sqlite_enqueue_values(&job, 0, row);
    row[NQ_SQLITE_ENQUEUE_COLUMNS] = nq_int(follows);
    if (job.c)
        rc = nq_sqlite_hot_get(job.c, sqlite_enqueue_steps[step].hot, sqlite_enqueue_steps[step].sql,
                               &job.stmt[step], err);
    else if (nq_sql_expand(p->store, sqlite_enqueue_steps[step].sql, &job.sql[step]))
        rc = nq_err_nomem(err);
    if (rc == NQ_OK)
        rc = sqlite_enqueue_run(&job, step, row, NQ_SQLITE_ENQUEUE_COLUMNS + (follows != 0), NULL, &res, err);
    nq_buf_free(&job.sql[step]);
    *id = res.insert_id;
    return rc == NQ_OK && res.affected == 0 ? nq_err_set(err, NQ_EDUPLICATE, "a live task has the same key")
                                            : rc;
}
