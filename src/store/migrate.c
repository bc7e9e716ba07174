/* SPDX-License-Identifier: MIT */
/* Creating the tables, telling whether they are there, and dropping them. */
#include "store.h"

/* ---- The version ---- */

static int migrate_int_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    if (cols[0].type == NQ_VAL_INT)
        *(int64_t *)arg = cols[0].i;
    return 0;
}

/* 0: not migrated. A step's row is written last, so what has none is unfinished. */
static int migrate_version(nq_conn *c, int64_t *version, nq_err *err)
{
    nq_err why = {0};
    int64_t found = 0;
    int rc = nq_sql(c, "SELECT MAX(version) FROM {schema}", NULL, 0, migrate_int_row, &found, NULL, &why);
    if (rc != NQ_OK && rc != NQ_ENOTMIGRATED) {
        if (err)
            *err = why;
        return rc;
    }
    *version = rc != NQ_OK ? 0 : found;
    return NQ_OK;
}

/* Newer tables than this library's: those who made them say which libraries may go on with them. Only such
 * tables are sure to have that column. */
static int migrate_newer(nq_conn *c, int64_t version, nq_err *err)
{
    const nq_val arg = nq_int(version);
    int64_t from = version;
    const int rc = nq_sql(c, "SELECT compatible_from FROM {schema} WHERE version = ?", &arg, 1,
                          migrate_int_row, &from, NULL, err);
    if (rc != NQ_OK || from <= NQ_SCHEMA_VERSION)
        return rc;
    return nq_err_set(err, NQ_ESCHEMA,
                      "the tables %s* are of schema version %lld, for libraries that know version %lld; this "
                      "library knows versions up to %d: use a newer nanoq",
                      c->store->prefix, (long long)version, (long long)from, NQ_SCHEMA_VERSION);
}

static int migrate_check(nq_conn *c, void *arg, nq_err *err)
{
    int64_t version = 0;
    int rc = migrate_version(c, &version, err);
    (void)arg;
    if (rc != NQ_OK)
        return rc;
    if (version == 0)
        return nq_err_set(err, NQ_ENOTMIGRATED,
                          "there are no nanoq tables %s* in this database: run nanoq migrate",
                          c->store->prefix);
    if (version > NQ_SCHEMA_VERSION)
        return migrate_newer(c, version, err);
    if (version < NQ_SCHEMA_VERSION)
        return nq_err_set(
            err, NQ_ESCHEMA,
            "the tables %s* are of schema version %lld, this library needs %d: run nanoq migrate",
            c->store->prefix, (long long)version, NQ_SCHEMA_VERSION);
    return NQ_OK;
}

NQ_PRIVATE int nq_store_check(nq_store *s, nq_err *err)
{
    const int rc = nq_store_do(s, migrate_check, NULL, err);
    if (rc == NQ_OK)
        atomic_store(&s->checked, true);
    return rc;
}

NQ_PRIVATE int nq_store_ready(nq_store *s, nq_err *err)
{
    return atomic_load(&s->checked) ? NQ_OK : nq_store_check(s, err);
}

/* ---- Migrating ---- */

/* Does this error say that an interrupted run had done the statement? */
static bool migrate_done_before(const nq_statement *one, const nq_err *why)
{
    for (size_t i = 0; i < sizeof one->done_before / sizeof *one->done_before && one->done_before[i]; i++)
        if (why->db_code == one->done_before[i])
            return true;
    return false;
}

/* The steps behind version. */
static int migrate_steps(nq_conn *c, int64_t version, nq_err *err)
{
    for (const nq_statement *one = c->store->driver->steps; one->sql; one++) {
        nq_err why = {0};
        const int rc = one->version > version ? nq_sql(c, one->sql, NULL, 0, NULL, NULL, NULL, &why) : NQ_OK;
        if (rc != NQ_OK && !migrate_done_before(one, &why)) {
            if (err)
                *err = why;
            return rc;
        }
    }
    return NQ_OK;
}

/* A table that was emptied, or a history that was copied from elsewhere: a task would end under an id that
 * has a record. */
