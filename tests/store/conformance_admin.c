/* SPDX-License-Identifier: MIT */
/* Looking at tasks and steering them: list, get, retry, cancel, delete, stats. */
#include "suites.h"

struct admin_five { /* a task in each state, the same in both stores */
    nq_id waiting, running, done, dead, cancelled;
    nq_claimed *claim;
};

static void admin_make(nq *q, struct admin_five *f)
{
    nq_id *const ends[] = {&f->running, &f->done, &f->dead};
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        *ends[i] = T_ADD(q, .type = "made", .queue = "q", .priority = i, .unique = NQ_UNIQUE_DATA,
                         .unique_data = ends[i] == &f->dead ? "dead"
                                        : i                 ? "done"
                                                            : "run",
                         .unique_size = 3);
    nq_claimed *list = t_claim_queue(q, "q", NQ_LEASE(1, 1), 3, &n);
    ck_assert_uint_eq(n, 3);
    nq_outcome done = {.id = f->done, .lease = list->lease, .kind = NQ_OUT_DONE, .keep = true};
    nq_outcome dead = {.id = f->dead,
                       .lease = list->lease,
                       .kind = NQ_OUT_DEAD,
                       .error = "why",
                       .error_size = 3,
                       .crashed = true};
    nq_outcome *both[] = {&done, &dead};
    T_OK(nq_store_finish(nq_store_of(q), both, 2, &t_last));
    f->claim = list;
    f->waiting = T_ADD(q, .type = "made", .queue = "q", .delay_us = NQ_HOURS(1));
    f->cancelled = T_ADD(q, .type = "made", .queue = "q", NQ_BYTES("c"));
    T_OK(nq_cancel(q, f->cancelled, &t_last));
}

struct admin_seen {
    nq_id ids[64];
    size_t n, stop_at;
    size_t longest;
};

static int admin_see(const nq_info *info, void *arg)
{
    struct admin_seen *s = arg;
    ck_assert_uint_lt(s->n, 64);
    ck_assert_ptr_nonnull(info->queue);
    ck_assert_ptr_nonnull(info->type);
    ck_assert_ptr_nonnull(info->payload);
    ck_assert_ptr_nonnull(info->error);
    ck_assert_ptr_nonnull(info->worker);
    s->ids[s->n++] = info->id;
    if (info->payload_size > s->longest)
        s->longest = info->payload_size;
    return s->n == s->stop_at;
}

static size_t admin_list(nq *q, struct admin_seen *seen, nq_list_options o)
{
    size_t stop_at = seen->stop_at;
    memset(seen, 0, sizeof *seen);
    seen->stop_at = stop_at;
    o.size = sizeof o;
    T_OK(nq_list(q, &o, admin_see, seen, &t_last));
    for (size_t i = 1; i < seen->n; i++)
        ck_assert_int_gt(seen->ids[i], seen->ids[i - 1]);
    return seen->n;
}

START_TEST(list_filters_by_state_queue_and_type_and_pages_by_id)
{
    nq *q = t_open();
    static const char *const names[] = {"q", "other"};
    struct admin_five f;
    admin_make(q, &f);
    nq_id other = T_ADD(q, .type = "other");
    struct admin_seen seen = {0};
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.size = 0}), 6);
    const nq_id by_state[] = {0, f.running, f.done, f.dead, f.cancelled};
    for (int state = 1; state <= 4; state++) {
        ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.states = NQ_STATE_BIT(state)}), 1);
        ck_assert_int_eq(seen.ids[0], by_state[state]);
    }
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.states = NQ_STATE_BIT(NQ_STATE_WAITING)}), 2);
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.queues = &names[0], .nqueues = 1}), 5);
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.types = &names[1], .ntypes = 1}), 1);
    ck_assert_int_eq(seen.ids[0], other);
    ck_assert_uint_eq(
        admin_list(q, &seen,
                   (nq_list_options){.queues = &names[0], .nqueues = 1, .types = &names[1], .ntypes = 1}),
        0);
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.limit = 4}), 4);
    nq_id last = seen.ids[3];
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.limit = 4, .after = last}), 2);
    ck_assert_int_gt(seen.ids[0], last);
    seen.stop_at = 2;
    ck_assert_uint_eq(admin_list(q, &seen, (nq_list_options){.size = 0}), 2);
    memset(&seen, 0, sizeof seen);
    T_OK(nq_list(q, NULL, admin_see, &seen, &t_last));
    ck_assert_uint_eq(seen.n, 6);
    nq_list_options bad = {.size = sizeof bad, .states = NQ_STATE_BIT(5)};
    T_FAILS(nq_list(q, &bad, admin_see, &seen, &t_last), NQ_EINVAL);
    bad = (nq_list_options){.size = sizeof bad, .limit = 10001};
    T_FAILS(nq_list(q, &bad, admin_see, &seen, &t_last), NQ_EINVAL);
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

