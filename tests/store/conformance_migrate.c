/* SPDX-License-Identifier: MIT */
/* Migration: idempotent, safe from two processes and when it is interrupted, versions told apart, prefixes
 * kept apart and quoted. */
#include "suites.h"

static nq *migrate_open(const char *url)
{
    nq *q = NULL;
    T_OK(nq_open(&q, url, NULL, &t_last));
    return q;
}

static int migrate_ignore(const nq_info *info, void *arg)
{
    (void)info, (void)arg;
    return 0;
}

static int migrate_ignore_stats(const nq_queue_stats *s, void *arg)
{
    (void)s, (void)arg;
    return 0;
}

START_TEST(without_tables_every_call_says_so)
{
    nq *q = t_open();
    nq_id id = 5;
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), &id, &t_last), NQ_ENOTMIGRATED);
    ck_assert_int_eq(id, 5);
    ck_assert_ptr_nonnull(strstr(t_last.message, "migrate"));
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, NQ_TASK(.type = "t"), 1, NULL, NULL, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_list(q, NULL, migrate_ignore, NULL, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_get(q, 1, migrate_ignore, NULL, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_retry(q, 1, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_cancel(q, 1, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_delete(q, 1, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_stats(q, migrate_ignore_stats, NULL, &t_last), NQ_ENOTMIGRATED);
    T_FAILS(nq_store_check(nq_store_of(q), &t_last), NQ_ENOTMIGRATED);
    t_conn *mine = t_connect();
    t_begin(mine);
    T_FAILS(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENOTMIGRATED);
    t_run(mine, "ROLLBACK");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(migrating_again_changes_nothing)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    nq_id id = T_ADD(q, .type = "t");
    for (int i = 0; i < 3; i++)
        T_OK(nq_migrate(q, &t_last));
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), NQ_SCHEMA_VERSION);
    ck_assert_int_eq(t_sql("SELECT MAX(version) FROM nanoq_schema"), NQ_SCHEMA_VERSION);
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    nq_close(q);
}
END_TEST

static void migrate_child(int fd, void *arg)
{
    (void)arg;
    nq_err err = {0};
    nq *q = NULL;
    t_hear(fd, 20); /* the start, for all at once */
    int rc = nq_open(&q, t_url, NULL, &err);
    if (rc == NQ_OK)
        rc = nq_migrate(q, &err);
    if (rc != NQ_OK)
        fprintf(stderr, "migrating at once: %s\n", err.message);
    nq_close(q);
    t_tell(fd, rc);
}

START_TEST(several_processes_at_once_all_succeed)
{
    enum { N = 6 };
    t_child children[N];
    for (int i = 0; i < N; i++)
        t_fork(&children[i], migrate_child, NULL);
    for (int i = 0; i < N; i++)
        t_tell(children[i].fd, 1);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(t_hear(children[i].fd, 40), NQ_OK);
        t_reap(&children[i]);
    }
    nq *q = t_open();
    T_ADD(q, .type = "t");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), NQ_SCHEMA_VERSION);
    nq_close(q);
}
END_TEST

/* ---- From older versions ---- */

/* The statement as this database takes it; to be freed. */
static char *migrate_sql(nq *q, const char *template_sql)
{
    nq_buf sql = {0};
    ck_assert_int_eq(nq_sql_expand(nq_store_of(q), template_sql, &sql), NQ_OK);
    return sql.p;
}

/* The tables as version 1 made them, by the file that it had; a 2nd version is the step from there. */
static void migrate_make(nq *q, int version)
{
    char path[600];
    nq_buf text = {0};
    snprintf(path, sizeof path, "%s/v1/%s.sql", T_STORE_TESTS, T_MYSQL ? "mysql" : "sqlite");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f, "%s", path);
    for (char line[600]; fgets(line, sizeof line, f);)
        if (strncmp(line, "--", 2) != 0)
            nq_buf_str(&text, line);
    fclose(f);
    char *sql = migrate_sql(q, text.p);
    for (char *at = sql, *end; (end = strstr(at, ";\n")); at = end + 2) {
        *end = '\0';
        t_sql("%s", at);
    }
    free(sql);
    nq_buf_free(&text);
    for (const nq_statement *s = nq_store_of(q)->driver->steps; s->sql; s++) {
        if (s->version != 1 && s->version <= version) {
            sql = migrate_sql(q, s->sql);
            t_sql("%s", sql);
            free(sql);
        }
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), version);
}

