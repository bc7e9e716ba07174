/* SPDX-License-Identifier: MIT */
/* Random rows, of values that no nanoq writes, in every table: each good task runs once, and nothing spins.
 */
#include "suites.h"

#include <inttypes.h>
#include <sys/resource.h>

/*
 * NANOQ_SEED: which rows; NANOQ_HOSTILE_ROUNDS: how many rounds, each with other rows in emptied tables. The
 * columns are read from the database, so that one which is added is tried without a word here.
 */

enum { RANDOM_GOOD = 30, RANDOM_ROWS = 24, RANDOM_LINES = 2000 };

/* Values of a column of a kind, as SQL. The first ones are as good as any nanoq's. */
static const char *const random_mysql_numbers[] = {"0",
                                                   "1",
                                                   "2",
                                                   "3",
                                                   "-1",
                                                   "127",
                                                   "128",
                                                   "-128",
                                                   "-101",
                                                   "101",
                                                   "255",
                                                   "1000",
                                                   "999",
                                                   "32767",
                                                   "65535",
                                                   "30001",
                                                   "2000000001",
                                                   "4294967295",
                                                   "'x'",
                                                   "1.5",
                                                   "2147483648",
                                                   "-9999999",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "''",
                                                   "1e300",
                                                   "'7 days'",
                                                   "0x00ff00ff",
                                                   "NULL",
                                                   "18446744073709551615"};
static const char *const random_mysql_times[] = {"UTC_TIMESTAMP(6)",
                                                 "UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
                                                 "UTC_TIMESTAMP(6) - INTERVAL 40 YEAR",
                                                 "UTC_TIMESTAMP(6) + INTERVAL 1 DAY",
                                                 "''",
                                                 "0",
                                                 "NULL",
                                                 "'2020-00-00'",
                                                 "'0000-00-00 00:00:01'",
                                                 "'0001-01-01'",
                                                 "'1000-01-01'",
                                                 "'1969-12-31 23:59:59.999999'",
                                                 "'1970-01-01'",
                                                 "'9999-12-31 23:59:59.999999'",
                                                 "'2026-02-31'",
                                                 "'soon'"};
static const char *const random_mysql_texts[] = {"'default'",
                                                 "'odd'",
                                                 "'mail'",
                                                 "'default '",
                                                 "''",
                                                 "'odd '",
                                                 "REPEAT('x', 300)",
                                                 "'a\\0b'",
                                                 "X'FF00FE'",
                                                 "'/etc/passwd\\n'",
                                                 "REPEAT(' ', 64)",
                                                 "'\xc3\xa4\xf0\x9f\x92\xa5'",
                                                 "'%%n'",
                                                 "NULL",
                                                 "X'80'",
                                                 "'\"], \\\\u0000'",
                                                 "CONCAT('default', CHAR(0))"};
static const char *const random_mysql_bytes[] = {
    "'1'",       "''",          "X'00FF00'", "REPEAT('y', 20000)", "REPEAT('z', 300000)", "NULL",
    "X'FFFE80'", "'{\"a\":1}'", "0",         "REPEAT(X'00', 32)",  "RANDOM_BYTES(32)"};

static const char *const random_sqlite_any[] = {"0",
                                                "1",
                                                "2",
                                                "3",
                                                "-1",
                                                "101",
                                                "-101",
                                                "1000",
                                                "30001",
                                                "2000000001",
                                                "1.5",
                                                "-1.5",
                                                "1e300",
                                                "-1e300",
                                                "9e999",
                                                "-9e999",
                                                "''",
                                                "'x'",
                                                "'1'",
                                                "' 7'",
                                                "x''",
                                                "x'00'",
                                                "x'31'",
                                                "x'fffe'",
                                                "NULL",
                                                "'9999999999999999999999'",
                                                "9223372036854775807",
                                                "4611686018427387904",
                                                "-9223372036854775808",
                                                "'a' || char(0) || 'b'",
                                                "CAST(x'ff00fe' AS TEXT)",
                                                "zeroblob(70000)",
                                                "CAST('default' AS BLOB)",
                                                "hex(zeroblob(200))"};
