/* SPDX-License-Identifier: MIT */
/* Plain SQL from the stock clients: the same defaults, the same unique key, and nonsense refused. */
#include "suites.h"

#include <sys/wait.h>
#include <time.h>

/* Feed a script to `mariadb` or `sqlite3`; its exit status. */
static int plainsql_client(const char *script)
{
    char path[300], command[2048];
    snprintf(path, sizeof path, "%s/script.sql", t_dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(script, f), 0);
    ck_assert_int_eq(fclose(f), 0);
    if (T_MYSQL)
        snprintf(command, sizeof command,
                 "mariadb --default-character-set=utf8mb4 -h 127.0.0.1 -P %u -u root %s <%s >%s.out 2>%s.err",
                 t_server_port(), t_name, path, path, path);
    else
        snprintf(command, sizeof command, "sqlite3 -bail -cmd '.timeout 5000' %s <%s >%s.out 2>%s.err",
                 t_url + 7, path, path, path);
    int status = system(command);
    ck_assert(WIFEXITED(status));
    ck_assert_int_ne(WEXITSTATUS(status), 127);
    return WEXITSTATUS(status);
}

START_TEST(a_plain_insert_gets_the_same_defaults)
{
    ck_assert_int_eq(
        plainsql_client("INSERT INTO nanoq_tasks (type, payload) VALUES ('email', '{\"to\":1}');"), 0);
    nq *q = t_open();
    int64_t before = t_now(q);
    nq_id ours = T_ADD(q, .type = "email", NQ_BYTES("{\"to\":2}"));
    nq_id theirs = t_sql("SELECT MIN(id) FROM nanoq_tasks");
    t_task a, b;
    ck_assert_int_eq(t_get(q, theirs, &a), NQ_OK);
    ck_assert_int_eq(t_get(q, ours, &b), NQ_OK);
    ck_assert_str_eq(a.queue, b.queue);
    ck_assert_int_eq(a.info.state, b.info.state);
    ck_assert_int_eq(a.info.priority, b.info.priority);
    ck_assert_uint_eq(a.info.attempts, b.info.attempts);
    ck_assert_uint_eq(a.info.crashes, b.info.crashes);
    ck_assert_uint_eq(a.info.max_retries, b.info.max_retries);
    ck_assert_uint_eq(a.info.generation, b.info.generation);
    ck_assert_int_eq(a.info.timeout_us, b.info.timeout_us);
    ck_assert_int_eq(a.info.claimed_at_us, 0);
    ck_assert_str_eq(a.error, "");
    ck_assert_str_eq((char *)a.payload, "{\"to\":1}");
    ck_assert_int_ge(a.info.run_at_us, before - NQ_SECONDS(20));
    ck_assert_int_le(a.info.run_at_us, before);
    ck_assert_int_ge(a.info.created_at_us, before - NQ_SECONDS(20));
    ck_assert_int_le(a.info.created_at_us, before);
    t_task_free(&a);
    t_task_free(&b);
    /* Every column that is neither id, payload, key nor a time is equal, row by row. */
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM (SELECT DISTINCT queue, state, priority, lease, generation, attempts, "
              "crashes, max_retries, timeout_ms, claimed_at, type, error FROM nanoq_tasks) AS d"),
        1);
    size_t n = 0;
    nq_claimed *list = t_claim(q, NQ_LEASE(1, 1), 10, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(list->task.id, theirs);
    ck_assert_int_eq(t_finish(q, list, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(list);
    nq_close(q);
}
END_TEST

struct plainsql_key {
    const char *type, *payload, *type_sql, *payload_sql;
};
static const struct plainsql_key plainsql_keys[] = {
    {"email", "{\"to\":1}", "'email'", "'{\"to\":1}'"},
    {"gr\xc3\xb6\xc3\x9f"
     "e/\xcf\x80",
     "p\xc3\xa4yload",
     "'gr\xc3\xb6\xc3\x9f"
     "e/\xcf\x80'",
     "'p\xc3\xa4yload'"},
    {"\xf0\x9f\x90\x98", "\xf0\x9f\x92\xa9", "'\xf0\x9f\x90\x98'", "'\xf0\x9f\x92\xa9'"},
    {"it's", "a 'quoted' \"one\"", "'it''s'", "'a ''quoted'' \"one\"'"},
    {"num", "1", "'num'", "'1'"},
    {"empty", "", "'empty'", "''"},
    {"Case", "Case ", "'Case'", "'Case '"},
    {"bytes", "\xff\x01", "'bytes'", "X'ff01'"},
};

START_TEST(the_unique_key_is_the_same_both_ways)
{
    const struct plainsql_key *k = &plainsql_keys[_i];
    char script[512];
    nq_task_spec spec = *NQ_TASK(.type = k->type, .payload = k->payload, .payload_size = strlen(k->payload));
    snprintf(script, sizeof script, "INSERT INTO nanoq_tasks (type, payload) VALUES (%s, %s);", k->type_sql,
             k->payload_sql);
    nq *q = t_open();
    nq_id id = 0;
    ck_assert_int_eq(plainsql_client(script), 0);
    nq_id live = t_sql("SELECT id FROM nanoq_tasks");
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, &spec, &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, live);
    t_task t;
    ck_assert_int_eq(t_get(q, live, &t), NQ_OK);
    ck_assert_str_eq(t.type, k->type);
    ck_assert_uint_eq(t.info.payload_size, strlen(k->payload));
    ck_assert_str_eq((char *)t.payload, k->payload);
    t_task_free(&t);
    T_OK(nq_delete(q, live, &t_last));
    t_add(q, &spec);
    ck_assert_int_ne(plainsql_client(script), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    nq_close(q);
}
END_TEST

START_TEST(a_null_key_is_not_unique)
{
    ck_assert_int_eq(
        plainsql_client("INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', 'p', NULL);\n"
                        "INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', 'p', NULL);\n"
                        "INSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'p');\n"),
        0);
    nq *q = t_open();
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("p")), NULL, &t_last), NQ_DUPLICATE);
    T_ADD(q, .type = "t", NQ_BYTES("p"), .unique = NQ_UNIQUE_NONE);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 4);
    nq_close(q);
}
END_TEST

