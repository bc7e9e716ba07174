/* SPDX-License-Identifier: MIT */
/* The checks of nanoq doctor: each finds its fault, planted by plain SQL or, where a server's own settings or
 * hours would be needed, by what the store is told to take for them. */
#include <sys/stat.h>

#include "doctor.h"

nq_check doctor_all[NQ_CHECKS + 1];
char doctor_texts[NQ_CHECKS + 1][NQ_MAX_FOUND];

int doctor_note(const nq_check *c, void *udata)
{
    (void)udata;
    ck_assert(c->number >= 1 && c->number <= NQ_CHECKS);
    ck_assert(c->name[0] && c->found[0]);
    ck_assert(c->todo[0] || (c->level != NQ_CHECK_WARNING && c->level != NQ_CHECK_ERROR));
    doctor_all[c->number] = *c;
    snprintf(doctor_texts[c->number], NQ_MAX_FOUND, "%s", c->found);
    return 0;
}

/* Of a check: the level, with what it said in a failure's message. */
int doctor_level(nq *q, unsigned number)
{
    T_OK(nq_doctor(q, doctor_note, NULL, &t_last));
    return doctor_all[number].level;
}

/* The same, with some values in place of the database's. */
static void doctor_pretend(nq *q, const char *const pretend[], unsigned number, int expected)
{
    nq_checks k = {.pretend = pretend};
    T_OK(nq_store_checks(nq_store_of(q), &k, &t_last));
    const nq_found *f = &k.found[number - 1];
    ck_assert_msg(f->level == expected, "check %u: %s, not %s: %s", number, nq_check_level_name(f->level),
                  nq_check_level_name(expected), f->text);
    snprintf(doctor_texts[number], NQ_MAX_FOUND, "%s", f->text);
    nq_checks_free(&k);
}
#define DOCTOR_PRETEND(q, number, expected, ...)                                                             \
    doctor_pretend(q, (const char *const[]){__VA_ARGS__, NULL}, number, expected)

START_TEST(a_fresh_database_has_no_fault)
{
    nq *q = t_open();
    T_OK(nq_doctor(q, doctor_note, NULL, &t_last));
    for (unsigned i = 1; i <= NQ_CHECKS; i++) {
        /* the machine's own: its SQLite, and the quick settings of the tests' server */
        if (i == 3 || i == 5 || i == 8 || i == 12)
            continue;
        ck_assert_msg(doctor_all[i].level == NQ_CHECK_OK || doctor_all[i].level == NQ_CHECK_NOT_APPLICABLE ||
                          (i == 9 && t_is_galera),
                      "check %u: %s: %s", i, nq_check_level_name(doctor_all[i].level), doctor_texts[i]);
    }
    ck_assert_ptr_null(nq_check_level_name(-1));
    ck_assert_ptr_null(nq_check_level_name(5));
    T_FAILS(nq_doctor(q, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(without_tables_it_says_so)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, NULL, &t_last));
    DOCTOR_IS(q, 1, NQ_CHECK_ERROR);
    DOCTOR_SAYS(1, "there are no tables nanoq_*");
    ck_assert_int_eq(doctor_all[18].level, NQ_CHECK_UNKNOWN);
    ck_assert_int_eq(doctor_all[16].level, NQ_CHECK_UNKNOWN);
    nq_close(q);
}
END_TEST

START_TEST(tables_of_another_version)
{
    nq *q = t_open();
    t_sql("DELETE FROM nanoq_schema WHERE version = %d", NQ_SCHEMA_VERSION);
    DOCTOR_IS(q, 1, NQ_CHECK_ERROR);
    t_sql("INSERT INTO nanoq_schema (version, compatible_from) VALUES (%d, 4)", NQ_SCHEMA_VERSION + 1);
    DOCTOR_IS(q, 1, NQ_CHECK_WARNING);
    nq_close(q);
}
END_TEST

