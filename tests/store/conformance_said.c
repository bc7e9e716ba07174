/* SPDX-License-Identifier: MIT */
/* What is logged of a transaction: nothing of one that was rolled back, and not while it holds anything. */
#include "suites.h"

enum { SAID_TASKS = 2 };

struct said {
    nq *q;
    int lines, asked;
};

static int said_queue(const nq_queue_stats *stats, void *arg)
{
    (void)stats;
    *(int *)arg += 1;
    return 0;
}

/* It asks the queue that speaks: whoever holds its connection would have it wait in vain. */
static void said_log(enum nq_log_level level, const char *message, void *udata)
{
    struct said *s = udata;
    (void)message;
    if (level < NQ_LOG_WARN)
        return;
    s->lines++;
    T_OK(nq_stats(s->q, said_queue, &s->asked, &t_last));
}

static nq *said_open(struct said *s)
{
    T_OK(nq_open(&s->q, t_url, &(nq_options){.size = sizeof(nq_options), .log = said_log, .log_udata = s},
                 &t_last));
    return s->q;
}

static void said_refuse_ends(bool refuse)
{
    if (!refuse)
        t_sql("DROP TRIGGER no");
    else if (T_SQLITE)
        t_sql("CREATE TRIGGER no BEFORE DELETE ON nanoq_tasks BEGIN SELECT RAISE(ABORT, 'no'); END");
    else
        t_sql("CREATE TRIGGER no BEFORE DELETE ON nanoq_tasks FOR EACH ROW SIGNAL SQLSTATE '45000'");
}

static void said_refuse_letters(nq *q)
{
    const nq_queue_settings to_dead = {.size = sizeof to_dead, .dead_to = "dead"};
    T_OK(nq_queue_set(q, "mail", &to_dead, &t_last));
    if (T_SQLITE)
        t_sql("CREATE TRIGGER refuse BEFORE INSERT ON nanoq_tasks WHEN NEW.queue = 'dead' BEGIN SELECT "
              "RAISE(ABORT, 'no'); END");
    else
        t_sql("ALTER TABLE nanoq_tasks ADD CONSTRAINT refuse CHECK (queue <> 'dead')");
}

/* Whatever it is that has to be said: the history has their ids already, or their copies are refused. */
START_TEST(a_transaction_is_spoken_of_once_and_when_it_is_committed)
{
    const bool dead = _i;
    struct said s = {.lines = 0};
    nq *q = said_open(&s);
    nq_outcome all[SAID_TASKS] = {{0}}, *list[SAID_TASKS];
    size_t n = 0;
    for (int i = 0; i < SAID_TASKS; i++)
        T_ADD(q, .type = "new", .queue = "mail", .payload = &i, .payload_size = sizeof i);
    T_ADD(q, .type = "other"); /* for the statistics */
    if (dead)
        said_refuse_letters(q);
    else
        t_sql(
            "INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
            "max_retries, timeout_ms, created_at, finished_at, type, payload) SELECT id, queue, 3, priority, "
            "run_at, 0, 0, 0, 0, 1000, created_at, run_at, 'old', '' FROM nanoq_tasks WHERE type = 'new'");
    nq_claimed *claimed = t_claim_queue(q, "mail", NQ_LEASE(1, 1), SAID_TASKS, &n);
    ck_assert_uint_eq(n, SAID_TASKS);
    n = 0;
    for (const nq_claimed *c = claimed; c; c = c->next, n++) {
        all[n] = (nq_outcome){.id = c->task.id,
                              .lease = c->lease,
                              .queue = c->task.queue,
                              .kind = dead ? NQ_OUT_DEAD : NQ_OUT_DONE,
                              .keep = true};
        list[n] = &all[n];
    }
    said_refuse_ends(true);
    ck_assert_int_ne(nq_store_finish(nq_store_of(q), list, SAID_TASKS, &t_last), NQ_OK);
    ck_assert_int_eq(s.lines, 0);
    said_refuse_ends(false);
    T_OK(nq_store_finish(nq_store_of(q), list, SAID_TASKS, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished WHERE type = 'new'"), SAID_TASKS);
    ck_assert_int_eq(s.lines, SAID_TASKS);
    ck_assert_int_ge(s.asked, SAID_TASKS);
    t_free_claimed(claimed);
    nq_close(q);
}
END_TEST

Suite *suite_said(void)
{
    Suite *s = suite_create("said");
    TCase *c = t_case(s, "said", 20);
    tcase_add_loop_test(c, a_transaction_is_spoken_of_once_and_when_it_is_committed, 0, 2);
    return s;
}