#define MIGRATE_LIVE  "id, queue, state, priority, run_at, lease, generation, attempts, crashes, max_retries, "
#define MIGRATE_TASKS MIGRATE_LIVE "timeout_ms, created_at, type, payload, unique_key, error"
#define MIGRATE_FINISHED                                                                                     \
    "id, queue, state, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms, "           \
    "created_at, finished_at, type, payload, unique_key, error"
#define MIGRATE_FOLLOWUPS                                                                                    \
    "id, task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, type, payload, unique_key"

/* Everything in the tables of version 1 but its version, and when a claim began. */
static char *migrate_all_rows(const char *workers)
{
    const struct {
        const char *table, *columns;
    } all[] = {{"tasks", MIGRATE_TASKS},
               {"finished", MIGRATE_FINISHED},
               {"followups", MIGRATE_FOLLOWUPS},
               {workers, "id, name, beat, started_at, beat_at"}};
    nq_buf rows = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char *of = t_text(t_side(), "SELECT %s FROM nanoq_%s ORDER BY id", all[i].columns, all[i].table);
        nq_buf_fmt(&rows, "%zu: %s\n", i, of ? of : "none");
        free(of);
    }
    return rows.p;
}

/* A task in every state, by statements that each version of the tables takes. */
static void migrate_rows(int version)
{
    const char *now = T_MYSQL ? "NOW(6)" : "1700000000000000",
               *later = T_MYSQL ? "'2100-01-01'" : "4102444800000000";
    t_sql("INSERT INTO nanoq_%s (id, name, started_at, beat_at) VALUES (7, 'old', %s, %s)",
          version < 3 ? "processors" : "workers", now, now);
    t_sql("INSERT INTO nanoq_tasks (id, type, payload) VALUES (1, 'runs', 'a'), (2, 'runs', 'b'), (3, "
          "'waits', 'w')");
    t_sql(
        "UPDATE nanoq_tasks SET state = 1, lease = %llu, generation = 1, claimed_at = %s WHERE type = 'runs'",
        (unsigned long long)NQ_LEASE(7, 1), now);
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, run_at, attempts, error) VALUES (4, 'later', 'l', %s, "
          "2, 'e')",
          later);
    t_sql(
        "INSERT INTO nanoq_followups (task_id, queue, priority, run_at, max_retries, timeout_ms, created_at, "
        "type, "
        "payload, unique_key) SELECT id, queue, priority, run_at, max_retries, timeout_ms, created_at, type, "
        "payload, unique_key FROM nanoq_tasks WHERE id = 1");
    for (int state = NQ_STATE_DONE; state <= NQ_STATE_CANCELLED; state++)
        t_sql("INSERT INTO nanoq_finished (id, state, finished_at, queue, priority, run_at, generation, "
              "attempts, "
              "crashes, max_retries, timeout_ms, created_at, type, payload, unique_key, error) SELECT id + "
              "%d, %d, "
              "created_at, queue, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms, "
              "created_at, 'ended', payload, NULL, error FROM nanoq_tasks WHERE id = 4",
              state, state);
}

/* They are still what they were, and work. */
static void migrate_rows_work(nq *q)
{
    size_t n = 0;
    nq_outcome out[2] = {
        {.id = 1, .lease = NQ_LEASE(7, 1), .kind = NQ_OUT_RETRY, .error = "x", .error_size = 1},
        {.id = 2, .lease = NQ_LEASE(7, 1), .kind = NQ_OUT_DONE}};
    nq_outcome *outs[] = {&out[0], &out[1]};
    T_OK(nq_cancel(q, 1, &t_last));
    T_OK(nq_store_finish(nq_store_of(q), outs, 2, &t_last));
    ck_assert_int_eq(out[0].result, NQ_OK);
    ck_assert_int_eq(out[1].result, NQ_OK);
    ck_assert_int_eq(t_state(q, 1), NQ_STATE_CANCELLED);
    bool more;
    T_OK(nq_store_promote(nq_store_of(q), 10, &n, &more, &t_last));
    ck_assert_uint_eq(n, 1);
    nq_claimed *list = t_claim(q, NQ_LEASE(8, 1), 10, &n);
    ck_assert_uint_eq(n, 2); /* the one that waited, and the follow-up */
    ck_assert_int_eq(list->task.id, 3);
    t_free_claimed(list);
    T_OK(nq_retry(q, 6, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), NQ_SCHEMA_VERSION);
}

