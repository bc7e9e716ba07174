/* SPDX-License-Identifier: MIT */
/* The logs of tasks, from handlers in threads and in children, and how they are read. */
#include "suites.h"

#include <signal.h>

#include "nanoq_logs.h"

/* ---- What is read, as text: "1.1 info first;" ---- */

struct logs_text {
    char text[4000];
    size_t used, rows;
    nq_log_row last;
};

static int logs_row(const nq_log_row *row, void *udata)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    struct logs_text *s = udata;
    const char *begin = row->n > 60 ? "..." : row->text;
    s->rows++;
    s->last = *row;
    ck_assert_int_eq(row->text[row->n], '\0');
    ck_assert_int_ge(row->at_us, 0);
    if (s->used < sizeof s->text - 200)
        s->used += (size_t)snprintf(s->text + s->used, sizeof s->text - s->used, "%u.%u %s %s;",
                                    row->generation, row->seq, levels[row->level], begin);
    return 0;
}

static struct logs_text *logs_of(nq *q, nq_id id)
{
    static struct logs_text s;
    memset(&s, 0, sizeof s);
    const nq_logs_options o = {.size = sizeof o, .limit = 5000};
    T_OK(nq_logs(q, id, &o, logs_row, &s, &t_last));
    return &s;
}

/* ---- Handlers ---- */

/* Writes what its payload says. */
static nq_verdict logs_handler(nq_ctx *ctx, const nq_task *task, void *udata)
{
    static _Thread_local char bytes[10001];
    const char *how = task->payload;
    (void)udata;
    memset(bytes, 'x', sizeof bytes - 1);
    if (strcmp(how, "levels") == 0) {
        nq_ctx_log(ctx, NQ_LOG_DEBUG, "one %d", 1);
        nq_ctx_log(ctx, NQ_LOG_ERROR, "two\nthree\r\n");
        nq_ctx_log(ctx, (enum nq_log_level)99, "%s", "");
        nq_ctx_log_bytes(ctx, NQ_LOG_WARN, "a\0b", 3);
    } else if (strcmp(how, "long") == 0) {
        memcpy(bytes + NQ_MAX_LOG_LINE - 7, "\xe2\x82\xac", 3); /* stands across the cut */
        nq_ctx_log(ctx, NQ_LOG_INFO, "%s", bytes);
    } else if (strcmp(how, "many") == 0) {
        for (int i = 0; i < NQ_MAX_LOG_LINES + 500; i++)
            nq_ctx_log(ctx, NQ_LOG_INFO, "%d", i);
    } else if (strcmp(how, "much") == 0) {
        for (int i = 0; i < 30; i++)
            nq_ctx_log(ctx, NQ_LOG_INFO, "%.3000s", bytes);
    } else if (strcmp(how, "again") == 0) {
        nq_ctx_log(ctx, NQ_LOG_INFO, "attempt %u", task->attempt);
        nq_ctx_set_delay(ctx, NQ_ZERO);
        return task->attempt < 3 ? NQ_RETRY : NQ_DONE;
    }
    return NQ_DONE;
}

static nq_worker *logs_drainer(nq *q, bool isolated)
{
    nq_worker *p =
        p_new(q, P_OPTIONS(.concurrency = 2, .drain = NQ_DRAIN_DUE, .keep_done_us = NQ_HOURS(1)), NULL, NULL);
    T_OK(nq_worker_handle(p, NULL, logs_handler, NULL, isolated ? P_ISOLATED(.nice = 0) : NULL, &t_last));
    if (isolated)
        T_OK(nq_worker_fork(p, &t_last));
    return p;
}

static nq_id logs_add(nq *q, const char *payload)
{
    return T_ADD(q, .type = "t", .payload = payload, .payload_size = strlen(payload),
                 .unique = NQ_UNIQUE_NONE, .keep_us = NQ_HOURS(1));
}