/* What is listed with these options, as text: "3 2 1". */
static const char *admin_order(nq *q, nq_list_options o)
{
    static char text[400];
    struct admin_seen seen = {0};
    o.size = sizeof o;
    T_OK(nq_list(q, &o, admin_see, &seen, &t_last));
    text[0] = '\0';
    for (size_t i = 0; i < seen.n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), i ? " %d" : "%d", (int)seen.ids[i]);
    return text;
}

#define ADMIN_LISTS(text, ...) ck_assert_str_eq(admin_order(q, (nq_list_options){__VA_ARGS__}), text)

/* A task of this id: a cluster gives others. */
static void admin_add(nq *q, int id)
{
    const nq_id given = T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_sql("UPDATE nanoq_tasks SET id = %d WHERE id = %lld", id, (long long)given);
}

START_TEST(list_pages_in_both_orders_and_directions)
{
    nq *q = t_open();
    for (int i = 1; i <= 9; i++)
        admin_add(q, i);
    for (nq_id id = 2; id <= 8; id += 3)
        T_OK(nq_cancel(q, id, &t_last)); /* pages go through both tables */
    ADMIN_LISTS("1 2 3 4 5 6 7 8 9", .limit = 0);
    ADMIN_LISTS("9 8 7 6 5 4 3 2 1", .order = NQ_NEWEST_FIRST);
    ADMIN_LISTS("1 2 3 4", .limit = 4);
    ADMIN_LISTS("5 6 7 8", .limit = 4, .after = 4);
    ADMIN_LISTS("9", .limit = 4, .after = 8);
    ADMIN_LISTS("5 6 7 8", .limit = 4, .before = 9);
    ADMIN_LISTS("1 2 3 4", .limit = 4, .before = 5);
    ADMIN_LISTS("", .limit = 4, .before = 1);
    ADMIN_LISTS("9 8 7 6", .order = NQ_NEWEST_FIRST, .limit = 4);
    ADMIN_LISTS("5 4 3 2", .order = NQ_NEWEST_FIRST, .limit = 4, .after = 6);
    ADMIN_LISTS("8 7 6", .order = NQ_NEWEST_FIRST, .limit = 3, .before = 5);
    ADMIN_LISTS("4 5", .after = 3, .before = 6);
    ADMIN_LISTS("4", .after = 3, .before = 6, .limit = 1);
    ADMIN_LISTS("5 4", .order = NQ_NEWEST_FIRST, .after = 6, .before = 3);
    /* A cursor is an id that need not be there any more, and what comes later shifts no page. */
    T_OK(nq_delete(q, 4, &t_last));
    admin_add(q, 10);
    ADMIN_LISTS("5 6 7 8", .limit = 4, .after = 4);
    ADMIN_LISTS("7 6 5", .order = NQ_NEWEST_FIRST, .limit = 3, .after = 8);
    ADMIN_LISTS("1 2 3", .limit = 4, .before = 4);
    nq_close(q);
}
END_TEST