START_TEST(a_claim_without_its_index)
{
    nq *q = t_open();
    t_sql(T_MYSQL ? "ALTER TABLE nanoq_tasks DROP KEY claim" : "DROP INDEX nanoq_tasks_claim");
    DOCTOR_IS(q, 2, NQ_CHECK_ERROR);
    t_sql(T_MYSQL ? "ALTER TABLE nanoq_tasks ADD KEY claim (queue, state, run_at)"
                  : "CREATE INDEX nanoq_tasks_claim ON nanoq_tasks (queue, state, run_at, priority, id)");
    t_sql(T_MYSQL ? "ALTER TABLE nanoq_tasks DROP KEY claim, ADD KEY claim (queue, state)"
                  : "DROP INDEX nanoq_tasks_claim");
    DOCTOR_IS(q, 2, NQ_CHECK_ERROR);
    DOCTOR_SAYS(2, T_MYSQL ? "sorts" : "index");
    nq_close(q);
}
END_TEST

START_TEST(versions_with_faults)
{
    nq *q = t_open();
    if (T_SQLITE) {
        DOCTOR_PRETEND(q, 3, NQ_CHECK_WARNING, "sqlite_version", "3051002");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_WARNING, "sqlite_version", "3044005");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_OK, "sqlite_version", "3051003");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_OK, "sqlite_version", "3050007");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_OK, "sqlite_version", "3044006");
    } else if (t_is_mariadb) {
        DOCTOR_PRETEND(q, 3, NQ_CHECK_ERROR, "version", "5.5.5-10.6.9-MariaDB");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_OK, "version", "10.6.10-MariaDB");
    }
    if (T_MYSQL) {
        DOCTOR_PRETEND(q, 3, NQ_CHECK_ERROR, "version", "8.0.29", "nanoq kind", "MySQL");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_WARNING, "version", "8.4.1", "nanoq kind", "MySQL");
        DOCTOR_PRETEND(q, 3, NQ_CHECK_OK, "version", "8.4.2", "nanoq kind", "MySQL");
    }
    nq_close(q);
}
END_TEST

START_TEST(a_clock_that_differs)
{
    nq *q = t_open();
    T_OK(nq_test_clock(q, nq_real_us() - NQ_MINUTES(5), &t_last));
    DOCTOR_IS(q, 4, T_SQLITE ? NQ_CHECK_NOT_APPLICABLE : NQ_CHECK_WARNING);
    if (T_MYSQL)
        DOCTOR_SAYS(4, "ahead of");
    nq_close(q);
}
END_TEST

START_TEST(commits_that_may_be_lost)
{
    nq *q = t_open();
    if (T_SQLITE) {
        DOCTOR_IS(q, 5, NQ_CHECK_OK);
        nq *other = NULL;
        T_OK(nq_open(&other, t_url_with("synchronous=normal"), NULL, &t_last));
        DOCTOR_IS(other, 5, NQ_CHECK_WARNING);
        nq_close(other);
    } else {
        DOCTOR_PRETEND(q, 5, NQ_CHECK_OK, "innodb_flush_log_at_trx_commit", "1", "log_bin", "ON",
                       "sync_binlog", "1", "innodb_doublewrite", "ON");
        DOCTOR_PRETEND(q, 5, NQ_CHECK_WARNING, "innodb_flush_log_at_trx_commit", "2");
        DOCTOR_PRETEND(q, 5, NQ_CHECK_OK, "innodb_flush_log_at_trx_commit", "3", "log_bin", "OFF",
                       "innodb_doublewrite", "ON");
        DOCTOR_PRETEND(q, 5, NQ_CHECK_WARNING, "innodb_flush_log_at_trx_commit", "1", "log_bin", "ON",
                       "sync_binlog", "0");
        DOCTOR_SAYS(5, "sync_binlog is 0");
        DOCTOR_PRETEND(q, 6, NQ_CHECK_ERROR, "log_bin", "ON", "binlog_format", "STATEMENT");
        DOCTOR_PRETEND(q, 6, NQ_CHECK_OK, "log_bin", "OFF", "binlog_format", "STATEMENT");
    }
    nq_close(q);
}
END_TEST

