/* SPDX-License-Identifier: MIT */
/* The checks of nanoq doctor: their table, how they are run, and those that every database has. */
#include "checks.h"

#include <stdio.h>

static int checks_schema(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
static int checks_clock(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);
static int checks_rights(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err);

/* By number, from 1 on; never another one in its place. look NULL: each driver's own, or there is none. */
static const struct {
    const char *name;
    nq_check_look_fn look;
} checks_table[NQ_CHECKS] = {
    {"schema", checks_schema},
    {"claim-index", NULL},
    {"database-version", NULL},
    {"clock", checks_clock},
    {"durability", NULL},
    {"log-format", NULL},
    {"integrity", NULL},
    {"file-system", NULL},
    {"cluster", NULL},
    {"history", NULL},
    {"transactions", NULL},
    {"connections", NULL},
    {"privileges", checks_rights},
    {"workers", nq_check_silent},
    {"worker-versions", nq_check_versions},
    {"served", nq_check_served},
    {"overdue", nq_check_overdue},
    {"followups", nq_check_followups},
    {"far-future", nq_check_far},
    {"paused", nq_check_paused},
    {"stopped", nq_check_stopped},
    {"schedules", nq_check_schedules},
    {"zones", nq_check_zones},
    {"retention", nq_check_retention},
};

NQ_PRIVATE const char *nq_checks_name(unsigned number)
{
    return checks_table[number - 1].name;
}

/* ---- Checks that every database has ---- */

/* Not nq_store_check: it has said what it does not know before anything else was looked at. */
static int checks_schema(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t have = 0;
    nq_err why = {0};
    (void)k;
    const int rc =
        nq_sql(c, "SELECT MAX(version) FROM {schema}", NULL, 0, nq_checks_int_row, &have, NULL, &why);
    if (rc == NQ_ENOTMIGRATED || (rc == NQ_OK && have == 0)) {
        nq_found_say(f, NQ_CHECK_ERROR, "nanoq migrate, or another prefix in the URL",
                     "there are no tables %s*", c->store->prefix);
        return NQ_OK;
    }
    if (rc != NQ_OK) {
        if (err)
            *err = why;
        return rc;
    }
    const char *todo = NULL;
    int level = NQ_CHECK_OK;
    if (have < NQ_SCHEMA_VERSION) {
        level = NQ_CHECK_ERROR;
        todo = "nanoq migrate";
    } else if (have > NQ_SCHEMA_VERSION) {
        level = NQ_CHECK_WARNING;
        todo = "use this version of nanoq everywhere; an older one may refuse these tables";
    }
    nq_found_say(f, level, todo, "the tables are of version %lld, this library's are of %d", (long long)have,
                 NQ_SCHEMA_VERSION);
    return NQ_OK;
}

#define CHECKS_CLOCK_US NQ_SECONDS(1)

static int checks_clock(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    int64_t theirs = 0;
    if (c->store->driver->hosts_clock) {
        nq_found_say(f, NQ_CHECK_NOT_APPLICABLE, NULL, "the database goes by this host's clock");
        return NQ_OK;
    }
    const int64_t before = nq_real_us();
    const int rc = nq_sql(c, "SELECT {us:now}", NULL, 0, nq_checks_int_row, &theirs, NULL, err);
    const int64_t after = nq_real_us();
    if (rc != NQ_OK)
        return rc;
    (void)k;
    const int64_t off = nq_us_since(theirs < before ? before : theirs > after ? after : theirs, theirs);
    const int64_t much = off < 0 ? -off : off;
    nq_found_say(f, much > CHECKS_CLOCK_US ? NQ_CHECK_WARNING : NQ_CHECK_OK,
                 much > CHECKS_CLOCK_US ? "have both hosts' clocks set by NTP" : NULL,
                 "this host's clock is %.3f s %s the database's, by which everything goes",
                 (double)much / 1e6, off < 0 ? "behind" : "ahead of");
    return NQ_OK;
}

#define CHECKS_GRANT "GRANT SELECT, INSERT, UPDATE, DELETE on the tables, or make the database writable"

/* The answer to a statement; one that says what is missing is no failure of the check. */
static int checks_may_it(int rc, nq_found *f, const nq_err *why)
{
    if (rc != NQ_EDENIED && rc != NQ_EREADONLY)
        return rc == NQ_ENOTMIGRATED ? NQ_OK : rc;
    nq_found_more(f, NQ_CHECK_ERROR, CHECKS_GRANT, "%.200s", why->message);
    return NQ_OK;
}

/* A statement that would change no row: it asks for its privileges all the same. */
static int checks_may(nq_conn *c, const char *sql, nq_found *f, nq_err *why)
{
    return checks_may_it(nq_sql(c, sql, NULL, 0, NULL, NULL, NULL, why), f, why);
}

static int checks_may_all(nq_conn *c, nq_found *f, nq_err *why)
{
#define CHECKS_TABLE(name) #name,
    static const char *const tables[] = {NQ_TABLES(CHECKS_TABLE)};
#undef CHECKS_TABLE
    int rc = checks_may(c, "UPDATE {tasks} SET id = id WHERE 1 = 0", f, why);
    for (size_t i = 0; i < sizeof tables / sizeof *tables && rc == NQ_OK && f->text[0] == '\0'; i++) {
        char sql[160];
        snprintf(sql, sizeof sql, "INSERT INTO {%s} SELECT * FROM {%s} WHERE 1 = 0", tables[i], tables[i]);
        rc = checks_may(c, sql, f, why);
        snprintf(sql, sizeof sql, "DELETE FROM {%s} WHERE 1 = 0", tables[i]);
        rc = rc == NQ_OK && f->text[0] == '\0' ? checks_may(c, sql, f, why) : rc;
    }
    return rc;
}

#define CHECKS_WRITER_US NQ_MS(100) /* of waiting for whoever writes in a file */

/* In a transaction that is rolled back, so that none of it gets into a binary log. */
static int checks_rights(nq_conn *c, nq_checks *k, nq_found *f, nq_err *err)
{
    nq_err why = {0};
    c->wait_us = CHECKS_WRITER_US;
    const int began = c->store->driver->begin(c, &why);
    c->wait_us = 0;
    const bool busy = c->store->driver->hosts_clock && began == NQ_ECONFLICT;
    int rc = busy ? NQ_OK : checks_may_it(began, f, &why);
    if (busy) { /* a file of which the rights have been asked when it was opened */
        nq_found_say(f, NQ_CHECK_OK, NULL, "another program is writing, so no statement was tried");
    } else if (rc == NQ_OK && f->text[0] == '\0') {
        rc = checks_may_all(c, f, &why);
        c->store->driver->rollback(c);
    }
    if (rc != NQ_OK && err)
        *err = why;
    if (rc != NQ_OK)
        return rc;
    if (f->text[0] == '\0')
        nq_found_say(f, NQ_CHECK_OK, NULL, "this account may read, add, change and delete in all tables");
    for (const nq_driver_check *d = c->store->driver->checks; d && d->number; d++)
        if (checks_table[d->number - 1].look == checks_rights)
            return d->look(c, k, f, err);
    return NQ_OK;
}

/* ---- All of them ---- */

static nq_check_look_fn checks_of(const nq_driver *driver, size_t i)
{
    if (checks_table[i].look)
        return checks_table[i].look;
    for (const nq_driver_check *d = driver->checks; d && d->number; d++)
        if (d->number == i + 1)
            return d->look;
    return NULL;
}

static int checks_one(nq_conn *c, nq_checks *k, size_t i, nq_err *err)
{
    nq_found *f = &k->found[i];
    nq_err why = {0};
    *f = (nq_found){0};
    const nq_check_look_fn look = checks_of(c->store->driver, i);
    if (!look) {
        nq_found_say(f, NQ_CHECK_NOT_APPLICABLE, NULL, "there is no such thing here");
        return NQ_OK;
    }
    const int rc = look(c, k, f, &why);
    if (rc == NQ_ENOMEM || rc == NQ_EUNAVAILABLE) {
        if (err)
            *err = why;
        return rc;
    }
    if (rc == NQ_ENOTMIGRATED)
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "its table is not there: see check 1");
    else if (rc == NQ_EDENIED)
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "this account may not see it: %.300s", why.message);
    else if (rc != NQ_OK)
        nq_found_say(f, NQ_CHECK_UNKNOWN, NULL, "it could not be looked at: %.300s", why.message);
    return NQ_OK;
}

