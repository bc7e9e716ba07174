/* SPDX-License-Identifier: MIT */
/* Counts by filters, and those of each queue, up to their bounds and whole. */
#include "search.h"

enum { COUNT_TASKS = 10030 };

static nq_counted count_of(nq *q, nq_filter f, nq_count_options o)
{
    nq_counted k = {.size = sizeof k};
    f.size = sizeof f;
    o.size = sizeof o;
    T_OK(nq_count(q, &f, &o, &k, &t_last));
    return k;
}
#define COUNT(...)     count_of(q, (nq_filter){__VA_ARGS__}, (nq_count_options){.most = 0})
#define COUNT_ALL(...) count_of(q, (nq_filter){__VA_ARGS__}, (nq_count_options){.exact = true})
#define COUNT_IS(expected, ...)                                                                              \
    do {                                                                                                     \
        const nq_counted is = COUNT(__VA_ARGS__);                                                            \
        ck_assert_uint_eq(is.n, expected);                                                                   \
        ck_assert(!is.more && !is.bounded);                                                                  \
        ck_assert_uint_eq(COUNT_ALL(__VA_ARGS__).n, expected);                                               \
    } while (0)

/* In queue "big", one in ten in a group of it; few in "small". Waiting but for those that are moved. */
static void count_fill(nq *q)
{
    static nq_task_spec specs[COUNT_TASKS];
    for (int i = 0; i < COUNT_TASKS; i++)
        specs[i] = *NQ_TASK(.type = i % 2 ? "a" : "b", .queue = i < 30 ? "small" : "big",
                            .unique = NQ_UNIQUE_NONE, .delay_us = i % 3 ? 0 : NQ_HOURS(1), .priority = i % 4);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, COUNT_TASKS, NULL, NULL, &t_last));
}

static void count_end(const char *which, int state)
{
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, "
          "timeout_ms, created_at, finished_at, type, payload) SELECT id, queue, %d, priority, run_at, 0, 0, "
          "0, 0, 60000, "
          "created_at, created_at, type, payload FROM nanoq_tasks WHERE %s",
          state, which);
    t_sql("DELETE FROM nanoq_tasks WHERE %s", which);
}

START_TEST(counts_are_whole_up_to_their_bound)
{
    t_ids_in_a_row();
    nq *q = t_open();
    count_fill(q);
    nq_counted k = COUNT(.states = 0);
    ck_assert_uint_eq(k.n, NQ_DEFAULT_COUNT);
    ck_assert(k.more && !k.bounded);
    ck_assert_uint_eq(COUNT_ALL(.states = 0).n, COUNT_TASKS);
    count_end("id <= 10", NQ_STATE_DONE);
    count_end("id BETWEEN 11 AND 30", NQ_STATE_DEAD);
    COUNT_IS(30, .queues = SEARCH_NAMES("small"), .nqueues = 1);
    COUNT_IS(0, .queues = SEARCH_NAMES("none"), .nqueues = 1);
    COUNT_IS(20, .states = NQ_STATE_BIT(NQ_STATE_DEAD));
    COUNT_IS(10, .queues = SEARCH_NAMES("sm*"), .nqueues = 1, .states = NQ_STATE_BIT(NQ_STATE_DONE));
    COUNT_IS(0, .states = NQ_STATE_BIT(NQ_STATE_RUNNING));
    COUNT_IS(30, .time = NQ_BY_FINISHED, .since_us = 1);
    COUNT_IS(COUNT_TASKS / 2, .types = SEARCH_NAMES("a"), .ntypes = 1);
    k = count_of(q, (nq_filter){.queues = SEARCH_NAMES("small"), .nqueues = 1},
                 (nq_count_options){.most = 29});
    ck_assert_uint_eq(k.n, 29);
    ck_assert(k.more);
    k = count_of(q, (nq_filter){.queues = SEARCH_NAMES("small"), .nqueues = 1},
                 (nq_count_options){.most = 30});
    ck_assert_uint_eq(k.n, 30);
    ck_assert(!k.more);
    /* What no index leads to: among so many of the newest. */
    k = count_of(
        q, (nq_filter){.types = SEARCH_NAMES("a"), .ntypes = 1, .states = NQ_STATE_BIT(NQ_STATE_WAITING)},
        (nq_count_options){.look = 100});
    ck_assert_uint_eq(k.n, 50);
    ck_assert(k.more && k.bounded);
    ck_assert_int_eq(k.reached, COUNT_TASKS - 99);
    nq_close(q);
}
END_TEST

struct count_seen {
    nq *q;
    unsigned calls, stop;
    uint64_t n;
};

static int count_see(const nq_counted *so_far, void *udata)
{
    struct count_seen *seen = udata;
    nq_counted k = {.size = sizeof k};
    ck_assert_uint_ge(so_far->n, seen->n);
    ck_assert_int_le(so_far->reached, so_far->last);
    seen->n = so_far->n;
    T_OK(nq_count(seen->q, NULL, NULL, &k, &t_last)); /* the handle is free */
    return ++seen->calls == seen->stop;
}

START_TEST(an_exact_count_tells_how_far_it_is_and_stops)
{
    nq *q = t_open();
    struct count_seen seen = {.q = q};
    for (int i = 0; i < 5; i++)
        count_fill(q);
    nq_count_options o = {.exact = true, .progress = count_see, .udata = &seen};
    ck_assert_uint_eq(count_of(q, (nq_filter){.text = "no such text"}, o).n, 0);
    const nq_counted k = count_of(q, (nq_filter){.states = 0}, o);
    ck_assert_uint_eq(k.n, 5 * COUNT_TASKS);
    ck_assert(!k.more);
    ck_assert_uint_ge(seen.calls, 2);
    seen = (struct count_seen){.q = q, .stop = 1};
    const nq_counted stopped = count_of(q, (nq_filter){.states = 0}, o);
    ck_assert_uint_eq(seen.calls, 1);
    ck_assert(stopped.more);
    ck_assert_uint_lt(stopped.n, 5 * COUNT_TASKS);
    nq_close(q);
}
END_TEST

