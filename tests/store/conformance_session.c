/* SPDX-License-Identifier: MIT */
/* What a session of nanoq's on a server is like, whatever the server makes of others. */
#include "suites.h"

#include "../../src/store/mysql/mysql_driver.h"

static int session_value(const nq_val cols[], size_t ncols, void *arg)
{
    ck_assert_uint_eq(ncols, 2);
    snprintf(arg, 256, "%.*s", cols[1].type == NQ_VAL_NULL ? 0 : (int)cols[1].n, (const char *)cols[1].p);
    return 0;
}

/* Is the variable as it should be? One that this server does not have is. */
static void session_is(nq_conn *c, const char *name, const char *value)
{
    char sql[200], got[256] = "absent";
    snprintf(sql, sizeof sql, "SHOW SESSION VARIABLES LIKE '%s'", name);
    T_OK(nq_sql(c, sql, NULL, 0, session_value, got, NULL, &t_last));
    ck_assert_msg(strcmp(got, value) == 0 || strcmp(got, "absent") == 0, "%s is %s, not %s", name, got,
                  value);
}

static void session_check(nq_conn *c)
{
    static const char *const all[][2] = {
        {"autocommit", "ON"},
        {"character_set_client", "utf8mb4"},
        {"character_set_connection", "utf8mb4"},
        {"character_set_results", "utf8mb4"},
        {"check_constraint_checks", "ON"},
        {"collation_connection", "utf8mb4_general_ci"},
        {"completion_type", "NO_CHAIN"},
        {"default_regex_flags", ""},
        {"foreign_key_checks", "ON"},
        {"group_concat_max_len", "1048576"},
        {"idle_readonly_transaction_timeout", "0"},
        {"idle_write_transaction_timeout", "0"},
        {"in_predicate_conversion_threshold", "0"},
        {"innodb_lock_wait_timeout", "1"},
        {"innodb_snapshot_isolation", "OFF"},
        {"innodb_strict_mode", "ON"},
        {"lock_wait_timeout", "20"},
        {"max_execution_time", "0"},
        {"max_sort_length", "1024"},
        {"max_statement_time", "0.000000"},
        {"net_read_timeout", "60"},
        {"net_write_timeout", "60"},
        {"optimizer_max_sel_arg_weight", "32000"},
        {"optimizer_max_sel_args", "16000"},
        {"query_cache_type", "OFF"},
        {"range_optimizer_max_mem_size", "8388608"},
        {"sql_auto_is_null", "OFF"},
        {"sql_big_selects", "ON"},
        {"sql_buffer_result", "OFF"},
        {"sql_if_exists", "OFF"},
        {"sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"},
        {"sql_safe_updates", "OFF"},
        {"sql_select_limit", "18446744073709551615"},
        {"time_zone", "+00:00"},
        {"tmp_disk_table_size", "18446744073709551615"},
        {"transaction_isolation", "READ-COMMITTED"},
        {"transaction_read_only", "OFF"},
        {"tx_isolation", "READ-COMMITTED"},
        {"tx_read_only", "OFF"},
        {"unique_checks", "ON"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        session_is(c, all[i][0], all[i][1]);
}

START_TEST(a_session_depends_on_no_setting_of_the_servers)
{
    nq *q = t_open();
    nq_conn *c;
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    session_check(c);
    session_is(c, "wait_timeout", t_is_mariadb ? "604800" : "60");
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

/* Else a worker that is stopped for a while is taken for dead as soon as the server is out of patience. */
START_TEST(the_session_that_holds_a_workers_lock_lasts)
{
    nq *q = t_open();
    const nq_driver *d = nq_store_of(q)->driver;
    nq_conn *c;
    T_OK(d->connect(nq_store_of(q), &c, &t_last));
    T_OK(d->lock_hold(c, 1, &t_last));
    if (!t_is_cluster)
        session_is(c, "wait_timeout", "604800");
    d->disconnect(c);
    nq_close(q);
}
END_TEST

/* Without a privilege beyond the database's. */
START_TEST(an_ordinary_user_may_set_all_that_is_set)
{
    char user[64];
    nq *q = NULL;
    nq_conn *c;
    t_sql("CREATE USER 'ns_%d'@'%%' IDENTIFIED BY 's3cret'", (int)getpid());
    t_sql("GRANT ALL ON %s.* TO 'ns_%d'@'%%'", t_name, (int)getpid());
    snprintf(user, sizeof user, "ns_%d:s3cret", (int)getpid());
    T_OK(nq_open(&q, t_server_url(user, t_name), NULL, &t_last));
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    session_check(c);
    nq_pool_put(c);
    nq_close(q);
    t_sql("DROP USER 'ns_%d'@'%%'", (int)getpid());
}
END_TEST

/* "shop" and "Shop" are one database where the server folds names: one set of locks, one place for hints. */
START_TEST(two_spellings_are_one_database_where_the_server_folds_names)
{
    const bool folds = t_sql("SELECT @@lower_case_table_names") != 0;
    char url[600], name[sizeof t_name];
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = (char)(t_name[i] >= 'a' && t_name[i] <= 'z' ? t_name[i] - 'a' + 'A' : t_name[i]);
    nq *q = t_open(), *other = NULL;
    snprintf(url, sizeof url, "%s?prefix=NanoQ_", t_server_url(NULL, folds ? name : t_name));
    T_OK(nq_open(&other, url, NULL, &t_last));
    const nq_store *a = nq_store_of(q), *b = nq_store_of(other);
    const nq_mysql_data *da = nq_mysql_data_of(a), *db = nq_mysql_data_of(b);
    ck_assert_int_eq(strcmp(da->lock_name, db->lock_name) == 0, folds);
    ck_assert_str_eq(da->identity, db->identity);
    ck_assert_int_eq(strcmp(a->prefix, b->prefix) == 0, folds);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* The caller's session is the caller's: nothing is set there, and nothing there may bend what we add. */
START_TEST(the_callers_settings_bend_nothing)
{
    static const char umlaut[] = "\xc3\xa4", payload[] = "a\\'\"`\0b";
    const nq_task_spec tasks[] = {
        {.size = sizeof(nq_task_spec), .type = umlaut, .payload = payload, .payload_size = sizeof payload},
        {.size = sizeof(nq_task_spec), .type = "empty"},
        {.size = sizeof(nq_task_spec), .type = "twice"},
        {.size = sizeof(nq_task_spec), .type = "twice"},
    };
    nq *q = t_open();
    t_conn *c = t_connect();
    nq_id ids[4];
    int results[4];
    t_task t;
    t_run(c,
          "SET NAMES latin1, sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,"
          "PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION%s', sql_select_limit=1, max_join_size=1,"
          "sql_safe_updates=1, completion_type=1, autocommit=0, time_zone='+05:30', sql_buffer_result=1",
          t_is_mariadb ? ",ORACLE,EMPTY_STRING_IS_NULL" : "");
    const int64_t before = t_now(q);
    T_OK(nq_enqueue_many(q, t_tx(c), tasks, 4, ids, results, &t_last));
    t_run(c, "COMMIT");
    ck_assert_int_eq(results[3], NQ_DUPLICATE);
    ck_assert_int_eq(ids[3], ids[2]);
    ck_assert_int_eq(t_get(q, ids[0], &t), NQ_OK);
    ck_assert_str_eq(t.type, umlaut);
    ck_assert_uint_eq(t.info.payload_size, sizeof payload);
    ck_assert_mem_eq(t.payload, payload, sizeof payload);
    ck_assert_int_ge(t.info.run_at_us, before);
    ck_assert_int_le(t.info.run_at_us, before + NQ_SECONDS(60));
    t_task_free(&t);
    ck_assert_int_eq(t_get(q, ids[1], &t), NQ_OK);
    ck_assert_uint_eq(t.info.payload_size, 0);
    t_task_free(&t);
    /* An empty value by itself: of several rows the server makes "" of a NULL. */
    T_OK(nq_enqueue(q, t_tx(c), NQ_TASK(.type = "alone"), &ids[0], &t_last));
    t_run(c, "COMMIT");
    ck_assert_int_eq(t_get(q, ids[0], &t), NQ_OK);
    ck_assert_uint_eq(t.info.payload_size, 0);
    t_task_free(&t);
    ck_assert_uint_eq(t_count(q, NQ_STATE_WAITING), 4);
    /* Declared again in whatever session, a schedule comes when it would have come. */
    const nq_task_spec task = {.size = sizeof task, .type = "t"};
    const nq_schedule every = {.size = sizeof every, .name = "s", .spec = "@every 1h", .task = &task};
    T_OK(nq_schedule_set(q, t_tx(c), &every, &t_last));
    t_run(c, "COMMIT");
    const int64_t next =
        t_sql("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', next_at) FROM nanoq_schedules");
    static const char *const names[] = {"SET NAMES binary", "SET character_set_results = utf16"};
    for (size_t i = 0; i < 2; i++) {
        t_run(c, "%s", names[i]);
        T_OK(nq_schedule_set(q, t_tx(c), &every, &t_last));
        t_run(c, "COMMIT");
    }
    ck_assert_int_eq(t_sql("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', next_at) FROM nanoq_schedules"),
                     next);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

static int session_number(const nq_val cols[], size_t ncols, void *arg)
{
    ck_assert_uint_eq(ncols, 1);
    *(int64_t *)arg = cols[0].i;
    return 0;
}

/* As a deadlock that is met while rows are on their way, and tried again at once. */
START_TEST(a_statement_whose_rows_ended_in_an_error_runs_again)
{
    nq *q = t_open();
    nq_conn *c;
    T_ADD(q, .type = "a");
    T_ADD(q, .type = "b");
    T_ADD(q, .type = "c");
    const nq_val bad = nq_int(t_sql("SELECT MAX(id) FROM nanoq_tasks")), none = nq_int(0);
    int64_t last = 0;
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    const int64_t start = t_mono();
    for (int i = 0; i < 3; i++) {
        static const char sql[] = "SELECT IF(id = ?, (SELECT id FROM {tasks}), id) FROM {tasks} ORDER BY id";
        T_FAILS(nq_sql(c, sql, &bad, 1, session_number, &last, NULL, &t_last), NQ_EDB);
        T_OK(nq_sql(c, sql, &none, 1, session_number, &last, NULL, &t_last));
        ck_assert_int_eq(last, bad.i);
    }
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(5) * T_SLOW_FACTOR);
    ck_assert(!c->broken);
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

Suite *suite_session(void)
{
    Suite *s = suite_create("session");
    if (!T_MYSQL)
        return s;
    TCase *tc = t_case(s, "session", 20);
    tcase_add_test(tc, a_session_depends_on_no_setting_of_the_servers);
    tcase_add_test(tc, the_session_that_holds_a_workers_lock_lasts);
    tcase_add_test(tc, an_ordinary_user_may_set_all_that_is_set);
    tcase_add_test(tc, two_spellings_are_one_database_where_the_server_folds_names);
    tcase_add_test(tc, the_callers_settings_bend_nothing);
    tcase_add_test(tc, a_statement_whose_rows_ended_in_an_error_runs_again);
    return s;
}
