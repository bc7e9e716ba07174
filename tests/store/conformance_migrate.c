/* SPDX-License-Identifier: MIT */
/* Migration: idempotent, safe from two processes, versions told apart, prefixes kept apart and quoted. */
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

/* ---- From version 1 ---- */

/* The tables as that version made them; its file is kept beside the tests. */
static void migrate_make_v1(nq *q)
{
    char path[600];
    nq_buf text = {0}, sql = {0};
    snprintf(path, sizeof path, "%s/v1/%s.sql", T_STORE_TESTS, T_MYSQL ? "mysql" : "sqlite");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    for (char line[600]; fgets(line, sizeof line, f);)
        if (strncmp(line, "--", 2) != 0)
            nq_buf_str(&text, line);
    fclose(f);
    ck_assert_int_eq(nq_sql_expand(nq_store_of(q), text.p, &sql), NQ_OK);
    for (char *at = sql.p, *end; (end = strstr(at, ";\n")) != NULL; at = end + 2) {
        *end = '\0';
        t_sql("%s", at);
    }
    nq_buf_free(&text);
    nq_buf_free(&sql);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), 1);
}

/* Everything in the tables of version 1 but its version. */
static char *migrate_all_rows(void)
{
    static const char *const tables[] = {"tasks", "finished", "followups", "processors"};
    nq_buf all = {0};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char *rows = t_text(t_side(), "SELECT * FROM nanoq_%s ORDER BY id", tables[i]);
        nq_buf_fmt(&all, "%s: %s\n", tables[i], rows ? rows : "none");
        free(rows);
    }
    return all.p;
}

START_TEST(version_1_becomes_the_present_one_and_nothing_is_lost)
{
    enum { N = 4 };
    t_child children[N];
    nq_id ids[4], kept;
    size_t n = 0;
    for (int i = 0; i < N; i++)
        t_fork(&children[i], migrate_child, NULL);
    nq *q = t_open();
    migrate_make_v1(q);
    T_FAILS(nq_store_check(nq_store_of(q), &t_last), NQ_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(t_last.message, "run nanoq migrate"));
    /* Tasks that run, wait, are delayed; a finished one, a follow-up, and a worker of that version. */
    t_sql("INSERT INTO nanoq_processors (id, name, started_at, beat_at) VALUES (7, 'old', %s, %s)",
          T_MYSQL ? "NOW()" : "1", T_MYSQL ? "NOW()" : "1");
    for (int i = 0; i < 2; i++)
        ids[i] = T_ADD(q, .type = "runs", .payload = &i, .payload_size = sizeof i);
    nq_claimed *running = t_claim(q, NQ_LEASE(7, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    ids[2] = T_ADD(q, .type = "waits", NQ_BYTES("w\0x"));
    ids[3] = T_ADD(q, .type = "later", .delay_us = NQ_HOURS(1));
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "runs", .payload = "\0\0\0", .payload_size = 4), NULL,
                       &t_last),
            NQ_EDUPLICATE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 1);
    kept = T_ADD(q, .type = "ends");
    T_OK(nq_cancel(q, kept, &t_last));
    char *before = migrate_all_rows();
    /* By several processes at once, beside the old worker. */
    for (int i = 0; i < N; i++)
        t_tell(children[i].fd, 1);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(t_hear(children[i].fd, 40), NQ_OK);
        t_reap(&children[i]);
    }
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    T_OK(nq_migrate(q, &t_last));
    char *after = migrate_all_rows();
    ck_assert_str_eq(before, after);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schema"), NQ_SCHEMA_VERSION);
    /* And all of it works. */
    T_OK(nq_cancel(q, ids[0], &t_last));
    ck_assert_int_eq(t_finish(q, running, NQ_OUT_RETRY, 0, "x"), NQ_OK);
    ck_assert_int_eq(t_state(q, ids[0]), NQ_STATE_CANCELLED);
    ck_assert_int_eq(t_finish(q, running->next, NQ_OUT_DONE, 0, NULL), NQ_OK);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(8, 1));
    ck_assert_int_eq(c->task.id, ids[2]);
    T_OK(nq_retry(q, kept, &t_last));
    free(before);
    free(after);
    t_free_claimed(running);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(a_newer_schema_is_refused)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    t_sql("INSERT INTO nanoq_schema (version) VALUES (%d)", NQ_SCHEMA_VERSION + 1);
    T_FAILS(nq_migrate(q, &t_last), NQ_ESCHEMA);
    T_FAILS(nq_store_check(nq_store_of(q), &t_last), NQ_ESCHEMA);
    ck_assert_int_eq(t_sql("SELECT MAX(version) FROM nanoq_schema"), NQ_SCHEMA_VERSION + 1);
    nq_close(q);
}
END_TEST