START_TEST(what_cannot_be_counted_is_refused)
{
    nq *q = t_open();
    nq_counted k = {.size = sizeof k};
    nq_count_options o = {.size = sizeof o, .exact = true, .most = 5};
    T_FAILS(nq_count(q, NULL, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_count(q, NULL, &o, &k, &t_last), NQ_EINVAL);
    o.exact = false;
    o.most = 1000001;
    T_FAILS(nq_count(q, NULL, &o, &k, &t_last), NQ_EINVAL);
    const nq_filter f = {.size = sizeof f, .states = 99};
    T_FAILS(nq_count(q, &f, NULL, &k, &t_last), NQ_EINVAL);
    k.size = 1;
    T_FAILS(nq_count(q, NULL, NULL, &k, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

/* ---- Of each queue ---- */

struct count_queue {
    const char *queue;
    nq_queue_stats s;
};

static int count_queue(const nq_queue_stats *s, void *udata)
{
    struct count_queue *of = udata;
    if (strcmp(s->queue, of->queue) == 0)
        of->s = *s;
    return 0;
}

static nq_queue_stats count_stats(nq *q, const char *queue, bool exact)
{
    struct count_queue of = {.queue = queue};
    T_OK((exact ? nq_stats_exact : nq_stats)(q, count_queue, &of, &t_last));
    return of.s;
}

static void count_same(nq *q, const char *queue)
{
    const nq_queue_stats a = count_stats(q, queue, false), b = count_stats(q, queue, true);
    ck_assert_uint_eq(a.capped, 0);
    ck_assert_uint_eq(a.due, b.due);
    ck_assert_uint_eq(a.delayed, b.delayed);
    ck_assert_uint_eq(a.running, b.running);
    ck_assert_uint_eq(a.done, b.done);
    ck_assert_uint_eq(a.dead, b.dead);
    ck_assert_uint_eq(a.cancelled, b.cancelled);
    ck_assert_uint_eq(a.groups, b.groups);
    ck_assert_int_le(a.oldest_due_us, b.oldest_due_us);
    ck_assert_int_ge(a.oldest_due_us, b.oldest_due_us - NQ_SECONDS(30));
}

START_TEST(statistics_are_those_of_each_row)
{
    nq *q = t_open();
    static const char *const names[] = {"a", "a/b", "a//", "a//g", "a//h", "a/0", "ab", "b//x"};
    for (int i = 0; i < 400; i++)
        T_ADD(q, .type = "t", .queue = names[i % 8], .priority = i % 50, .delay_us = i % 3 ? 0 : NQ_HOURS(1),
              .unique = NQ_UNIQUE_NONE);
    t_sql("UPDATE nanoq_tasks SET state = 1, lease = 7 WHERE id %% 7 = 1");
    count_end("id % 11 = 1", NQ_STATE_DEAD);
    count_end("id % 13 = 1", NQ_STATE_DONE);
    count_end("id % 17 = 1", NQ_STATE_CANCELLED);
    count_end("queue = 'a//h'", NQ_STATE_CANCELLED);
    count_same(q, "a");
    count_same(q, "a/b");
    count_same(q, "a//");
    count_same(q, "a/0");
    count_same(q, "ab");
    count_same(q, "b");
    nq_close(q);
}
END_TEST

START_TEST(statistics_are_capped)
{
    nq *q = t_open();
    count_fill(q);
    nq_queue_stats s = count_stats(q, "big", false);
    ck_assert_uint_eq(s.capped, 0);
    ck_assert_uint_eq(s.due + s.delayed, COUNT_TASKS - 30);
    t_sql("UPDATE nanoq_tasks SET priority = 0, run_at = %s", T_MYSQL ? "'2020-01-01'" : "1577836800000000");
    for (int i = 0; i < 31; i++)
        T_ADD(q, .type = "t", .queue = "big", .unique = NQ_UNIQUE_NONE);
    s = count_stats(q, "big", false);
    ck_assert_uint_eq(s.capped, NQ_CAPPED_DUE);
    ck_assert_uint_eq(s.due, 10000);
    ck_assert_int_gt(s.oldest_due_us, NQ_DAYS(365));
    ck_assert_uint_eq(count_stats(q, "big", true).due, COUNT_TASKS + 1);
    s = count_stats(q, "small", false);
    ck_assert_uint_eq(s.capped, 0);
    /* Groups together. */
    t_sql("UPDATE nanoq_tasks SET queue = 'big//1' WHERE queue = 'big'");
    s = count_stats(q, "big", false);
    ck_assert_uint_eq(s.capped, NQ_CAPPED_GROUPS | NQ_CAPPED_DUE | NQ_CAPPED_DELAYED | NQ_CAPPED_RUNNING);
    ck_assert_uint_eq(s.due, 10000);
    ck_assert_uint_eq(s.groups, 1);
    nq_close(q);
}
END_TEST

Suite *suite_count(void)
{
    Suite *s = suite_create("count");
    TCase *c = t_case(s, "count", 60);
    tcase_add_test(c, counts_are_whole_up_to_their_bound);
    tcase_add_test(c, an_exact_count_tells_how_far_it_is_and_stops);
    tcase_add_test(c, what_cannot_be_counted_is_refused);
    tcase_add_test(c, statistics_are_those_of_each_row);
    tcase_add_test(c, statistics_are_capped);
    return s;
}