/* By several processes at once, from version _i. */
START_TEST(an_older_version_becomes_the_present_one_and_nothing_is_lost)
{
    enum { N = 4 };
    t_child children[N];
    for (int i = 0; i < N; i++)
        t_fork(&children[i], migrate_child, NULL);
    nq *q = t_open();
    migrate_make(q, _i);
    migrate_rows(_i);
    T_FAILS(nq_store_check(nq_store_of(q), &t_last), NQ_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(t_last.message, "run nanoq migrate"));
    char *before = migrate_all_rows(_i < 3 ? "processors" : "workers");
    for (int i = 0; i < N; i++)
        t_tell(children[i].fd, 1);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(t_hear(children[i].fd, 40), NQ_OK);
        t_reap(&children[i]);
    }
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    T_OK(nq_migrate(q, &t_last));
    char *after = migrate_all_rows("workers");
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND claimed_at > %s",
                           T_MYSQL ? "'2001-01-01'" : "1000000000000000"),
                     2);
    free(before);
    free(after);
    migrate_rows_work(q);
    nq_close(q);
}
END_TEST

/* Where a change of tables cannot be taken back each statement may be the last one of a run that is killed.
 */
START_TEST(a_migration_that_stopped_after_any_statement_is_finished_by_the_next)
{
    nq *q = t_open();
    const nq_statement *steps = nq_store_of(q)->driver->steps;
    /* SQLite migrates in one transaction: it stopped before its end, or did not. */
    for (int stop = 0; T_MYSQL && steps[stop].sql; stop++) {
        if (steps[stop].version <= _i)
            continue;
        T_OK(nq_drop_tables(q, &t_last));
        migrate_make(q, _i ? _i : 1);
        if (_i)
            migrate_rows(_i);
        for (int i = 0; i <= stop; i++) {
            char *sql = steps[i].version > (_i ? _i : 1) ? migrate_sql(q, steps[i].sql) : NULL;
            if (sql)
                t_sql("%s", sql);
            free(sql);
        }
        T_OK(nq_migrate(q, &t_last));
        T_OK(nq_store_check(nq_store_of(q), &t_last));
        if (_i)
            migrate_rows_work(q);
    }
    nq_close(q);
}
END_TEST

/* Rows that get past the checks, which a session can turn off, do not stop a migration. */
START_TEST(bad_rows_are_mended_or_buried)
{
    nq *q = t_open();
    migrate_make(q, 3);
    t_sql(T_MYSQL ? "SET check_constraint_checks = 0, sql_mode = ''" : "PRAGMA ignore_check_constraints = 1");
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, generation) VALUES (1, 't', 'a', 4294967295)");
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, run_at) VALUES (2, 't', 'b', %s)",
          T_MYSQL ? "''" : "1800000000");
    t_sql(
        "INSERT INTO nanoq_tasks (id, type, payload, attempts, crashes) VALUES (3, 't', 'c', 65535, 65535)");
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, queue) VALUES (4, 't', 'd', 'a b')");
    t_sql("INSERT INTO nanoq_tasks (id, type, payload, priority) VALUES (5, 't', 'e', 120)");
    t_sql("INSERT INTO nanoq_followups (task_id, queue, priority, run_at, max_retries, timeout_ms, "
          "created_at, type, "
          "payload, unique_key) SELECT id, queue, priority, created_at, 2000, timeout_ms, created_at, type, "
          "'f', 'x' FROM nanoq_tasks WHERE id = 1");
    T_OK(nq_migrate(q, &t_last));
    size_t n = 0, made = 0;
    bool more;
    T_OK(nq_store_promote(nq_store_of(q), 10, &made, &more, &t_last));
    ck_assert_uint_eq(made, 1);
    nq_claimed *list = t_claim(q, NQ_LEASE(8, 1), 10, &n), *second = NULL;
    size_t m = 0;
    second = t_claim(q, NQ_LEASE(8, 2), 10, &m);
    ck_assert_uint_eq(n + m, 5);
    t_free_claimed(list);
    t_free_claimed(second);
    ck_assert_int_eq(t_state(q, 4), NQ_STATE_DEAD);
    ck_assert_int_eq(t_sql("SELECT MAX(generation) FROM nanoq_tasks"), 2000000000);
    ck_assert_int_eq(t_sql("SELECT MAX(attempts) FROM nanoq_tasks"), 30000);
    nq_close(q);
}
END_TEST