/* _i: in a child. */
START_TEST(lines_of_a_handler_are_kept_in_order)
{
    nq *q = t_open();
    nq_worker *p = logs_drainer(q, _i);
    const nq_id id = logs_add(q, "levels"), none = logs_add(q, "nothing");
    const int64_t before = t_sql(T_SQLITE ? "SELECT unixepoch()" : "SELECT UNIX_TIMESTAMP()");
    p_run(p);
    const struct logs_text *s = logs_of(q, id);
    ck_assert_str_eq(s->text, "1.1 debug one 1;1.2 error two;1.3 error three;1.4 info ;1.5 warn a;");
    ck_assert_uint_eq(s->last.n, 3);
    ck_assert_int_ge(s->last.at_us, (before - 1) * 1000000);
    ck_assert_uint_eq(logs_of(q, none)->rows, 0);
    /* Pages. */
    struct logs_text page = {0};
    nq_logs_options o = {.size = sizeof o, .after_generation = 1, .after_seq = 1, .limit = 2};
    T_OK(nq_logs(q, id, &o, logs_row, &page, &t_last));
    ck_assert_str_eq(page.text, "1.2 error two;1.3 error three;");
    o.after_generation = 2;
    T_OK(nq_logs(q, id, &o, logs_row, &page, &t_last));
    ck_assert_uint_eq(page.rows, 2);
    uint64_t count = 0;
    T_OK(nq_logs_count(q, id, &count, &t_last));
    ck_assert_uint_eq(count, 5);
    T_OK(nq_logs_count(q, none, &count, &t_last));
    ck_assert_uint_eq(count, 0);
    T_FAILS(nq_logs_count(q, 987654, &count, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_logs_count(q, id, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_logs(q, 987654, NULL, logs_row, &page, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_logs(q, id, NULL, NULL, NULL, &t_last), NQ_EINVAL);
    o.limit = 10001;
    T_FAILS(nq_logs(q, id, &o, logs_row, &page, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(a_log_is_bounded_and_says_so)
{
    nq *q = t_open();
    nq_worker *p = logs_drainer(q, _i);
    const nq_id line = logs_add(q, "long"), many = logs_add(q, "many"), much = logs_add(q, "much");
    p_run(p);
    const struct logs_text *s = logs_of(q, line);
    ck_assert_uint_eq(s->rows, 1);
    ck_assert_uint_eq(s->last.n, NQ_MAX_LOG_LINE - 1); /* without the half character */
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM nanoq_logs WHERE SUBSTR(line, -7) = X'78205b6375745d' AND task_id = %lld",
              (long long)line),
        1);
    s = logs_of(q, many);
    ck_assert_uint_eq(s->rows, NQ_MAX_LOG_LINES + 1);
    ck_assert_int_eq(s->last.level, NQ_LOG_WARN);
    s = logs_of(q, much);
    ck_assert_uint_eq(s->rows, NQ_MAX_LOG_BYTES / 3000 + 1);
    ck_assert_int_eq(s->last.level, NQ_LOG_WARN);
    nq_close(q);
}
END_TEST

START_TEST(each_run_has_lines_of_its_own)
{
    nq *q = t_open();
    const nq_id id = logs_add(q, "again");
    p_run(logs_drainer(q, false));
    ck_assert_str_eq(logs_of(q, id)->text, "1.1 info attempt 1;2.1 info attempt 2;3.1 info attempt 3;");
    /* The newest runs stay. */
    const nq_id old = logs_add(q, "levels");
    t_sql("UPDATE nanoq_tasks SET generation = 29 WHERE id = %lld", (long long)old);
    for (int i = 8; i < 29; i++)
        t_sql("INSERT INTO nanoq_logs (task_id, generation, seq, at, level, line) SELECT %lld, %d, 1, "
              "created_at, 1, %s FROM nanoq_tasks WHERE id = %lld",
              (long long)old, i, T_SQLITE ? "x'41'" : "'A'", (long long)old);
    p_run(logs_drainer(q, false));
    ck_assert_int_eq(t_sql("SELECT MIN(generation) FROM nanoq_logs WHERE task_id = %lld", (long long)old),
                     30 - NQ_MAX_LOG_RUNS + 1);
    nq_close(q);
}
END_TEST

START_TEST(what_nobody_can_read_is_not_written)
{
    nq *q = t_open();
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 4, .drain = NQ_DRAIN_DUE), logs_handler, NULL);
    nq_id kept = 0, again = 0;
    for (int i = 0; i < 200; i++) {
        T_ADD(q, .type = "t", NQ_BYTES("levels"), .unique = NQ_UNIQUE_NONE);
        if (i == 50)
            kept = logs_add(q, "levels");
        if (i == 100)
            again = logs_add(q, "again");
    }
    p_run(p);
    ck_assert_uint_eq(logs_of(q, kept)->rows, 5);
    ck_assert_uint_eq(logs_of(q, again)->rows, 3);
    const int64_t rows = t_sql("SELECT COUNT(*) FROM nanoq_logs");
    /* 8, unless it took so long that the worker wrote meanwhile; and what was written then is swept later. */
    ck_assert_msg(rows < 8 + 200 * 5, "%lld rows", (long long)rows);
    nq_close(q);
}
END_TEST

/* ---- kill -9, a database that is away, sweeping ---- */

static nq_verdict logs_hang(nq_ctx *ctx, const nq_task *task, void *udata)
{
    const int *fd = udata;
    nq_ctx_log(ctx, NQ_LOG_INFO, "before the end");
    t_tell(*fd, task->id);
    for (int i = 0; i < 600; i++)
        t_pause_ms(100); /* until somebody kills us */
    return NQ_DONE;
}

static void logs_worker(int fd, void *arg)
{
    nq *q = t_open();
    nq_err err;
    (void)arg;
    nq_worker_run(p_new(q, P_OPTIONS(.concurrency = 1, .lease_us = P_DYING_LEASE), logs_hang, &fd), &err);
}

START_TEST(what_a_killed_worker_had_written_is_there)
{
    t_child child;
    t_fork(&child, logs_worker, NULL);
    nq *q = t_open();
    const nq_id id = logs_add(q, "");
    ck_assert_int_eq(t_hear(child.fd, 20), id);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_logs") == 1, 20);
    t_kill(&child, SIGKILL);
    ck_assert_str_eq(logs_of(q, id)->text, "1.1 info before the end;");
    nq_close(q);
}
END_TEST

START_TEST(lines_of_tasks_that_are_gone_are_swept)
{
    nq *q = t_open();
    const nq_id id = logs_add(q, "levels");
    p_run(logs_drainer(q, false));
    t_sql(
        "INSERT INTO nanoq_logs (task_id, generation, seq, at, level, line) SELECT 77777, 1, seq, at, level, "
        "line FROM nanoq_logs");
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.keep_done_us = NQ_HOURS(1)), logs_handler, NULL));
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_logs WHERE task_id = 77777") == 0, 20);
    p_stop(&t);
    ck_assert_uint_eq(logs_of(q, id)->rows, 5);
    T_OK(nq_delete(q, id, &t_last));
    T_FAILS(nq_logs(q, id, NULL, logs_row, &(struct logs_text){.used = 0}, &t_last), NQ_ENOTFOUND);
    nq_close(q);
}
END_TEST