START_TEST(a_key_of_the_callers_data_is_the_same_in_sql)
{
    const char *insert =
        T_MYSQL ? "INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', 'a', "
                  "UNHEX(SHA2(CONCAT('t', CHAR(0), 'order-7'), 256)));"
                : "INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', 'a', 'order-7');";
    nq *q = t_open();
    nq_id live = T_ADD(q, .type = "t", NQ_BYTES("b"), .unique = NQ_UNIQUE_DATA, .unique_data = "order-7",
                       .unique_size = 7);
    ck_assert_int_ne(plainsql_client(insert), 0);
    T_OK(nq_delete(q, live, &t_last));
    ck_assert_int_eq(plainsql_client(insert), 0);
    nq_id id = 0;
    T_ANSWERS(
        nq_enqueue(q, NQ_OWN_TX,
                   NQ_TASK(.type = "t", .unique = NQ_UNIQUE_DATA, .unique_data = "order-7", .unique_size = 7),
                   &id, &t_last),
        NQ_DUPLICATE);
    ck_assert_int_eq(id, t_sql("SELECT id FROM nanoq_tasks"));
    nq_close(q);
}
END_TEST

START_TEST(a_transaction_of_plain_sql_rolls_back)
{
    ck_assert_int_eq(
        plainsql_client("BEGIN;\nINSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'p');\nROLLBACK;\n"
                        "BEGIN;\nINSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'q');\nCOMMIT;\n"),
        0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
}
END_TEST

static const char *const plainsql_nonsense[] = {
    "(type) VALUES (NULL)",
    "(type, payload) VALUES ('t', NULL)",
    "(type, payload, state) VALUES ('t', 'p', 2)",
    "(type, payload, state) VALUES ('t', 'p', -1)",
    "(type, payload, priority) VALUES ('t', 'p', 101)",
    "(type, payload, priority) VALUES ('t', 'p', -101)",
    "(type, payload, max_retries) VALUES ('t', 'p', -1)",
    "(type, payload, max_retries) VALUES ('t', 'p', 1001)",
    "(type, payload, timeout_ms) VALUES ('t', 'p', 999)",
    "(type, payload, timeout_ms) VALUES ('t', 'p', -5)",
    "(type, payload) VALUES ('', 'p')",
    "(type, payload, queue) VALUES ('t', 'p', '')",
    "(type, payload, queue) VALUES ('t', 'p', 'a b')",
    "(type, payload, queue) VALUES ('t', 'p', NULL)",
    "(type, payload, run_at) VALUES ('t', 'p', 'tomorrow')",
    "(type, payload, run_at) VALUES ('t', 'p', NULL)",
    "(type, payload, lease) VALUES ('t', 'p', 18446744073709551615)",
    "(type, payload, generation) VALUES ('t', 'p', 4294967295)",
    "(type, payload, attempts) VALUES ('t', 'p', 65535)",
    "(type, payload, crashes) VALUES ('t', 'p', 65535)",
    "(type, payload, claimed_at) VALUES ('t', 'p', NULL)",
    "(type, payload, run_at) VALUES ('t', 'p', -1)",
    "(type, payload, created_at) VALUES ('t', 'p', -1)",
};

/* SQLite has no types of columns that would refuse these. */
static const char *const plainsql_nonsense_sqlite[] = {
    "(type, payload, run_at) VALUES ('t', 'p', 1800000000)",    /* seconds */
    "(type, payload, run_at) VALUES ('t', 'p', 1800000000000)", /* milliseconds */
    "(type, payload, run_at) VALUES ('t', 'p', 9e18)",
    "(type, payload, queue) VALUES ('t', 'p', 'mail' || char(0))",
    "(type, payload, generation) VALUES ('t', 'p', 'x')",
    "(type, payload, lease) VALUES ('t', 'p', -1)",
    "(id, type, payload) VALUES (9223372036854775807, 't', 'p')",
    "(id, type, payload) VALUES (-1, 't', 'p')",
};

START_TEST(nonsense_is_refused)
{
    int rc = t_try(t_side(), "INSERT INTO nanoq_tasks %s", plainsql_nonsense[_i]);
    ck_assert_msg(rc != 0, "accepted: %s", plainsql_nonsense[_i]);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
}
END_TEST

START_TEST(nonsense_that_only_sqlite_could_take_is_refused)
{
    int rc = t_try(t_side(), "INSERT INTO nanoq_tasks %s", plainsql_nonsense_sqlite[_i]);
    ck_assert_msg(rc != 0, "accepted: %s", plainsql_nonsense_sqlite[_i]);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
}
END_TEST

/* Grants by column: docs/schema.md. */
START_TEST(a_producer_with_grants_by_column_gives_no_others)
{
    char user[100], path[300];
    snprintf(user, sizeof user, "'p%d'@'127.0.0.1'", (int)getpid());
    t_run(t_side(), "CREATE USER %s", user);
    t_run(t_side(),
          "GRANT INSERT (type, payload, queue, priority, run_at, max_retries, timeout_ms, unique_key) ON "
          "nanoq_tasks TO %s",
          user);
    snprintf(path, sizeof path, "mariadb -h 127.0.0.1 -P %u -u p%d %s >/dev/null 2>&1 -e", t_server_port(),
             (int)getpid(), t_name);
    const struct {
        const char *columns, *values;
        bool good;
    } all[] = {{"type, payload", "'t', 'a'", true},
               {"type, payload, queue, run_at, unique_key", "'t', 'b', 'q', UTC_TIMESTAMP(6), NULL", true},
               {"id, type, payload", "18446744073709551614, 't', 'c'", false},
               {"type, payload, state, lease", "'t', 'd', 1, 1", false},
               {"type, payload, generation", "'t', 'e', 5", false}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char command[1200];
        snprintf(command, sizeof command, "%s \"INSERT INTO nanoq_tasks (%s) VALUES (%s)\"", path,
                 all[i].columns, all[i].values);
        ck_assert_msg((system(command) == 0) == all[i].good, "%s", all[i].columns);
    }
    t_run(t_side(), "DROP USER %s", user);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 2);
}
END_TEST