START_TEST(files_of_sqlite)
{
    nq *q = t_open();
    DOCTOR_PRETEND(q, 6, NQ_CHECK_WARNING, "journal_mode", "delete");
    DOCTOR_PRETEND(q, 8, NQ_CHECK_ERROR, "file_system", "NFS");
    DOCTOR_PRETEND(q, 8, NQ_CHECK_OK, "file_system", "ext4", "room", "10000000000");
    DOCTOR_PRETEND(q, 8, NQ_CHECK_ERROR, "file_system", "ext4", "room", "1000");
    T_ADD(q, .type = "a");
    DOCTOR_PRETEND(q, 10, NQ_CHECK_WARNING, "nanoq wal", "1");
    nq_close(q);
}
END_TEST

/* Zeros over a page of the table: what is read of it is none. With time to read it all, on a busy machine
 * too. */
START_TEST(a_file_that_is_damaged)
{
    nq *q = t_open();
    for (int i = 0; i < 200; i++)
        t_sql("INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('a', zeroblob(500), NULL)");
    t_sql("PRAGMA wal_checkpoint(TRUNCATE)");
    const int64_t page =
        t_sql("SELECT pageno FROM (SELECT rootpage AS pageno FROM sqlite_master WHERE name = "
              "'nanoq_tasks_claim')");
    DOCTOR_PRETEND(q, 7, NQ_CHECK_OK, "nanoq integrity", "60000000");
    t_sql("CREATE TABLE app (x INTEGER CHECK (x > 0))"); /* a row that breaks its CHECK is no damage */
    t_conn *other = t_connect();
    t_run(other, "PRAGMA ignore_check_constraints = 1");
    t_run(other, "INSERT INTO app VALUES (-1)");
    t_disconnect(other);
    DOCTOR_PRETEND(q, 7, NQ_CHECK_OK, "nanoq integrity", "60000000");
    t_sql("PRAGMA wal_checkpoint(TRUNCATE)");
    nq_close(q);
    FILE *file = fopen(strchr(t_url, ':') + 1, "r+b");
    ck_assert_ptr_nonnull(file);
    static const char zeros[4096] = {(char)0xff};
    fseek(file, (long)(page - 1) * 4096, SEEK_SET);
    fwrite(zeros, 1, sizeof zeros, file);
    fclose(file);
    q = NULL;
    T_OK(nq_open(&q, t_url, NULL, &t_last));
    DOCTOR_PRETEND(q, 7, NQ_CHECK_ERROR, "nanoq integrity", "60000000");
    DOCTOR_SAYS(7, "damaged");
    nq_close(q);
}
END_TEST

/* One that takes long is stopped, and says so. */
START_TEST(a_look_at_the_file_ends)
{
    nq *q = t_open();
    bool stopped = false;
    /* Until reading it takes longer than whoever stops it needs to start, on a machine that is busy too. */
    for (int rows = 3000; !stopped && rows < 1000000; rows *= 2) {
        t_sql("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO "
              "nanoq_tasks "
              "(type, payload, unique_key) SELECT 'a', zeroblob(100), NULL FROM n",
              rows);
        DOCTOR_PRETEND(q, 7, NQ_CHECK_OK, "nanoq integrity", "0");
        stopped = strstr(doctor_texts[7], "what could be read");
    }
    ck_assert_msg(stopped, "%s", doctor_texts[7]);
    DOCTOR_PRETEND(q, 7, NQ_CHECK_OK, "nanoq integrity", "60000000");
    DOCTOR_SAYS(7, "found no fault");
    nq_close(q);
}
END_TEST