START_TEST(rows_of_a_vandal_are_shown_as_far_as_they_go)
{
    nq *q = t_open();
    const nq_id id = logs_add(q, "levels");
    if (T_SQLITE) {
        t_sql("INSERT INTO nanoq_logs VALUES (%lld, 'x', 'y', 9e18, 'z', 5)", (long long)id);
        t_sql("INSERT INTO nanoq_logs VALUES (%lld, 5, -3, 9223372036854775807, -7, zeroblob(5000000))",
              (long long)id);
    } else {
        t_sql("INSERT INTO nanoq_logs VALUES (%lld, 4294967295, 4294967295, '9999-12-31 23:59:59', 255, "
              "REPEAT(X'FF', 4096))",
              (long long)id);
        t_sql("INSERT INTO nanoq_logs VALUES (%lld, 0, 0, '9999-12-31 23:59:59', 200, '')", (long long)id);
    }
    /* of an earlier task with this id */
    t_sql("INSERT INTO nanoq_logs SELECT id, 1, 1, %s, 1, %s FROM nanoq_tasks WHERE id = %lld",
          T_SQLITE ? "created_at - 5000000" : "created_at - INTERVAL 5 SECOND", T_SQLITE ? "x'41'" : "'A'",
          (long long)id);
    const struct logs_text *s = logs_of(q, id);
    ck_assert_uint_ge(s->rows, 1);
    ck_assert(!strstr(s->text, " A;"));
    p_run(logs_drainer(q, false));
    ck_assert_ptr_nonnull(strstr(logs_of(q, id)->text, "1.1 debug one 1;"));
    nq_close(q);
}
END_TEST