START_TEST(a_migration_that_stopped_in_the_middle_is_finished_by_the_next)
{
    nq *q = t_open();
    T_OK(nq_migrate(q, &t_last));
    t_sql("DROP TABLE nanoq_finished");
    t_sql("DELETE FROM nanoq_schema");
    T_OK(nq_migrate(q, &t_last));
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
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
    T_OK(nq_member_join(&ma, nq_store_of(a), "a", &t_last));
    T_OK(nq_member_join(&mb, nq_store_of(b), "b", &t_last));
    T_OK(nq_member_watch(ma, NQ_SECONDS(30), &died, &t_last));
    ck_assert_uint_eq(died, 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM a_processors"), 1);
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
    rc = nq_migration_sql(&sql, t_url_with(migrate_bad_prefixes[_i]), &t_last);
    ck_assert_int_ne(rc, NQ_OK);
    ck_assert_ptr_null(sql);
}
END_TEST

START_TEST(the_longest_prefix_works)
{
    /* 47 bytes; the longest table name, with "processors", then stays under MySQL's 64. */
    nq *q = migrate_open(t_url_with("prefix=abcdefghijabcdefghijabcdefghijabcdefghijabcdef_"));
    T_OK(nq_migrate(q, &t_last));
    T_OK(nq_migrate(q, &t_last));
    T_ADD(q, .type = "t");
    t_free_claimed(t_claim_one(q, NQ_LEASE(1, 1)));
    nq_close(q);
}
END_TEST

START_TEST(the_printed_sql_makes_the_same_tables)
{
    char *sql = NULL;
    T_OK(nq_migration_sql(&sql, t_url, &t_last));
    ck_assert_ptr_nonnull(strstr(sql, "nanoq_tasks"));
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
    nq *q = t_open();
    T_OK(nq_store_check(nq_store_of(q), &t_last));
    T_ADD(q, .type = "t");
    t_free_claimed(t_claim_one(q, NQ_LEASE(1, 1)));
    T_OK(nq_migrate(q, &t_last));
    nq_close(q);
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
        T_OK(nq_member_join(&m, nq_store_of(a), "a", &t_last)); /* refuses nothing */
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
    TCase *c = t_case_empty(s, "migrate", 60);
    tcase_add_test(c, without_tables_every_call_says_so);
    tcase_add_test(c, migrating_again_changes_nothing);
    tcase_add_test(c, several_processes_at_once_all_succeed);
    tcase_add_test(c, version_1_becomes_the_present_one_and_nothing_is_lost);
    tcase_add_test(c, a_newer_schema_is_refused);
    tcase_add_test(c, a_migration_that_stopped_in_the_middle_is_finished_by_the_next);
    tcase_add_test(c, two_prefixes_live_in_one_database);
    tcase_add_loop_test(c, other_prefixes_are_refused, 0,
                        (int)(sizeof migrate_bad_prefixes / sizeof *migrate_bad_prefixes));
    tcase_add_test(c, the_longest_prefix_works);
    tcase_add_test(c, the_printed_sql_makes_the_same_tables);
    tcase_add_test(c, dropping_takes_all_of_ones_own_tables_and_no_others);
    tcase_add_test(c, a_drop_that_stopped_in_the_middle_is_finished_by_the_next);
    return s;
}
