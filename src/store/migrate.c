/* SPDX-License-Identifier: MIT */
/* Creating the tables, telling whether they are there, and dropping them. */
#include <ctype.h>

#include "store.h"

/* ---- The version ---- */

static int migrate_version_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].type == NQ_VAL_INT ? cols[0].i : 0;
    return 0;
}

/* 0: not migrated. The version's row is written last, so tables without it are unfinished. */
static int migrate_version(nq_conn *c, int64_t *version, nq_err *err)
{
    nq_err why = {0};
    int64_t found = 0;
    int code =
        nq_sql(c, "SELECT MAX(version) FROM {schema}", NULL, 0, migrate_version_row, &found, NULL, &why);
    if (code && code != NQ_ENOTMIGRATED) {
        if (err)
            *err = why;
        return code;
    }
    *version = code ? 0 : found;
    return NQ_OK;
}

static int migrate_newer(const nq_store *s, int64_t version, nq_err *err)
{
    return nq_err_set(err, NQ_ESCHEMA,
                      "the tables %s* are of schema version %lld, this library knows versions up to %d: "
                      "use a newer nanoq",
                      s->prefix, (long long)version, NQ_SCHEMA_VERSION);
}

static int migrate_check(nq_conn *c, void *arg, nq_err *err)
{
    int64_t version = 0;
    int code = migrate_version(c, &version, err);
    (void)arg;
    if (code)
        return code;
    if (version == 0)
        return nq_err_set(err, NQ_ENOTMIGRATED,
                          "there are no nanoq tables %s* in this database: run nanoq migrate",
                          c->store->prefix);
    if (version > NQ_SCHEMA_VERSION)
        return migrate_newer(c->store, version, err);
    if (version < NQ_SCHEMA_VERSION)
        return nq_err_set(
            err, NQ_ESCHEMA,
            "the tables %s* are of schema version %lld, this library needs %d: run nanoq migrate",
            c->store->prefix, (long long)version, NQ_SCHEMA_VERSION);
    return NQ_OK;
}

NQ_PRIVATE int nq_store_check(nq_store *s, nq_err *err)
{
    return nq_store_do(s, migrate_check, NULL, err);
}

/* ---- Migrating ---- */

/* Move the next statement of *text into out; false at the end. A statement ends with ; at the end of a line;
 * comments are lines of their own. */
static bool migrate_next(const char **text, nq_buf *out)
{
    nq_buf_clear(out);
    while (**text) {
        const char *line = *text, *end = line + strcspn(line, "\n");
        *text = *end ? end + 1 : end;
        while (line < end && isspace((unsigned char)*line))
            line++;
        while (end > line && isspace((unsigned char)end[-1]))
            end--;
        if (line == end || (end - line >= 2 && line[0] == '-' && line[1] == '-'))
            continue;
        const bool last = end[-1] == ';';
        if (out->n)
            nq_buf_str(out, "\n");
        nq_buf_add(out, line, (size_t)(end - line) - (last ? 1 : 0));
        if (last)
            return true;
    }
    return out->n > 0;
}

static int migrate_statements(nq_conn *c, const char *text, nq_err *err)
{
    nq_buf one = {0};
    nq_exec_result res;
    int code = NQ_OK;
    while (!code && migrate_next(&text, &one))
        code =
            one.failed ? nq_err_nomem(err) : c->store->driver->exec(c, one.p, NULL, 0, NULL, NULL, &res, err);
    if (!code && one.failed)
        code = nq_err_nomem(err);
    nq_buf_free(&one);
    return code;
}

/* SQLite can take back CREATE TABLE, MySQL cannot: there every statement may simply be run again. */
static int migrate_all(nq_conn *c, const char *text, nq_err *err)
{
    const nq_driver *d = c->store->driver;
    const bool tx = d->tx_kind == NQ_TX_SQLITE;
    int code = tx ? d->begin(c, err) : NQ_OK;
    if (code)
        return code;
    code = migrate_statements(c, text, err);
    if (tx && !code)
        code = d->commit(c, err);
    else if (tx)
        d->rollback(c);
    return code;
}

static int migrate_run(nq_conn *c, void *arg, nq_err *err)
{
    const nq_driver *d = c->store->driver;
    int64_t version = 0;
    int code = migrate_version(c, &version, err);
    if (code || version == NQ_SCHEMA_VERSION)
        return code;
    if ((code = d->migrate_lock(c, err)))
        return code;
    /* Another process may have been faster. */
    if (!(code = migrate_version(c, &version, err))) {
        if (version > NQ_SCHEMA_VERSION)
            code = migrate_newer(c->store, version, err);
        else if (version < NQ_SCHEMA_VERSION)
            code = migrate_all(c, arg, err);
    }
    d->migrate_unlock(c);
    return code;
}

NQ_PRIVATE int nq_store_migrate(nq_store *s, nq_err *err)
{
    nq_buf text = {0};
    int code = nq_sql_expand(s, s->driver->schema_sql, &text);
    code = code ? nq_err_nomem(err) : nq_store_do(s, migrate_run, text.p, err);
    nq_buf_free(&text);
    return code;
}

/* ---- Dropping ---- */

/* The version goes first: what a drop that stopped in the middle left is then finished by either call. */
static const char migrate_drops[] = "DROP TABLE IF EXISTS {schema};\n"
                                    "DROP TABLE IF EXISTS {followups};\n"
                                    "DROP TABLE IF EXISTS {finished};\n"
                                    "DROP TABLE IF EXISTS {tasks};\n"
                                    "DROP TABLE IF EXISTS {processors};\n"
                                    "DROP TABLE IF EXISTS {cancels};\n"
                                    "DROP TABLE IF EXISTS {progress};\n";

static int migrate_down(nq_conn *c, void *arg, nq_err *err)
{
    const nq_driver *d = c->store->driver;
    int code = d->migrate_lock(c, err);
    if (code)
        return code;
    code = migrate_all(c, arg, err);
    d->migrate_unlock(c);
    return code;
}

NQ_PRIVATE int nq_store_drop(nq_store *s, nq_err *err)
{
    nq_buf text = {0};
    int code = nq_sql_expand(s, migrate_drops, &text);
    code = code ? nq_err_nomem(err) : nq_store_do(s, migrate_down, text.p, err);
    nq_buf_free(&text);
    return code;
}