/* ---- A lease that is lost, several tasks a call, a table that cannot be written ---- */

struct logs_meet {
    sem_t begun, go, written;
    size_t lost; /* as the log says */
};

static void logs_meet_init(struct logs_meet *m)
{
    memset(m, 0, sizeof *m);
    sem_init(&m->begun, 0, 0);
    sem_init(&m->go, 0, 0);
    sem_init(&m->written, 0, 0);
}

static nq_verdict logs_twice(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct logs_meet *m = udata;
    nq_ctx_log(ctx, NQ_LOG_INFO, "run %u begins", task->generation);
    if (task->generation == 1) {
        t_post(&m->begun);
        t_await(&m->go, 20);
    }
    nq_ctx_log(ctx, NQ_LOG_INFO, "run %u ends", task->generation);
    return NQ_DONE;
}

START_TEST(whose_lease_is_lost_writes_to_its_own_run)
{
    nq *q = t_open();
    struct logs_meet m;
    p_thread first, second;
    logs_meet_init(&m);
    const nq_id id = logs_add(q, "");
    p_start(&first, p_new(q, P_OPTIONS(.concurrency = 1), logs_twice, &m));
    t_await(&m.begun, 20);
    t_sql("UPDATE nanoq_tasks SET state = 0, lease = 0"); /* as who takes it for dead */
    p_start(&second, p_new(q, P_OPTIONS(.concurrency = 1), logs_twice, &m));
    T_WAIT(t_state(q, id) == NQ_STATE_DONE, 20);
    p_stop(&second);
    t_post(&m.go);
    p_stop(&first);
    ck_assert_str_eq(logs_of(q, id)->text,
                     "1.1 info run 1 begins;1.2 info run 1 ends;2.1 info run 2 begins;2.2 info run 2 ends;");
    nq_close(q);
}
END_TEST

/* What the log tells of lines that are lost. */
static void logs_heard(enum nq_log_level level, const char *message, void *udata)
{
    static const char no_room[] = "no room for ";
    struct logs_meet *m = udata;
    if (level != NQ_LOG_WARN || !strstr(message, " lines of tasks' logs"))
        return;
    const char *at = strstr(message, no_room);
    __atomic_fetch_add(&m->lost, strtoull(at ? at + sizeof no_room - 1 : message, NULL, 10),
                       __ATOMIC_SEQ_CST);
}

static nq *logs_open(struct logs_meet *m)
{
    nq *q = NULL;
    logs_meet_init(m);
    const nq_options opts = {.size = sizeof opts, .log = logs_heard, .log_udata = m};
    T_OK(nq_open(&q, t_url, &opts, &t_last));
    return q;
}

/* The table of lines, or all of the file. */
static void logs_lock(bool lock)
{
    if (T_SQLITE)
        t_sql(lock ? "BEGIN IMMEDIATE" : "ROLLBACK");
    else
        t_sql(lock ? "LOCK TABLES nanoq_logs WRITE" : "UNLOCK TABLES");
}