static const char *const random_sqlite_times[] = {
    "1", "10000000000000", "1790000000000000", "253402300799999999", "253402300800000000", "1790000000"};
static const char *const random_sqlite_texts[] = {"'default'",  "'odd'",      "'mail'",
                                                  "'default '", "'\xc3\xa4'", "'default' || char(0)"};
static const char *const random_sqlite_bytes[] = {"x'00ff00'", "'1'", "zeroblob(20000)", "randomblob(300000)",
                                                  "randomblob(32)"};

#define RANDOM_OF(list, seed) ((list)[t_rand(seed) % (sizeof(list) / sizeof *(list))])

/* ---- One row ---- */

enum random_class { RANDOM_NUMBER, RANDOM_TIME, RANDOM_TEXT, RANDOM_BYTES };

static enum random_class random_class_of(const char *name, const char *type)
{
    const size_t n = strlen(name);
    if (strcmp(type, "datetime") == 0 || (T_SQLITE && n > 3 && strcmp(name + n - 3, "_at") == 0))
        return RANDOM_TIME;
    if (strcmp(type, "varchar") == 0 || strcmp(type, "char") == 0 || strcmp(type, "TEXT") == 0)
        return RANDOM_TEXT;
    return strstr(type, "blob") || strstr(type, "binary") || strcmp(type, "BLOB") == 0 ? RANDOM_BYTES
                                                                                       : RANDOM_NUMBER;
}

static const char *random_value(enum random_class class, uint64_t *seed)
{
    if (T_SQLITE) {
        if (class == RANDOM_NUMBER || t_rand(seed) % 2)
            return RANDOM_OF(random_sqlite_any, seed);
        return class == RANDOM_TIME   ? RANDOM_OF(random_sqlite_times, seed)
               : class == RANDOM_TEXT ? RANDOM_OF(random_sqlite_texts, seed)
                                      : RANDOM_OF(random_sqlite_bytes, seed);
    }
    return class == RANDOM_NUMBER ? RANDOM_OF(random_mysql_numbers, seed)
           : class == RANDOM_TIME ? RANDOM_OF(random_mysql_times, seed)
           : class == RANDOM_TEXT ? RANDOM_OF(random_mysql_texts, seed)
                                  : RANDOM_OF(random_mysql_bytes, seed);
}

/* An id: of the history, or far up, but with room behind it: an id that is used up is used up for all. */
static void random_id(nq_buf *values, const char *table, uint64_t *seed)
{
    static const int64_t high[] = {INT64_C(4611686018427387903), INT64_C(4294967296), 1 << 20};
    const int64_t least = t_rand(seed) % 16 == 0 ? -3 : 1;
    if (strcmp(table, "workers") == 0) /* part of a lease: at most 2^27 */
        nq_buf_fmt(values, "%d", (int)(t_rand(seed) % ((1 << 27) - 100000)));
    else if (t_rand(seed) % 4)
        nq_buf_fmt(values, "%" PRId64, least + (int64_t)(t_rand(seed) % (2 * (uint64_t)RANDOM_GOOD)));
    else
        nq_buf_fmt(values, "%" PRId64, high[t_rand(seed) % 3] - 100000 + (int64_t)(t_rand(seed) % 1000));
}

/* Half of the columns as they are by default, so that it is one value that is bad more often than all. False:
 * the database did not take it. */