static void checks_forget(nq_checks *k)
{
    for (size_t i = 0; i < k->nworkers; i++)
        free(k->workers[i].queues);
    k->nworkers = k->nqueues = k->names = 0;
    k->cut = false;
    nq_buf_clear(&k->vars);
}

/* What several of them look at; one that cannot have it says so by itself. */
static int checks_prepare(nq_conn *c, nq_checks *k, nq_err *err)
{
    int rc = nq_sql(c, "SELECT {us:now}", NULL, 0, nq_checks_int_row, &k->now_us, NULL, err);
    if (rc == NQ_OK && c->store->driver->check_vars)
        rc = c->store->driver->check_vars(c, k, err);
    if (rc != NQ_OK)
        return rc;
    k->walked = nq_checks_walk(c, k, &k->walk_err);
    if (k->walked == NQ_ENOMEM || k->walked == NQ_EUNAVAILABLE)
        return nq_err_set(err, k->walked, "%s", k->walk_err.message);
    return NQ_OK;
}

static int checks_run(nq_conn *c, void *arg, nq_err *err)
{
    nq_checks *k = arg;
    checks_forget(k); /* it may be the second try */
    int rc = checks_prepare(c, k, err);
    for (size_t i = 0; i < NQ_CHECKS && rc == NQ_OK; i++)
        rc = checks_one(c, k, i, err);
    return rc;
}

NQ_PRIVATE int nq_store_checks(nq_store *s, nq_checks *k, nq_err *err)
{
    nq_err why = {0};
    const int rc = nq_settings_read(&k->settings, s, NULL, &why);
    if (rc == NQ_EUNAVAILABLE || rc == NQ_ENOMEM) {
        if (err)
            *err = why;
        return rc;
    }
    return nq_store_do(s, checks_run, k, err);
}

NQ_PRIVATE void nq_checks_free(nq_checks *k)
{
    checks_forget(k);
    nq_settings_unref(k->settings);
    nq_buf_free(&k->vars);
    free(k->queues);
    free(k->workers);
}