START_TEST(list_takes_several_states_queues_and_types)
{
    nq *q = t_open();
    static const char *const queues[] = {"q", "r", "nowhere"}, *const types[] = {"made", "x", "y'%_"};
    struct admin_five f;
    admin_make(q, &f);
    nq_id x = T_ADD(q, .type = "x", .queue = "r"), y = T_ADD(q, .type = "y'%_", .queue = "s");
    struct admin_seen seen = {0};
    nq_list_options o = {.states = NQ_STATE_BIT(NQ_STATE_RUNNING) | NQ_STATE_BIT(NQ_STATE_DEAD)};
    ck_assert_uint_eq(admin_list(q, &seen, o), 2);
    ck_assert_int_eq(seen.ids[0] + seen.ids[1], f.running + f.dead);
    o.states = NQ_STATE_BIT(NQ_STATE_DONE) | NQ_STATE_BIT(NQ_STATE_CANCELLED);
    ck_assert_uint_eq(admin_list(q, &seen, o), 2);
    o = (nq_list_options){.queues = queues, .nqueues = 3};
    ck_assert_uint_eq(admin_list(q, &seen, o), 6);
    ck_assert_int_eq(seen.ids[5], x);
    o = (nq_list_options){.types = types + 1, .ntypes = 2};
    ck_assert_uint_eq(admin_list(q, &seen, o), 2);
    ck_assert_int_eq(seen.ids[1], y);
    o = (nq_list_options){.queues = queues,
                          .nqueues = 3,
                          .types = types + 1,
                          .ntypes = 2,
                          .states = NQ_STATE_BIT(NQ_STATE_WAITING)};
    ck_assert_uint_eq(admin_list(q, &seen, o), 1);
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

START_TEST(list_takes_as_many_names_as_it_says_and_refuses_what_it_cannot)
{
    nq *q = t_open();
    static char names[NQ_MAX_LIST_NAMES + 1][8];
    const char *all[NQ_MAX_LIST_NAMES + 1];
    struct admin_seen seen = {0};
    for (int i = 0; i <= NQ_MAX_LIST_NAMES; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        all[i] = names[i];
    }
    T_ADD(q, .type = "n99", .queue = "n98");
    nq_list_options o = {.queues = all,
                         .nqueues = NQ_MAX_LIST_NAMES,
                         .types = all,
                         .ntypes = NQ_MAX_LIST_NAMES,
                         .states = 0x1d,
                         .after = 0,
                         .before = 1000};
    ck_assert_uint_eq(admin_list(q, &seen, o), 1);
    o.size = sizeof o;
    const nq_list_options good = o;
    o.nqueues++;
    T_FAILS(nq_list(q, &o, admin_see, &seen, &t_last), NQ_EINVAL);
    o = good;
    o.types = NULL;
    T_FAILS(nq_list(q, &o, admin_see, &seen, &t_last), NQ_EINVAL);
    o = good;
    all[3] = "no space";
    T_FAILS(nq_list(q, &o, admin_see, &seen, &t_last), NQ_EINVAL);
    all[3] = "n3";
    o.order = 2;
    T_FAILS(nq_list(q, &o, admin_see, &seen, &t_last), NQ_EINVAL);
    o = good;
    o.before = -1;
    T_FAILS(nq_list(q, &o, admin_see, &seen, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

struct admin_inside {
    nq *q;
    unsigned calls;
};

static int admin_call(const nq_info *info, void *arg)
{
    struct admin_inside *in = arg;
    struct admin_seen seen = {0};
    in->calls++;
    T_OK(nq_get(in->q, info->id, admin_see, &seen, &t_last));
    T_OK(nq_delete(in->q, info->id, &t_last));
    T_ADD(in->q, .type = "next", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_list(in->q, NULL, admin_see, &seen, &t_last));
    ck_assert_str_eq(info->type, "t");
    return 0;
}

static int admin_call_once(const nq_info *info, void *arg)
{
    struct admin_inside *in = arg;
    in->calls++;
    T_OK(nq_delete(in->q, info->id, &t_last));
    return 0;
}

static int admin_call_stats(const nq_queue_stats *stats, void *arg)
{
    struct admin_inside *in = arg;
    in->calls++;
    T_ADD(in->q, .type = "t", .queue = stats->queue, .unique = NQ_UNIQUE_NONE);
    return 0;
}

/* A SQLite handle has one connection: who shows rows while it holds that would wait for itself. */
START_TEST(callbacks_may_call_into_the_handle)
{
    struct admin_inside in = {.q = t_open()};
    for (int i = 0; i < 5; i++)
        T_ADD(in.q, .type = "t", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_list(in.q, NULL, admin_call, &in, &t_last));
    ck_assert_uint_eq(in.calls, 5);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'next'"), 5);
    T_OK(nq_get(in.q, t_sql("SELECT MIN(id) FROM nanoq_tasks"), admin_call_once, &in, &t_last));
    ck_assert_uint_eq(in.calls, 6);
    T_OK(nq_stats(in.q, admin_call_stats, &in, &t_last));
    ck_assert_uint_eq(in.calls, 7);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 5);
    nq_close(in.q);
}
END_TEST

static int admin_short_payload(const nq_info *info, void *arg)
{
    const char *big = arg;
    ck_assert_uint_eq(info->payload_size, 5000);
    ck_assert_int_eq(memcmp(info->payload, big, 256), 0);
    return 0;
}

START_TEST(list_shows_the_head_of_a_payload_and_get_the_whole)
{
    char big[5000];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7);
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t", .payload = big, .payload_size = sizeof big);
    T_OK(nq_list(q, NULL, admin_short_payload, big, &t_last));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(memcmp(t.payload, big, sizeof big), 0);
    t_task_free(&t);
    nq_close(q);
}
END_TEST

START_TEST(unknown_ids_are_not_found)
{
    nq *q = t_open();
    static const nq_id ids[] = {1, 999999, INT64_MAX, 0, -1};
    for (size_t i = 0; i < 5; i++) {
        struct admin_seen seen = {0};
        T_FAILS(nq_get(q, ids[i], admin_see, &seen, &t_last), NQ_ENOTFOUND);
        ck_assert_uint_eq(seen.n, 0);
        T_FAILS(nq_retry(q, ids[i], &t_last), NQ_ENOTFOUND);
        T_FAILS(nq_cancel(q, ids[i], &t_last), NQ_ENOTFOUND);
        T_FAILS(nq_delete(q, ids[i], &t_last), NQ_ENOTFOUND);
    }
    nq_close(q);
}
END_TEST

START_TEST(retry_brings_back_what_ended_and_hastens_what_waits)
{
    nq *q = t_open();
    struct admin_five f;
    admin_make(q, &f);
    T_FAILS(nq_retry(q, f.running, &t_last), NQ_ESTATE);
    ck_assert_int_eq(t_state(q, f.running), NQ_STATE_RUNNING);
    const nq_id ids[] = {f.waiting, f.done, f.dead, f.cancelled};
    for (int i = 0; i < 4; i++) {
        T_OK(nq_retry(q, ids[i], &t_last));
        t_task t;
        ck_assert_int_eq(t_get(q, ids[i], &t), NQ_OK);
        ck_assert_int_eq(t.info.state, NQ_STATE_WAITING);
        ck_assert_int_le(t.info.run_at_us, t_now(q));
        ck_assert_uint_eq(t.info.attempts, 0);
        ck_assert_uint_eq(t.info.crashes, 0);
        ck_assert_int_eq(t.info.finished_at_us, 0);
        t_task_free(&t);
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_finished"), 0);
    size_t n = 0;
    nq_claimed *list = t_claim_queue(q, "q", NQ_LEASE(2, 1), 10, &n);
    ck_assert_uint_eq(n, 4);
    t_free_claimed(list);
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

START_TEST(retry_of_a_task_whose_key_lives_again_is_a_duplicate)
{
    nq *q = t_open();
    nq_id old = T_ADD(q, .type = "t", NQ_BYTES("k"));
    T_OK(nq_cancel(q, old, &t_last));
    nq_id live = T_ADD(q, .type = "t", NQ_BYTES("k"));
    T_FAILS(nq_retry(q, old, &t_last), NQ_EDUPLICATE);
    ck_assert_int_eq(t_state(q, old), NQ_STATE_CANCELLED);
    T_OK(nq_delete(q, live, &t_last));
    T_OK(nq_retry(q, old, &t_last));
    nq_id id = 0; /* the key came back with it */
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("k")), &id, &t_last), NQ_DUPLICATE);
    ck_assert_int_eq(id, old);
    /* One that had no key does not get one. */
    nq_id none = T_ADD(q, .type = "n", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_cancel(q, none, &t_last));
    T_ADD(q, .type = "n");
    T_OK(nq_retry(q, none, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(cancel_takes_what_waits_and_asks_for_what_runs)
{
    nq *q = t_open();
    struct admin_five f;
    admin_make(q, &f);
    T_OK(nq_cancel(q, f.waiting, &t_last));
    ck_assert_int_eq(t_state(q, f.waiting), NQ_STATE_CANCELLED);
    T_FAILS(nq_cancel(q, f.waiting, &t_last), NQ_ESTATE);
    T_OK(nq_cancel(q, f.running, &t_last));
    T_OK(nq_cancel(q, f.running, &t_last));
    T_FAILS(nq_cancel(q, f.done, &t_last), NQ_ESTATE);
    T_FAILS(nq_cancel(q, f.dead, &t_last), NQ_ESTATE);
    ck_assert_int_eq(t_state(q, f.running), NQ_STATE_RUNNING);
    t_task t;
    ck_assert_int_eq(t_get(q, f.cancelled, &t), NQ_OK);
    ck_assert_str_eq((char *)t.payload, "c");
    ck_assert_int_gt(t.info.finished_at_us, 0);
    t_task_free(&t);
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

START_TEST(delete_takes_all_but_what_runs)
{
    nq *q = t_open();
    struct admin_five f;
    admin_make(q, &f);
    const nq_id ids[] = {f.waiting, f.done, f.dead, f.cancelled};
    for (int i = 0; i < 4; i++) {
        T_OK(nq_delete(q, ids[i], &t_last));
        ck_assert_int_eq(t_state(q, ids[i]), -1);
        T_FAILS(nq_delete(q, ids[i], &t_last), NQ_ENOTFOUND);
    }
    T_FAILS(nq_delete(q, f.running, &t_last), NQ_ESTATE);
    ck_assert_int_eq(t_state(q, f.running), NQ_STATE_RUNNING);
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

struct admin_totals {
    char names[128];
    nq_queue_stats q;
};

static int admin_total(const nq_queue_stats *s, void *arg)
{
    struct admin_totals *t = arg;
    strcat(strcat(t->names, s->queue), " ");
    if (strcmp(s->queue, "q") == 0)
        t->q = *s;
    return 0;
}

START_TEST(stats_count_by_queue_and_state)
{
    nq *q = t_open();
    struct admin_totals t = {0};
    T_OK(nq_stats(q, admin_total, &t, &t_last));
    ck_assert_str_eq(t.names, "");
    struct admin_five f;
    admin_make(q, &f);
    T_ADD(q, .type = "a", .queue = "b");
    T_ADD(q, .type = "due", .queue = "q", .run_at_us = t_now(q) - NQ_SECONDS(100));
    T_ADD(q, .type = "due2", .queue = "q", .priority = 9);
    nq_id ended = T_ADD(q, .type = "e", .queue = "a-only-ended");
    T_OK(nq_cancel(q, ended, &t_last));
    T_OK(nq_stats(q, admin_total, &t, &t_last));
    ck_assert_str_eq(t.names, "a-only-ended b q ");
    ck_assert_uint_eq(t.q.due, 2);
    ck_assert_uint_eq(t.q.delayed, 1);
    ck_assert_uint_eq(t.q.running, 1);
    ck_assert_uint_eq(t.q.done, 1);
    ck_assert_uint_eq(t.q.dead, 1);
    ck_assert_uint_eq(t.q.cancelled, 1);
    ck_assert_int_ge(t.q.oldest_due_us, NQ_SECONDS(100));
    ck_assert_int_lt(t.q.oldest_due_us, NQ_SECONDS(160));
    t_free_claimed(f.claim);
    nq_close(q);
}
END_TEST

Suite *suite_admin(void)
{
    Suite *s = suite_create("admin");
    TCase *c = t_case(s, "admin", 30);
    tcase_add_test(c, list_filters_by_state_queue_and_type_and_pages_by_id);
    tcase_add_test(c, list_pages_in_both_orders_and_directions);
    tcase_add_test(c, list_takes_several_states_queues_and_types);
    tcase_add_test(c, list_takes_as_many_names_as_it_says_and_refuses_what_it_cannot);
    tcase_add_test(c, callbacks_may_call_into_the_handle);
    tcase_add_test(c, list_shows_the_head_of_a_payload_and_get_the_whole);
    tcase_add_test(c, unknown_ids_are_not_found);
    tcase_add_test(c, retry_brings_back_what_ended_and_hastens_what_waits);
    tcase_add_test(c, retry_of_a_task_whose_key_lives_again_is_a_duplicate);
    tcase_add_test(c, cancel_takes_what_waits_and_asks_for_what_runs);
    tcase_add_test(c, delete_takes_all_but_what_runs);
    tcase_add_test(c, stats_count_by_queue_and_state);
    return s;
}