START_TEST(ids_go_on_behind_those_of_the_history)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    const nq_id first = T_ADD(q, .type = "t");
    T_OK(nq_cancel(q, first, &t_last));
    t_sql("UPDATE nanoq_finished SET id = 1000");
    T_OK(nq_migrate(q, &t_last));
    ck_assert_int_gt(T_ADD(q, .type = "t"), 1000);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    t_sql("DELETE FROM nanoq_finished"); /* and never go back */
    t_sql("DELETE FROM nanoq_tasks");
    T_OK(nq_migrate(q, &t_last));
    ck_assert_int_gt(T_ADD(q, .type = "t"), 1001);
    nq_close(q);
}
END_TEST

/* ---- Newer versions ---- */

START_TEST(tables_that_are_too_new_are_refused_by_every_call)
{
    nq *q = t_open(), *later;
    T_OK(nq_migrate(q, &t_last));
    T_ADD(q, .type = "t");
    t_sql("INSERT INTO nanoq_schema (version%s) VALUES (%d%s)", _i ? ", compatible_from" : "",
          NQ_SCHEMA_VERSION + 1, _i ? ", 99" : "");
    T_ADD(q, .type = "t", .payload = "x", .payload_size = 1); /* a handle asks once */
    T_OK(nq_open(&later, t_url, NULL, &t_last));
    T_FAILS(nq_migrate(later, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_store_check(nq_store_of(later), &t_last), NQ_ESCHEMA);
    T_FAILS(nq_enqueue(later, NQ_OWN_TX, NQ_TASK(.type = "u"), NULL, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_enqueue_many(later, NQ_OWN_TX, NQ_TASK(.type = "u"), 1, NULL, NULL, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_list(later, NULL, migrate_ignore, NULL, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_get(later, 1, migrate_ignore, NULL, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_retry(later, 1, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_cancel(later, 1, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_delete(later, 1, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_stats(later, migrate_ignore_stats, NULL, &t_last), NQ_ESCHEMA);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 2);
    ck_assert_int_eq(t_sql("SELECT MAX(version) FROM nanoq_schema"), NQ_SCHEMA_VERSION + 1);
    nq_close(later);
    nq_close(q);
}
END_TEST

START_TEST(newer_tables_that_bear_this_library_are_worked_with)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    t_sql("INSERT INTO nanoq_schema (version, compatible_from) VALUES (%d, 99), (%d, %d)",
          NQ_SCHEMA_VERSION + 1, NQ_SCHEMA_VERSION + 2, NQ_SCHEMA_VERSION);
    nq *later = t_open();
    T_OK(nq_store_check(nq_store_of(later), &t_last));
    T_OK(nq_migrate(later, &t_last));
    nq_id id = T_ADD(later, .type = "t");
    t_free_claimed(t_claim_one(later, NQ_LEASE(1, 1)));
    ck_assert_int_eq(t_state(later, id), NQ_STATE_RUNNING);
    ck_assert_int_eq(t_sql("SELECT MAX(version) FROM nanoq_schema"), NQ_SCHEMA_VERSION + 2);
    nq_close(later);
    nq_close(q);
}
END_TEST

START_TEST(the_last_step_is_of_the_present_version)
{
    nq *q = t_open();
    int last = 0;
    for (const nq_statement *s = nq_store_of(q)->driver->steps; s->sql; s++) {
        ck_assert_int_ge(s->version, last);
        last = s->version;
    }
    ck_assert_int_eq(last, NQ_SCHEMA_VERSION);
    nq_close(q);
}
END_TEST

START_TEST(two_prefixes_live_in_one_database)
{
    nq *a = migrate_open(t_url_with("prefix=a_")), *b = migrate_open(t_url_with("prefix=Select"));
    T_OK(nq_migrate(a, &t_last));
    T_FAILS(nq_enqueue(b, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENOTMIGRATED);
    T_OK(nq_migrate(b, &t_last));
    T_ADD(a, .type = "t");
    T_ADD(b, .type = "t");
    T_ADD(b, .type = "u");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM a_tasks"), 1);
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM %sSelecttasks%s", T_MYSQL ? "`" : "\"", T_MYSQL ? "`" : "\""), 2);
    size_t n = 0;
    nq_claimed *list = t_claim(b, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    t_free_claimed(list);
    nq_member *ma = NULL, *mb = NULL; /* members of the one are strangers to the other */
    unsigned died = 0;
    T_OK(nq_member_join(&ma, nq_store_of(a), "a", NULL, &t_last));
    T_OK(nq_member_join(&mb, nq_store_of(b), "b", NULL, &t_last));
    T_OK(nq_member_watch(ma, NQ_SECONDS(30), &died, &t_last));
    ck_assert_uint_eq(died, 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM a_workers"), 1);
    T_OK(nq_member_leave(ma, &t_last));
    T_OK(nq_member_leave(mb, &t_last));
    nq_close(a);
    nq_close(b);
}
END_TEST

static const char *const migrate_bad_prefixes[] = {
    "prefix=",        "prefix=1a",   "prefix=a-b",
    "prefix=a%20b",   "prefix=a%60", "prefix=a%22",
    "prefix=a%27",    "prefix=a;",   "prefix=a%00b",
    "prefix=%C3%A4",  "prefix=a.b",  "prefix=a%60%3B%20DROP%20TABLE%20x%3B%20--",
    "prefix={tasks}", "prefix=a%0A", "prefix=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

START_TEST(other_prefixes_are_refused)
{
    nq *q = (nq *)&t_last;
    int rc = nq_open(&q, t_url_with(migrate_bad_prefixes[_i]), NULL, &t_last);
    ck_assert_msg(rc == NQ_EINVAL || rc == NQ_EURL, "%s: %s", migrate_bad_prefixes[_i], nq_code_name(rc));
    ck_assert_ptr_eq(q, &t_last); /* untouched */
    char *sql = NULL;
    rc = nq_migration_sql(&sql, t_url_with(migrate_bad_prefixes[_i]), 0, &t_last);
    ck_assert_int_ne(rc, NQ_OK);
    ck_assert_ptr_null(sql);
}
END_TEST

START_TEST(the_longest_prefix_works)
{
    /* 47 bytes; the longest table name, with "workers", then stays under MySQL's 64. */
    nq *q = migrate_open(t_url_with("prefix=abcdefghijabcdefghijabcdefghijabcdefghijabcdef_"));
    T_OK(nq_migrate(q, &t_last));
    T_OK(nq_migrate(q, &t_last));
    T_ADD(q, .type = "t");
    t_free_claimed(t_claim_one(q, NQ_LEASE(1, 1)));
    nq_close(q);
}
END_TEST

/* From version _i, 0: from nothing. */
START_TEST(the_printed_sql_makes_the_same_tables)
{
    char *sql = NULL;
    nq *q = t_open();
    if (_i)
        migrate_make(q, _i);
    T_OK(nq_migration_sql(&sql, t_url, (unsigned)_i, &t_last));
    ck_assert_ptr_nonnull(strstr(sql, "nanoq_schema"));
    ck_assert((_i == 0) == !!strstr(sql, "-- Version 1,"));
    ck_assert_ptr_null(strstr(sql, "{tasks}"));
    /* Through the stock client, as its reader would. */
    char path[300], command[2048];
    snprintf(path, sizeof path, "%s/schema.sql", t_dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(sql, f), 0);
    ck_assert_int_eq(fclose(f), 0);
    nq_free(sql);
    if (T_MYSQL)
        snprintf(command, sizeof command, "mariadb -h 127.0.0.1 -P %u -u root %s <%s", t_server_port(),
                 t_name, path);
    else
        snprintf(command, sizeof command, "sqlite3 -bail %s <%s", t_url + 7, path);
    ck_assert_int_eq(system(command), 0);
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    T_ADD(q, .type = "t");
    t_free_claimed(t_claim_one(q, NQ_LEASE(1, 1)));
    T_OK(nq_migrate(q, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(there_is_no_sql_from_a_version_that_is_not_known)
{
    char *sql = NULL;
    T_FAILS(nq_migration_sql(&sql, t_url, NQ_SCHEMA_VERSION + 1, &t_last), NQ_EINVAL);
    ck_assert_ptr_null(sql);
    T_OK(nq_migration_sql(&sql, t_url, NQ_SCHEMA_VERSION, &t_last));
    ck_assert_ptr_null(strstr(sql, "nanoq_"));
    ck_assert_ptr_nonnull(strstr(sql, "-- "));
    nq_free(sql);
}
END_TEST

/* How many tables there are whose names begin so; without _ in it, that LIKE would take for any letter. */
static int64_t migrate_tables(const char *start)
{
    return T_MYSQL ? t_sql("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() "
                           "AND table_name LIKE '%s%%'",
                           start)
                   : t_sql("SELECT COUNT(*) FROM sqlite_schema WHERE name LIKE '%s%%'", start);
}

START_TEST(dropping_takes_all_of_ones_own_tables_and_no_others)
{
    nq *a = migrate_open(t_url_with("prefix=gone")), *b = migrate_open(t_url_with("prefix=kept"));
    nq_member *m = NULL;
    T_OK(nq_drop_tables(a, &t_last)); /* there are none yet */
    for (int i = 0; i < 2; i++) {     /* the second time on connections that knew the tables of the first */
        T_OK(nq_migrate(a, &t_last));
        T_OK(nq_migrate(b, &t_last));
        T_ADD(a, .type = "t");
        T_ADD(b, .type = "t", .unique = NQ_UNIQUE_NONE);
        t_free_claimed(t_claim_one(a, NQ_LEASE(1, i + 1)));
        T_OK(nq_member_join(&m, nq_store_of(a), "a", NULL, &t_last)); /* refuses nothing */
        T_OK(nq_drop_tables(a, &t_last));
        T_FAILS(nq_enqueue(a, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENOTMIGRATED);
        nq_member_free(m);
        ck_assert_int_eq(migrate_tables("gone"), 0);
    }
    ck_assert_int_ge(migrate_tables("kept"), 7);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM kepttasks"), 2);
    T_FAILS(nq_drop_tables(NULL, &t_last), NQ_EINVAL);
    nq_close(a);
    nq_close(b);
}
END_TEST

START_TEST(a_drop_that_stopped_in_the_middle_is_finished_by_the_next)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    T_ADD(q, .type = "t");
    t_sql("DROP TABLE nanoq_schema");
    T_OK(nq_drop_tables(q, &t_last));
    ck_assert_int_eq(migrate_tables("nanoq"), 0);
    T_OK(nq_migrate(q, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    nq_close(q);
}
END_TEST

Suite *suite_migrate(void)
{
    Suite *s = suite_create("migrate");
    TCase *c = t_case_empty(s, "migrate", 120);
    tcase_add_test(c, without_tables_every_call_says_so);
    tcase_add_test(c, migrating_again_changes_nothing);
    tcase_add_test(c, several_processes_at_once_all_succeed);
    tcase_add_loop_test(c, an_older_version_becomes_the_present_one_and_nothing_is_lost, 1,
                        NQ_SCHEMA_VERSION);
    tcase_add_loop_test(c, a_migration_that_stopped_after_any_statement_is_finished_by_the_next, 0,
                        NQ_SCHEMA_VERSION);
    tcase_add_loop_test(c, tables_that_are_too_new_are_refused_by_every_call, 0, 2);
    if (T_SQLITE || t_is_mariadb) /* MySQL has no such setting */
        tcase_add_test(c, bad_rows_are_mended_or_buried);
    tcase_add_test(c, ids_go_on_behind_those_of_the_history);
    tcase_add_test(c, newer_tables_that_bear_this_library_are_worked_with);
    tcase_add_test(c, the_last_step_is_of_the_present_version);
    tcase_add_test(c, two_prefixes_live_in_one_database);
    tcase_add_loop_test(c, other_prefixes_are_refused, 0,
                        (int)(sizeof migrate_bad_prefixes / sizeof *migrate_bad_prefixes));
    tcase_add_test(c, the_longest_prefix_works);
    tcase_add_loop_test(c, the_printed_sql_makes_the_same_tables, 0, NQ_SCHEMA_VERSION);
    tcase_add_test(c, there_is_no_sql_from_a_version_that_is_not_known);
    tcase_add_test(c, dropping_takes_all_of_ones_own_tables_and_no_others);
    tcase_add_test(c, a_drop_that_stopped_in_the_middle_is_finished_by_the_next);
    return s;
}