START_TEST(the_session_time_zone_does_not_matter)
{
    t_run(t_side(), "SET time_zone = '+09:00'");
    t_run(t_side(), "INSERT INTO nanoq_tasks (type, payload) VALUES ('t', 'p')");
    nq *q = t_open();
    t_task t;
    ck_assert_int_eq(t_get(q, t_sql("SELECT id FROM nanoq_tasks"), &t), NQ_OK);
    int64_t age = t_now(q) - t.info.run_at_us;
    ck_assert_int_ge(age, 0);
    ck_assert_int_lt(age, NQ_SECONDS(20));
    ck_assert_int_lt(llabs(t_now(q) - (int64_t)time(NULL) * 1000000),
                     NQ_SECONDS(5)); /* the server is on this machine */
    t_task_free(&t);
    t_free_claimed(t_claim_one(q, NQ_LEASE(1, 1)));
    nq_close(q);
}
END_TEST

/* ---- The list of columns ---- */

static int64_t plainsql_columns(const char *table)
{
    return T_MYSQL ? t_sql("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() "
                           "AND table_name = 'nanoq_%s'",
                           table)
                   : t_sql("SELECT COUNT(*) FROM pragma_table_info('nanoq_%s')", table);
}

#define PLAINSQL_NAME(column, ...)              #column,
#define PLAINSQL_MOVED(column, kind, goes, ...) NQ_IF_MOVED_##goes(+1)
#define PLAINSQL_GIVEN(column, kind, goes, ...) NQ_IF_GIVEN_##goes(+1)
#define PLAINSQL_ONE(table)                     +1