static int migrate_ids(nq_conn *c, nq_err *err)
{
    const char *const *one = c->store->driver->ids_behind;
    bool behind = false;
    int rc = nq_sql(c, *one, NULL, 0, nq_row_any, &behind, NULL, err);
    while (behind && rc == NQ_OK && *++one)
        rc = nq_sql(c, *one, NULL, 0, NULL, NULL, NULL, err);
    c->broken = c->broken || (rc != NQ_OK && behind); /* a transaction may be open */
    return rc;
}

/* Another process may have been faster: the version is read again, under the lock. */
static int migrate_behind(nq_conn *c, nq_err *err)
{
    int64_t version = 0;
    int rc = migrate_version(c, &version, err);
    if (rc != NQ_OK)
        return rc;
    if (version > NQ_SCHEMA_VERSION)
        return migrate_newer(c, version, err);
    return (rc = migrate_steps(c, version, err)) ? rc : migrate_ids(c, err);
}

/* Run fn under the lock of migrations; where the database can take back a change of tables, as a whole. */
static int migrate_locked(nq_conn *c, int (*fn)(nq_conn *c, nq_err *err), nq_err *err)
{
    const nq_driver *d = c->store->driver;
    int rc = d->migrate_lock(c, err);
    if (rc != NQ_OK)
        return rc;
    if (d->ddl_in_tx)
        rc = d->begin(c, err);
    if (rc == NQ_OK) {
        rc = fn(c, err);
        if (d->ddl_in_tx)
            rc = nq_conn_end(c, rc, err);
    }
    d->migrate_unlock(c);
    /* A step may change settings of the session and change them back: not when it stopped in the middle. */
    c->broken = c->broken || rc != NQ_OK;
    return rc;
}

static int migrate_run(nq_conn *c, void *arg, nq_err *err)
{
    int64_t version = 0;
    const int rc = migrate_version(c, &version, err);
    (void)arg;
    if (rc != NQ_OK || version == NQ_SCHEMA_VERSION)
        return rc != NQ_OK ? rc : migrate_ids(c, err);
    return migrate_locked(c, migrate_behind, err);
}

NQ_PRIVATE int nq_store_migrate(nq_store *s, nq_err *err)
{
    return nq_store_do(s, migrate_run, NULL, err);
}

NQ_PRIVATE int nq_store_migration_sql(const nq_store *s, unsigned from, nq_buf *out)
{
    const nq_driver *d = s->driver;
    int rc = NQ_OK;
    nq_buf_fmt(out, "-- From schema version %u to %d.\n\n", from, NQ_SCHEMA_VERSION);
    if (d->ddl_in_tx)
        nq_buf_str(out, "BEGIN IMMEDIATE;\n\n");
    for (const nq_statement *one = d->steps; one->sql && rc == NQ_OK; one++) {
        if ((unsigned)one->version <= from)
            continue;
        rc = nq_sql_expand(s, one->sql, out);
        nq_buf_str(out, ";\n\n");
    }
    if (d->ddl_in_tx)
        nq_buf_str(out, "COMMIT;\n");
    return rc != NQ_OK || out->failed ? NQ_ENOMEM : NQ_OK;
}

/* ---- Dropping ---- */

/* The version goes first: what a drop that stopped in the middle left is then finished by either call. */
static const char *const migrate_drops[] = {"DROP TABLE IF EXISTS {schema}",
#define NQ_TABLE_DROP(name) "DROP TABLE IF EXISTS {" #name "}",
                                            NQ_TABLES(NQ_TABLE_DROP) NQ_TABLES_BEFORE(NQ_TABLE_DROP)
#undef NQ_TABLE_DROP
};

static int migrate_drop(nq_conn *c, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < sizeof migrate_drops / sizeof *migrate_drops && rc == NQ_OK; i++)
        rc = nq_sql(c, migrate_drops[i], NULL, 0, NULL, NULL, NULL, err);
    return rc;
}

static int migrate_down(nq_conn *c, void *arg, nq_err *err)
{
    (void)arg;
    return migrate_locked(c, migrate_drop, err);
}

NQ_PRIVATE int nq_store_drop(nq_store *s, nq_err *err)
{
    atomic_store(&s->checked, false);
    return nq_store_do(s, migrate_down, NULL, err);
}