START_TEST(what_a_worker_cannot_write_before_it_ends_is_counted)
{
    struct logs_meet m;
    nq *q = logs_open(&m);
    p_thread t;
    logs_add(q, "");
    p_start(&t, p_new(q, P_OPTIONS(.concurrency = 1, .shutdown_timeout_us = NQ_MS(300)), logs_twice, &m));
    t_await(&m.begun, 20);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_logs") == 1, 20); /* the first line */
    logs_lock(true);
    t_post(&m.go);
    nq_worker_stop(t.p);
    p_join(&t); /* on SQLite it could not record the outcome either */
    logs_lock(false);
    ck_assert_uint_eq(__atomic_load_n(&m.lost, __ATOMIC_SEQ_CST), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_logs"), 1);
    nq_close(q);
}
END_TEST

/* Of each task as much as a log has room for, in turns. */
static void logs_many(nq_ctx *const ctx[], const nq_task *const tasks[], size_t n, nq_verdict verdicts[],
                      void *udata)
{
    struct logs_meet *m = udata;
    static char bytes[NQ_MAX_LOG_LINE + 1];
    memset(bytes, 'x', sizeof bytes - 1);
    t_post(&m->begun);
    t_await(&m->go, 20);
    t_post(&m->go); /* for a further call, if not all came at once */
    for (size_t line = 0; line < NQ_MAX_LOG_BYTES / NQ_MAX_LOG_LINE; line++)
        for (size_t i = 0; i < n; i++)
            nq_ctx_log(ctx[i], NQ_LOG_INFO, "%.20s%s", (const char *)tasks[i]->payload, bytes);
    for (size_t i = 0; i < n; i++)
        verdicts[i] = NQ_DONE;
    t_post(&m->written);
}

START_TEST(what_has_no_room_while_the_database_is_away_is_counted)
{
    enum { TASKS = 160, LINES = NQ_MAX_LOG_BYTES / NQ_MAX_LOG_LINE };
    struct logs_meet m;
    nq *q = logs_open(&m);
    nq_id ids[TASKS];
    for (int i = 0; i < TASKS; i++) {
        char payload[24];
        snprintf(payload, sizeof payload, "task %d.", i);
        ids[i] = logs_add(q, payload);
    }
    p_thread t;
    nq_worker *p = p_new(q, P_OPTIONS(.concurrency = 1, .batch = TASKS), NULL, NULL);
    const nq_many_options many = {.size = sizeof many, .max = TASKS, .wait_us = NQ_SECONDS(1)};
    T_OK(nq_worker_handle_many(p, NULL, logs_many, &m, &many, &t_last));
    p_start(&t, p);
    t_await(&m.begun, 20);
    logs_lock(true);
    t_post(&m.go);
    t_await(&m.written, 20);
    logs_lock(false);
    T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_finished") == TASKS, 30);
    p_stop(&t);
    const int64_t kept = t_sql("SELECT COUNT(*) FROM nanoq_logs");
    const size_t lost = __atomic_load_n(&m.lost, __ATOMIC_SEQ_CST);
    ck_assert_msg(lost > 0 && kept + (int64_t)lost == TASKS * LINES, "%lld are there, %zu are lost of %d",
                  (long long)kept, lost, TASKS * LINES);
    ck_assert_int_gt(kept, 1000);
    for (int i = 0; i < TASKS; i++) {
        char begin[40];
        snprintf(begin, sizeof begin, "task %d.", i);
        ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_logs WHERE task_id = %lld AND CAST(SUBSTR(line, "
                               "1, %zu) AS CHAR) <> "
                               "'%s'",
                               (long long)ids[i], strlen(begin), begin),
                         0);
    }
    nq_close(q);
}
END_TEST

Suite *suite_worker_logs(void)
{
    Suite *s = suite_create("logs");
    TCase *c = t_case(s, "logs", 60);
    tcase_add_loop_test(c, lines_of_a_handler_are_kept_in_order, 0, 2);
    tcase_add_loop_test(c, a_log_is_bounded_and_says_so, 0, 2);
    tcase_add_test(c, each_run_has_lines_of_its_own);
    tcase_add_test(c, what_nobody_can_read_is_not_written);
    tcase_add_test(c, what_a_killed_worker_had_written_is_there);
    tcase_add_test(c, lines_of_tasks_that_are_gone_are_swept);
    tcase_add_test(c, whose_lease_is_lost_writes_to_its_own_run);
    tcase_add_test(c, what_a_worker_cannot_write_before_it_ends_is_counted);
    tcase_add_test(c, what_has_no_room_while_the_database_is_away_is_counted);
    tcase_add_test(c, rows_of_a_vandal_are_shown_as_far_as_they_go);
    return s;
}