START_TEST(the_list_of_columns_is_that_of_the_tables)
{
    static const char *const columns[] = {NQ_COLUMNS(PLAINSQL_NAME)};
    nq *q = t_open();
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        ck_assert_int_eq(t_sql("SELECT COUNT(%s) FROM nanoq_tasks", columns[i]), 0);
    ck_assert_int_eq(plainsql_columns("tasks"), (int64_t)(sizeof columns / sizeof *columns));
    t_sql("INSERT INTO nanoq_tasks (type) VALUES ('t')");
    t_sql("INSERT INTO nanoq_finished (" NQ_MOVED_COLUMNS "run_at, state, attempts, crashes, error, "
          "finished_at) SELECT " NQ_MOVED_COLUMNS "run_at, 2, attempts, crashes, error, created_at "
          "FROM nanoq_tasks");
    ck_assert_int_eq(plainsql_columns("finished"), 6 NQ_COLUMNS(PLAINSQL_MOVED));
    t_sql("INSERT INTO nanoq_followups (" NQ_FOLLOWUP_COLUMNS "run_at, task_id) "
          "SELECT " NQ_FOLLOWUP_COLUMNS "run_at, id FROM nanoq_tasks");
    ck_assert_int_eq(plainsql_columns("followups"), 3 NQ_COLUMNS(PLAINSQL_GIVEN));
    ck_assert_int_eq(t_sql(T_MYSQL ? "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = "
                                     "DATABASE() AND LEFT(table_name, 6) = 'nanoq_'"
                                   : "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND "
                                     "substr(name, 1, 6) = 'nanoq_'"),
                     0 NQ_TABLES(PLAINSQL_ONE));
    nq_close(q);
}
END_TEST

Suite *suite_plainsql(void)
{
    Suite *s = suite_create("plainsql");
    TCase *c = t_case(s, "plainsql", 30);
    tcase_add_test(c, the_list_of_columns_is_that_of_the_tables);
    tcase_add_test(c, a_plain_insert_gets_the_same_defaults);
    tcase_add_loop_test(c, the_unique_key_is_the_same_both_ways, 0,
                        (int)(sizeof plainsql_keys / sizeof *plainsql_keys));
    tcase_add_test(c, a_null_key_is_not_unique);
    tcase_add_test(c, a_key_of_the_callers_data_is_the_same_in_sql);
    tcase_add_test(c, a_transaction_of_plain_sql_rolls_back);
    tcase_add_loop_test(c, nonsense_is_refused, 0,
                        (int)(sizeof plainsql_nonsense / sizeof *plainsql_nonsense));
    if (T_SQLITE)
        tcase_add_loop_test(c, nonsense_that_only_sqlite_could_take_is_refused, 0,
                            (int)(sizeof plainsql_nonsense_sqlite / sizeof *plainsql_nonsense_sqlite));
    if (T_MYSQL)
        tcase_add_test(c, a_producer_with_grants_by_column_gives_no_others);
    if (T_MYSQL)
        tcase_add_test(c, the_session_time_zone_does_not_matter);
    return s;
}