static bool random_insert(t_conn *c, const char *table, const char *columns, uint64_t *seed)
{
    nq_buf names = {0}, values = {0};
    char name[65], type[65];
    int used = 0;
    for (const char *p = columns; sscanf(p, "%64[^|]|%64[^\n]%n", name, type, &used) == 2; p += used) {
        const enum random_class class = random_class_of(name, type);
        const bool id = strcmp(name, "id") == 0;
        const bool needed = strcmp(table, "tasks") != 0 && strcmp(table, "workers") != 0;
        bool say = t_rand(seed) % 2 || (needed && !id) || strcmp(name, "type") == 0;
        if (strcmp(name, "queue") == 0 || strcmp(name, "state") == 0)
            say = needed || t_rand(seed) % 4 == 0;
        if (id)
            say = t_rand(seed) % 4 == 0;
        used += p[used] == '\n';
        if (!say)
            continue;
        nq_buf_fmt(&names, "%s%s", names.n ? ", " : "", name);
        nq_buf_str(&values, values.n ? ", " : "");
        if (id)
            random_id(&values, table, seed);
        else
            nq_buf_str(&values,
                       strcmp(name, "type") == 0 && t_rand(seed) % 2 ? "'odd'" : random_value(class, seed));
    }
    ck_assert(!names.failed && !values.failed);
    const int rc = t_try(c, "INSERT INTO nanoq_%s (%s) VALUES (%s)", table, names.p, values.p);
    if (getenv("NANOQ_HOSTILE_SHOW"))
        fprintf(stderr, "%d INSERT INTO nanoq_%s (%s) VALUES (%s);\n", rc, table, names.p, values.p);
    nq_buf_free(&names);
    nq_buf_free(&values);
    return rc == 0;
}

#define RANDOM_TABLE(name) #name,
static const char *const random_tables[] = {NQ_TABLES(RANDOM_TABLE)};

static bool random_skipped(const char *table)
{
    return strcmp(table, "schema") == 0; /* says which version the tables are */
}

static size_t random_rows(t_conn *c, uint64_t *seed)
{
    size_t taken = 0;
    for (size_t i = 0; i < sizeof random_tables / sizeof *random_tables; i++) {
        const char *table = random_tables[i];
        if (random_skipped(table))
            continue;
        char *columns = T_SQLITE ? t_text(c, "SELECT name, type FROM pragma_table_info('nanoq_%s')", table)
                                 : t_text(c,
                                          "SELECT column_name, data_type FROM information_schema.columns "
                                          "WHERE table_schema = DATABASE() AND table_name = 'nanoq_%s' "
                                          "ORDER BY ordinal_position",
                                          table);
        const int rows = strcmp(table, "tasks") == 0 ? RANDOM_ROWS : RANDOM_ROWS / 3;
        for (int k = 0; k < rows; k++)
            taken += random_insert(c, table, columns, seed);
        free(columns);
    }
    return taken;
}

/* Ids begin anew too. */
static void random_empty(t_conn *c)
{
    for (size_t i = 0; i < sizeof random_tables / sizeof *random_tables; i++)
        if (!random_skipped(random_tables[i]))
            t_run(c, T_SQLITE ? "DELETE FROM nanoq_%s" : "TRUNCATE TABLE nanoq_%s", random_tables[i]);
    if (T_SQLITE)
        t_run(c, "UPDATE sqlite_sequence SET seq = 0 WHERE name <> 'nanoq_workers'");
}

/* ---- What the worker says and does ---- */

struct random_seen {
    int good[RANDOM_GOOD], odd;
    pthread_mutex_t lock;
    size_t nlines;
    char *lines[RANDOM_LINES];
};

static void random_log(enum nq_log_level level, const char *message, void *udata)
{
    struct random_seen *s = udata;
    if (level < NQ_LOG_WARN)
        return;
    if (strstr(message, "of a dead worker found") || strstr(message, "not heeded") ||
        strstr(message, "leave no copy")) /* counted, not named */
        return;
    pthread_mutex_lock(&s->lock);
    if (s->nlines < RANDOM_LINES)
        s->lines[s->nlines++] = strdup(message);
    pthread_mutex_unlock(&s->lock);
}

static nq_verdict random_handle(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct random_seen *s = udata;
    int i = 0;
    (void)ctx;
    if (strcmp(task->type, "good") == 0 && task->payload_size == sizeof i) {
        memcpy(&i, task->payload, sizeof i);
        __atomic_add_fetch(&s->good[i], 1, __ATOMIC_SEQ_CST);
    } else {
        __atomic_add_fetch(&s->odd, 1, __ATOMIC_SEQ_CST);
    }
    return NQ_DONE;
}