START_TEST(a_cluster_that_is_ill)
{
    nq *q = t_open();
    DOCTOR_PRETEND(q, 9, NQ_CHECK_OK, "wsrep_on", "ON", "wsrep_cluster_status", "Primary", "wsrep_ready",
                   "ON", "wsrep_local_state_comment", "Synced", "wsrep_cluster_size", "3",
                   "innodb_autoinc_lock_mode", "2");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, "wsrep_on", "ON", "wsrep_cluster_status", "non-Primary",
                   "wsrep_ready", "OFF");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_WARNING, "wsrep_on", "ON", "wsrep_cluster_status", "Primary", "wsrep_ready",
                   "ON", "wsrep_local_state_comment", "Donor/Desynced", "wsrep_cluster_size", "3",
                   "innodb_autoinc_lock_mode", "2");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_WARNING, "wsrep_on", "ON", "wsrep_cluster_status", "Primary", "wsrep_ready",
                   "ON", "wsrep_local_state_comment", "Synced", "wsrep_cluster_size", "2",
                   "innodb_autoinc_lock_mode", "2");
    nq_close(q);
}
END_TEST

#define GROUP_OF(single, state, role, members, reachable)                                                    \
    "wsrep_on", "OFF", "group_replication_group_name", "6e616e6f-7100-4000-8000-000000000001",               \
        "group_replication_single_primary_mode", single, "nanoq member", state, "nanoq role", role,          \
        "nanoq members", members, "nanoq reachable", reachable

START_TEST(a_group_that_is_ill)
{
    nq *q = t_open();
    DOCTOR_PRETEND(q, 9, NQ_CHECK_OK, GROUP_OF("ON", "ONLINE", "PRIMARY", "3", "3"));
    DOCTOR_SAYS(9, "the primary of a group of 3");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_OK, GROUP_OF("OFF", "ONLINE", "PRIMARY", "3", "3"));
    DOCTOR_SAYS(9, "one of 3 primaries");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, GROUP_OF("ON", "ONLINE", "SECONDARY", "3", "3"));
    DOCTOR_SAYS(9, "a secondary");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_WARNING, GROUP_OF("OFF", "RECOVERING", "PRIMARY", "3", "3"));
    DOCTOR_PRETEND(q, 9, NQ_CHECK_WARNING, GROUP_OF("ON", "ONLINE", "PRIMARY", "3", "2"));
    DOCTOR_SAYS(9, "of 3 members 2 can be reached");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, GROUP_OF("ON", "ONLINE", "PRIMARY", "3", "1"));
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, GROUP_OF("ON", "ONLINE", "PRIMARY", "2", "1"));
    DOCTOR_PRETEND(q, 9, NQ_CHECK_WARNING, GROUP_OF("ON", "ONLINE", "PRIMARY", "2", "2"));
    DOCTOR_SAYS(9, "has 2 members");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, GROUP_OF("ON", "ERROR", "", "1", "0"));
    DOCTOR_SAYS(9, "is ERROR there");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_ERROR, GROUP_OF("ON", "", "", "1", "0"));
    DOCTOR_SAYS(9, "is OFFLINE there");
    DOCTOR_PRETEND(q, 9, NQ_CHECK_UNKNOWN, GROUP_OF("ON", "", "", "0", ""));
    nq_close(q);
}
END_TEST