static void random_event(const nq_event *event, void *udata)
{
    (void)udata;
    ck_assert_int_ge(event->waited_us, 0);
}

static int random_ran(struct random_seen *s)
{
    int n = 0;
    for (int i = 0; i < RANDOM_GOOD; i++)
        n += p_load(&s->good[i]);
    return n;
}

/* Each line once: what is said of a row names it, so a second one like it is that row again; but bytes that
 * are no text are all shown as '?', and two rows may differ in those alone. */
static void random_lines(struct random_seen *s, size_t rows)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->nlines; i++) {
        if (getenv("NANOQ_HOSTILE_SHOW"))
            fprintf(stderr, "log: %s\n", s->lines[i]);
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(strcmp(s->lines[i], s->lines[j]) != 0 || strchr(s->lines[i], '?'), "said twice: %s",
                          s->lines[i]);
    }
    ck_assert_uint_le(s->nlines, rows);
    for (size_t i = 0; i < s->nlines; i++)
        free(s->lines[i]);
    s->nlines = 0;
    pthread_mutex_unlock(&s->lock);
}

/* An idle worker looks a few times a second. Whoever spins over a row uses a processor, or asks the server a
 * thousand times; one window in which neither is so is enough, as rows may still be on their way out. */
static void random_quiet(void)
{
    struct rusage before, after;
    int64_t cpu = 0;
    long asked = 0;
    for (int i = 0; i < 20; i++) {
        getrusage(RUSAGE_SELF, &before);
        t_pause_ms(250);
        getrusage(RUSAGE_SELF, &after);
        cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
               before.ru_stime.tv_sec) *
                  INT64_C(1000000) +
              after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
              before.ru_stime.tv_usec;
        asked = after.ru_nvcsw - before.ru_nvcsw;
        if (cpu < NQ_MS(80) * T_SLOW_FACTOR && asked < 400)
            return;
    }
    ck_abort_msg("the worker spins: %" PRId64 " us of CPU time, %ld waits in 250 ms", cpu, asked);
}

/* ---- Reading them ---- */

struct random_ids {
    nq_id ids[500];
    size_t n;
};

static int random_listed(const nq_info *info, void *arg)
{
    struct random_ids *l = arg;
    ck_assert_ptr_nonnull(info->queue);
    ck_assert_ptr_nonnull(info->type);
    ck_assert_uint_ge(strlen(info->queue) + strlen(info->type) + strlen(info->error), 0);
    if (l->n < sizeof l->ids / sizeof *l->ids)
        l->ids[l->n++] = info->id;
    return 0;
}

static int random_stat(const nq_queue_stats *stat, void *arg)
{
    *(size_t *)arg += strlen(stat->queue);
    return 0;
}

static void random_read(nq *q)
{
    nq_list_options o = {.size = sizeof o, .limit = 500};
    struct random_ids all = {.n = 0}, again = {.n = 0};
    size_t n = 0;
    T_OK(nq_list(q, &o, random_listed, &all, &t_last));
    for (size_t i = 0; i < all.n; i++) {
        const int rc = nq_get(q, all.ids[i], random_listed, &again, &t_last);
        again.n = 0;
        ck_assert_msg(rc == NQ_OK || rc == NQ_ENOTFOUND, "nq_get(%" PRId64 "): %s", all.ids[i],
                      t_last.message);
    }
    T_OK(nq_stats(q, random_stat, &n, &t_last));
}

/* What is asked of a bad row may be refused, with a reason. */
static void random_steer(nq *q, uint64_t *seed)
{
    static int (*const calls[])(nq *, nq_id, nq_err *) = {nq_cancel, nq_retry, nq_delete};
    nq_list_options o = {.size = sizeof o, .limit = 500};
    struct random_ids all = {.n = 0};
    T_OK(nq_list(q, &o, random_listed, &all, &t_last));
    for (size_t i = 0; i < all.n; i++) {
        t_last.message[0] = '\0';
        const int rc = RANDOM_OF(calls, seed)(q, all.ids[i], &t_last);
        ck_assert_msg(rc >= 0 || t_last.message[0], "task %" PRId64 ": no message", all.ids[i]);
        ck_assert_msg(rc != NQ_EDB && rc != NQ_ECONFLICT, "task %" PRId64 ": %s", all.ids[i], t_last.message);
    }
}