START_TEST(old_transactions_and_connections)
{
    nq *q = t_open();
    DOCTOR_PRETEND(q, 10, NQ_CHECK_WARNING, "Innodb_history_list_length", "5000000");
    DOCTOR_PRETEND(q, 10, NQ_CHECK_OK, "Innodb_history_list_length", "50");
    DOCTOR_PRETEND(q, 12, NQ_CHECK_WARNING, "wait_timeout", "604800", "max_connections", "500");
    DOCTOR_PRETEND(q, 12, NQ_CHECK_WARNING, "wait_timeout", "5", "max_connections", "500");
    DOCTOR_PRETEND(q, 12, NQ_CHECK_WARNING, "Threads_connected", "95", "max_connections", "100");
    DOCTOR_PRETEND(q, 12, NQ_CHECK_OK, "Threads_connected", "9", "max_connections", "100", "wait_timeout",
                   "28800");
    t_conn *other = t_connect();
    T_ADD(q, .type = "a");
    t_begin(other);
    t_run(other, "UPDATE nanoq_tasks SET type = 'b'");
    DOCTOR_IS(q, 11, NQ_CHECK_OK);
    /* The server tells the same for as long as somebody asks more often than every 100 ms. */
    for (int64_t until = t_mono() + NQ_SECONDS(10) * T_SLOW_FACTOR;;) {
        const char *const pretend[] = {"nanoq transaction", "0", NULL};
        nq_checks k = {.pretend = pretend};
        T_OK(nq_store_checks(nq_store_of(q), &k, &t_last));
        const bool found = k.found[10].level == NQ_CHECK_WARNING;
        snprintf(doctor_texts[11], NQ_MAX_FOUND, "%s", k.found[10].text);
        nq_checks_free(&k);
        if (found)
            break;
        ck_assert_msg(t_mono() < until, "%s", doctor_texts[11]);
        t_pause_ms(150);
    }
    DOCTOR_SAYS(11, "rows locked");
    t_run(other, "ROLLBACK");
    t_disconnect(other);
    nq_close(q);
}
END_TEST

/* An account that may only read, without PROCESS: what it cannot see is said, and what it may not do is a
 * fault. */
START_TEST(an_account_that_may_only_read)
{
    nq *q = NULL;
    t_sql("CREATE USER IF NOT EXISTS nanoq_reader@'%%' IDENTIFIED BY 'r'");
    t_sql("GRANT SELECT ON `%s`.* TO nanoq_reader@'%%'", t_name);
    nq_options options = {.size = sizeof options, .password = "r"};
    T_OK(nq_open(&q, t_server_url("nanoq_reader", t_name), &options, &t_last));
    DOCTOR_IS(q, 13, NQ_CHECK_ERROR);
    DOCTOR_SAYS(13, "PROCESS");
    DOCTOR_SAYS(13, "CREATE, ALTER");
    ck_assert_int_eq(doctor_all[11].level, NQ_CHECK_UNKNOWN);
    nq_close(q);
    t_sql("GRANT INSERT, UPDATE, DELETE ON `%s`.* TO nanoq_reader@'%%'", t_name);
    T_OK(nq_open(&q, t_server_url("nanoq_reader", t_name), &options, &t_last));
    DOCTOR_IS(q, 13, NQ_CHECK_OK);
    nq_close(q);
    t_sql("DROP USER nanoq_reader@'%%'");
}
END_TEST

static int doctor_query_only(nq_conn *c, void *arg, nq_err *err)
{
    return nq_sql(c, arg, NULL, 0, NULL, NULL, NULL, err);
}

START_TEST(a_file_that_cannot_be_written)
{
    nq *q = t_open();
    DOCTOR_IS(q, 13, NQ_CHECK_OK);
    char on[] = "PRAGMA query_only = ON";
    T_OK(nq_store_do(nq_store_of(q), doctor_query_only, on, &t_last));
    DOCTOR_IS(q, 13, NQ_CHECK_ERROR);
    nq_close(q);
}
END_TEST

/* Whoever writes is not waited for. */
START_TEST(a_file_that_is_being_written)
{
    nq *q = t_open();
    t_conn *other = t_connect();
    t_run(other, "BEGIN IMMEDIATE");
    const int64_t from = t_mono();
    DOCTOR_IS(q, 13, NQ_CHECK_OK);
    DOCTOR_SAYS(13, "another program is writing");
    ck_assert_int_lt(t_mono() - from, NQ_SECONDS(2) * T_SLOW_FACTOR);
    t_run(other, "ROLLBACK");
    DOCTOR_IS(q, 13, NQ_CHECK_OK);
    DOCTOR_SAYS(13, "may read, add");
    t_disconnect(other);
    nq_close(q);
}
END_TEST

START_TEST(a_lock_file_that_no_worker_can_open)
{
    nq *q = t_open();
    char path[300];
    snprintf(path, sizeof path, "%s-nanoq-lock", nq_store_of(q)->url.path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    DOCTOR_IS(q, 13, NQ_CHECK_ERROR);
    DOCTOR_SAYS(13, "-nanoq-lock");
    nq_close(q);
}
END_TEST

/* 30,000 groups of a queue, all that runs; and no more time for a walk than for a part of them. */
static nq *doctor_groups(char walk[24])
{
    nq *q = t_open();
    snprintf(walk, 24, "%lld", (long long)NQ_MS(250) * T_SLOW_FACTOR);
    t_sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) INSERT INTO "
        "nanoq_tasks (queue, type, unique_key, state, lease, generation) SELECT 'a//' || i, 'a', NULL, 1, 7, "
        "1 FROM n");
    T_ADD(q, .type = "a", .queue = "zebra");
    return q;
}

START_TEST(groups_are_jumped_over)
{
    char walk[24];
    nq *q = doctor_groups(walk);
    DOCTOR_PRETEND(q, 16, NQ_CHECK_ERROR, "nanoq walk", walk);
    DOCTOR_SAYS(16, "zebra");
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0 WHERE queue < 'b'");
    T_ADD(q, .type = "b", .queue = "a");
    T_ADD(q, .type = "c", .queue = "a-x"); /* comes between a queue and its groups */
    T_OK(nq_pause(q, "a", NULL, &t_last));
    T_OK(nq_pause(q, "a-x", NULL, &t_last));
    DOCTOR_PRETEND(q, 16, NQ_CHECK_ERROR, "nanoq walk", walk);
    DOCTOR_SAYS(16, "zebra");
    nq_close(q);
}
END_TEST

/* A name behind that to which groups are jumped over: the walk went back to it until its time was up. */
START_TEST(groups_are_jumped_over_forwards)
{
    char walk[24];
    nq *q = doctor_groups(walk);
    t_sql("PRAGMA ignore_check_constraints = ON");
    t_sql("INSERT INTO nanoq_tasks (queue, type, unique_key) VALUES ('a//' || char(233), 'a', NULL)");
    T_OK(nq_pause(q, "a", NULL, &t_last));
    DOCTOR_PRETEND(q, 16, NQ_CHECK_ERROR, "nanoq walk", walk);
    DOCTOR_SAYS(16, "zebra");
    nq_close(q);
}
END_TEST

Suite *suite_doctor(void)
{
    Suite *s = suite_create("doctor");
    TCase *c = t_case(s, "doctor", 30), *empty = t_case_empty(s, "doctor_empty", 30);
    tcase_add_test(empty, without_tables_it_says_so);
    tcase_add_test(c, a_fresh_database_has_no_fault);
    tcase_add_test(c, tables_of_another_version);
    tcase_add_test(c, a_claim_without_its_index);
    tcase_add_test(c, versions_with_faults);
    tcase_add_test(c, a_clock_that_differs);
    tcase_add_test(c, commits_that_may_be_lost);
    if (T_SQLITE) {
        tcase_add_test(c, files_of_sqlite);
        tcase_add_test(c, a_file_that_is_damaged);
        tcase_add_test(c, a_look_at_the_file_ends);
        tcase_add_test(c, a_file_that_cannot_be_written);
        tcase_add_test(c, a_file_that_is_being_written);
        tcase_add_test(c, a_lock_file_that_no_worker_can_open);
        tcase_add_test(c, groups_are_jumped_over);
        tcase_add_test(c, groups_are_jumped_over_forwards);
    } else {
        tcase_add_test(c, a_cluster_that_is_ill);
        tcase_add_test(c, a_group_that_is_ill);
        tcase_add_test(c, old_transactions_and_connections);
        tcase_add_test(c, an_account_that_may_only_read);
    }
    return s;
}