/* ---- A round ---- */

static void random_add_good(nq *q, int from, int to)
{
    for (int i = from; i < to; i++)
        T_ADD(q, .type = "good", .payload = &i, .payload_size = sizeof i, .priority = i % 5 - 2,
              .unique = i % 2 ? NQ_UNIQUE_NONE : NQ_UNIQUE_PAYLOAD);
}

static void random_round(t_conn *c, uint64_t seed)
{
    static struct random_seen s;
    nq *q = NULL;
    p_thread t;
    s = (struct random_seen){.lock = PTHREAD_MUTEX_INITIALIZER};
    random_empty(c);
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .log = random_log, .log_udata = &s},
                 &t_last));
    random_add_good(q, 0, RANDOM_GOOD / 3);
    const size_t rows = random_rows(c, &seed);
    /* Good rows that pause the queue, or hold it for a thousand years, may be among them. */
    t_run(c, "DELETE FROM nanoq_queues WHERE name = 'default'");
    t_run(c, "DELETE FROM nanoq_gates WHERE queue = 'default'");
    ck_assert_uint_gt(rows, T_SQLITE || t_is_mariadb ? RANDOM_ROWS / 2 : 0);
    random_add_good(q, RANDOM_GOOD / 3, 2 * RANDOM_GOOD / 3);
    random_read(q);
    p_start(&t, p_new(q,
                      P_OPTIONS(.concurrency = 3, .keep_done_us = t_rand(&seed) % 2 ? NQ_HOURS(1) : 0,
                                .keep_dead_us = t_rand(&seed) % 4 ? 0 : NQ_ZERO,
                                .known_types_only = t_rand(&seed) % 4 == 0, .on_event = random_event,
                                .batch = 1 + (unsigned)(t_rand(&seed) % 50)),
                      random_handle, &s));
    random_add_good(q, 2 * RANDOM_GOOD / 3, RANDOM_GOOD);
    T_WAIT(random_ran(&s) >= RANDOM_GOOD, 20);
    random_read(q);
    random_quiet();
    const int64_t before = t_mono();
    p_stop(&t);
    ck_assert_int_lt(t_mono() - before, NQ_SECONDS(10) * T_SLOW_FACTOR);
    for (int i = 0; i < RANDOM_GOOD; i++)
        ck_assert_msg(s.good[i] == 1, "task %d ran %d times", i, s.good[i]);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'good'"), 0);
    random_steer(q, &seed);
    random_read(q);
    p_run(p_new(q, P_OPTIONS(.drain = NQ_DRAIN_DUE), random_handle, &s));
    random_lines(&s, rows);
    nq_close(q);
}

START_TEST(random_rows_keep_no_good_task_from_running_once)
{
    const char *given = getenv("NANOQ_HOSTILE_ROUNDS");
    const uint64_t rounds = given ? strtoull(given, NULL, 10) : T_SQLITE ? 4 : 2;
    uint64_t seed = t_seed();
    t_conn *c = t_connect();
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0, sql_mode = ''"
                            : "SET sql_mode = ''");
    for (uint64_t i = 0; i < rounds; i++) {
        fprintf(stderr, "round %" PRIu64 ": NANOQ_SEED=%" PRIu64 "\n", i, seed);
        random_round(c, seed);
        t_rand(&seed);
        seed |= 1;
    }
    t_disconnect(c);
}
END_TEST

Suite *suite_hostile_random(void)
{
    Suite *s = suite_create("hostile_random");
    TCase *c = t_case(s, "hostile_random", getenv("NANOQ_HOSTILE_ROUNDS") ? 7200 : 120);
    tcase_add_test(c, random_rows_keep_no_good_task_from_running_once);
    return s;
}
