/* SPDX-License-Identifier: MIT */
/* Pages of tasks that are found: what a filter refuses, how far an answer reaches, while tasks move. */
#include "search.h"

uint64_t search_seed;
void (*search_between)(nq *q);

/* ---- Pages ---- */

int search_see(const nq_info *info, void *udata)
{
    struct search_seen *seen = udata;
    ck_assert_uint_lt(seen->n, SEARCH_N);
    seen->ids[seen->n++] = info->id;
    return 0;
}

void search_pages(nq *q, const nq_filter *f, int order, bool back, struct search_seen *all)
{
    nq_bounds bounds = {.size = sizeof bounds};
    nq_list_options o = {.size = sizeof o,
                         .filter = f,
                         .bounds = &bounds,
                         .order = order,
                         .limit = 1 + (unsigned)(t_rand(&search_seed) % 100),
                         .look = 1 + t_rand(&search_seed) % 200};
    if (back)
        o.before = order == NQ_OLDEST_FIRST ? INT64_MAX : 1;
    all->n = 0;
    for (;;) {
        struct search_seen page = {.n = 0};
        T_OK(nq_list(q, &o, search_see, &page, &t_last));
        ck_assert_uint_le(page.n, o.limit);
        ck_assert(!bounds.bounded || page.n < o.limit);
        ck_assert(bounds.bounded == (bounds.reached != 0));
        if (back) {
            memmove(all->ids + page.n, all->ids, all->n * sizeof *all->ids);
            memcpy(all->ids, page.ids, page.n * sizeof *all->ids);
        } else {
            memcpy(all->ids + all->n, page.ids, page.n * sizeof *all->ids);
        }
        all->n += page.n;
        if (page.n < o.limit && !bounds.bounded)
            return;
        if (search_between)
            search_between(q);
        if (back)
            o.before = bounds.bounded ? bounds.reached : page.ids[0];
        else
            o.after = bounds.bounded ? bounds.reached : page.ids[page.n - 1];
    }
}

void search_one_goes(nq *q)
{
    T_OK(nq_delete(q, T_ADD(q, .type = "t"), &t_last));
}

/* ---- By themselves ---- */

static size_t search_count(nq *q, nq_filter f)
{
    struct search_seen seen = {.n = 0};
    f.size = sizeof f;
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .filter = &f, .limit = 1000},
                 search_see, &seen, &t_last));
    return seen.n;
}
#define SEARCH_FINDS(n, ...) ck_assert_uint_eq(search_count(q, (nq_filter){__VA_ARGS__}), n)

START_TEST(stars_and_texts)
{
    nq *q = t_open();
    T_ADD(q, .type = "mail.send", .queue = "mail", NQ_BYTES("a*b"));
    T_ADD(q, .type = "mail*", .queue = "mail//42");
    T_ADD(q, .type = "\xf4\x8f\xbf\xbf", .queue = "mailing");
    SEARCH_FINDS(2, .types = SEARCH_NAMES("mail*"), .ntypes = 1);
    SEARCH_FINDS(3, .types = SEARCH_NAMES("*"), .ntypes = 1);
    SEARCH_FINDS(1, .types = SEARCH_NAMES("\xf4\x8f\xbf\xbf*"), .ntypes = 1);
    SEARCH_FINDS(1, .text = "*");
    SEARCH_FINDS(2, .queues = SEARCH_NAMES("mail"), .nqueues = 1);
    SEARCH_FINDS(3, .queues = SEARCH_NAMES("mail*"), .nqueues = 1);
    SEARCH_FINDS(1, .queues = SEARCH_NAMES("mail//4*"), .nqueues = 1);
    SEARCH_FINDS(1, .queues = SEARCH_NAMES("mail"), .nqueues = 1, .groups = SEARCH_NAMES("42", "43"),
                 .ngroups = 2);
    /* The fields that are not the filter's know no star. */
    struct search_seen seen = {.n = 0};
    nq_list_options o = {.size = sizeof o, .types = SEARCH_NAMES("mail*"), .ntypes = 1};
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert_uint_eq(seen.n, 1);
    nq_close(q);
}
END_TEST

static void search_refuses(nq *q, nq_filter f, const char *says)
{
    struct search_seen seen = {.n = 0};
    f.size = sizeof f;
    T_FAILS(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .filter = &f}, search_see, &seen,
                    &t_last),
            NQ_EINVAL);
    ck_assert_msg(strstr(t_last.message, says), "%s", t_last.message);
}

START_TEST(what_cannot_be_is_refused)
{
    nq *q = t_open();
    static char text[NQ_MAX_FILTER_TEXT + 2];
    memset(text, 'x', sizeof text - 1);
    search_refuses(q, (nq_filter){.queues = SEARCH_NAMES("no space"), .nqueues = 1}, "no space");
    search_refuses(q, (nq_filter){.queues = SEARCH_NAMES("no *"), .nqueues = 1}, "no ");
    search_refuses(q, (nq_filter){.queues = SEARCH_NAMES(NULL), .nqueues = 1}, "NULL");
    search_refuses(q, (nq_filter){.nqueues = 1}, "NULL");
    search_refuses(q, (nq_filter){.types = SEARCH_NAMES("\xff*"), .ntypes = 1}, "UTF-8");
    search_refuses(q, (nq_filter){.types = SEARCH_NAMES(""), .ntypes = 1}, "empty");
    search_refuses(q, (nq_filter){.groups = SEARCH_NAMES("g"), .ngroups = 1}, "without a queue");
    search_refuses(
        q, (nq_filter){.queues = SEARCH_NAMES("m*"), .nqueues = 1, .groups = SEARCH_NAMES("g"), .ngroups = 1},
        "one queue");
    search_refuses(q, (nq_filter){.tags = SEARCH_NAMES(""), .ntags = 1}, "tag");
    search_refuses(q, (nq_filter){.tags = SEARCH_NAMES("a"), .ntags = NQ_MAX_TAGS + 1}, "tags");
    search_refuses(q, (nq_filter){.error = ""}, "error");
    search_refuses(q, (nq_filter){.text = text}, "text");
    search_refuses(q, (nq_filter){.states = 32}, "states");
    search_refuses(q, (nq_filter){.time = 3}, "time");
    search_refuses(q, (nq_filter){.since_us = -1}, "since_us");
    search_refuses(q, (nq_filter){.until_us = INT64_MAX}, "until_us");
    search_refuses(q, (nq_filter){.worker = ""}, "worker");
    static const nq_id none[] = {7, 0};
    search_refuses(q, (nq_filter){.nids = 1}, "NULL");
    search_refuses(q, (nq_filter){.ids = none, .nids = 2}, "an id of the filter is 0");
    search_refuses(q, (nq_filter){.ids = none, .nids = NQ_MAX_FILTER_IDS + 1}, "1001 ids");
    const nq_filter any = {.size = sizeof any};
    struct search_seen seen = {.n = 0};
    nq_list_options o = {.size = sizeof o, .filter = &any, .states = 1};
    T_FAILS(nq_list(q, &o, search_see, &seen, &t_last), NQ_EINVAL);
    o.states = 0;
    o.bounds = &(nq_bounds){.size = 1};
    T_FAILS(nq_list(q, &o, search_see, &seen, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(an_answer_says_how_far_it_reaches)
{
    t_ids_in_a_row();
    nq *q = t_open();
    for (int i = 0; i < 300; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_sql("UPDATE nanoq_tasks SET error = %s WHERE id IN (2, 290)", "X'626164'");
    const nq_filter f = {.size = sizeof f, .error = "bad"};
    nq_bounds bounds = {.size = sizeof bounds};
    nq_list_options o = {
        .size = sizeof o, .filter = &f, .bounds = &bounds, .look = 100, .order = NQ_NEWEST_FIRST};
    struct search_seen seen = {.n = 0};
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert_uint_eq(seen.n, 1);
    ck_assert(bounds.bounded);
    ck_assert_int_eq(bounds.reached, 201);
    o.after = bounds.reached;
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert_int_eq(bounds.reached, 101);
    o.after = bounds.reached;
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert_uint_eq(seen.n, 2);
    ck_assert_int_eq(seen.ids[1], 2);
    /* What fills the limit is whole, and so is what an index leads to. */
    o.after = 0;
    o.limit = 1;
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert(!bounds.bounded);
    T_OK(nq_cancel(q, 3, &t_last));
    const nq_filter cancelled = {.size = sizeof cancelled, .states = NQ_STATE_BIT(NQ_STATE_CANCELLED)};
    o = (nq_list_options){.size = sizeof o, .filter = &cancelled, .bounds = &bounds, .look = 1};
    bounds.bounded = true;
    T_OK(nq_list(q, &o, search_see, &seen, &t_last));
    ck_assert_int_eq(seen.ids[3], 3);
    ck_assert(!bounds.bounded);
    nq_close(q);
}
END_TEST

/* As many as may be named: they are looked up in several statements. */
START_TEST(ids_are_looked_up)
{
    t_ids_in_a_row();
    nq *q = t_open();
    static nq_id ids[NQ_MAX_FILTER_IDS];
    search_seed = t_seed();
    for (int i = 0; i < 300; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE);
    t_sql("UPDATE nanoq_tasks SET id = id + 5000 WHERE id > 151");
    T_OK(nq_cancel(q, 7, &t_last));
    for (int i = 0; i < NQ_MAX_FILTER_IDS; i++)
        ids[i] = i % 2 ? 500 - i / 2 : 5001 + i / 2;
    const nq_filter f = {.size = sizeof f, .ids = ids, .nids = NQ_MAX_FILTER_IDS};
    for (int order = NQ_OLDEST_FIRST; order <= NQ_NEWEST_FIRST; order++) {
        struct search_seen seen;
        search_pages(q, &f, order, false, &seen);
        ck_assert_uint_eq(seen.n, 300);
        for (size_t i = 0; i < 300; i++) {
            const nq_id at = (nq_id)(order == NQ_OLDEST_FIRST ? i + 1 : 300 - i);
            ck_assert_int_eq(seen.ids[i], at > 151 ? at + 5000 : at);
        }
    }
    nq_counted k = {.size = sizeof k};
    T_OK(nq_count(q, &f, NULL, &k, &t_last));
    ck_assert(k.n == 300 && !k.more && !k.bounded);
    T_OK(nq_count(q, &f, &(nq_count_options){.size = sizeof(nq_count_options), .most = 200}, &k, &t_last));
    ck_assert(k.n == 200 && k.more && !k.bounded);
    T_OK(nq_count(q, &f, &(nq_count_options){.size = sizeof(nq_count_options), .exact = true}, &k, &t_last));
    ck_assert(k.n == 300 && !k.more);
    SEARCH_FINDS(1, .ids = ids, .nids = NQ_MAX_FILTER_IDS, .states = NQ_STATE_BIT(NQ_STATE_CANCELLED));
    nq_close(q);
}
END_TEST

/* ---- While tasks move ---- */

static atomic_bool search_stop;

/* From one table to the other and back, and some go for good. */
static void *search_mover(void *arg)
{
    nq *q = arg;
    uint64_t seed = 5;
    nq_err err;
    while (!atomic_load(&search_stop)) {
        const nq_id id = 2 + (nq_id)(t_rand(&seed) % 200);
        if (id % 10 == 0)
            nq_delete(q, id, &err);
        else if (nq_cancel(q, id, &err) != NQ_OK)
            nq_retry(q, id, &err);
    }
    return NULL;
}

START_TEST(pages_are_stable_while_tasks_move)
{
    t_ids_in_a_row();
    nq *q = t_open(), *other = t_open();
    pthread_t mover;
    search_seed = t_seed();
    search_one_goes(q);
    for (int i = 0; i < 200; i++)
        T_ADD(q, .type = "t", .unique = NQ_UNIQUE_NONE, .tags = SEARCH_NAMES("a"), .ntags = 1);
    atomic_store(&search_stop, false);
    t_thread(&mover, search_mover, other);
    for (int i = 0; i < 40; i++) {
        static struct search_seen seen;
        bool was[202] = {false};
        const nq_filter f = {.size = sizeof f,
                             .tags = SEARCH_NAMES("a"),
                             .ntags = i % 2 ? 1 : 0,
                             .queues = SEARCH_NAMES("default"),
                             .nqueues = i % 4 < 2 ? 1 : 0};
        search_pages(q, &f, i % 3 ? NQ_OLDEST_FIRST : NQ_NEWEST_FIRST, i % 5 == 0, &seen);
        for (size_t k = 0; k < seen.n; k++) {
            ck_assert_msg(!was[seen.ids[k]], "task %lld twice", (long long)seen.ids[k]);
            was[seen.ids[k]] = true;
        }
        for (int id = 2; id <= 201; id++)
            ck_assert_msg(id % 10 == 0 || was[id], "task %d is missing", id);
    }
    atomic_store(&search_stop, true);
    pthread_join(mover, NULL);
    nq_close(other);
    nq_close(q);
}
END_TEST

/* ---- Moves between two pages ---- */

enum { SEARCH_STILL = 60, SEARCH_MOVING = 60, SEARCH_NEW = 100 };
static nq_id search_last; /* of the ids so far */

static void search_end_one(nq *q, const nq_claimed *c)
{
    static const enum nq_outcome_kind kinds[] = {NQ_OUT_DONE, NQ_OUT_DEAD, NQ_OUT_RETRY, NQ_OUT_SNOOZE,
                                                 NQ_OUT_RELEASE};
    const size_t k = t_rand(&search_seed) % 6;
    nq_outcome o = {.id = c->task.id,
                    .lease = c->lease,
                    .kind = kinds[k % 5],
                    .keep = k == 0, /* 5: done, and gone */
                    .error = "moved",
                    .error_size = 5};
    nq_outcome *list[] = {&o};
    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
    ck_assert_int_eq(o.result, NQ_OK);
}

/* Some are claimed and end in all ways; some are retried, cancelled, deleted by hand; some are added. Of the
 * queue "moving" only. */
static void search_move(nq *q)
{
    static int seq;
    size_t n = 0;
    nq_claimed *list = t_claim_queue(q, "moving", NQ_LEASE(7, ++seq), 1 + t_rand(&search_seed) % 3, &n);
    for (const nq_claimed *c = list; c; c = c->next)
        search_end_one(q, c);
    t_free_claimed(list);
    for (int i = 0; i < 3; i++) {
        const nq_id id = search_last - (nq_id)(t_rand(&search_seed) % (SEARCH_MOVING * UINT64_C(2)));
        t_task t;
        if (id <= 0 || t_get(q, id, &t) != NQ_OK)
            continue;
        if (strcmp(t.queue, "moving") == 0)
            (i == 0 ? nq_retry : i == 1 ? nq_cancel : nq_delete)(q, id, &t_last); /* or not: its state */
        t_task_free(&t);
    }
    if (search_last < SEARCH_STILL + SEARCH_MOVING + SEARCH_NEW)
        search_last = T_ADD(q, .type = "t", .queue = "moving", .unique = NQ_UNIQUE_NONE);
}

/* In each state, among those that move; answers which: -1 is one of those. */
static void search_stand(nq *q, int state[])
{
    size_t n = 0;
    for (int i = 0; i < SEARCH_STILL; i++) {
        const int is = i % 5;
        const nq_id id = T_ADD(q, .type = "t", .queue = "still", .unique = NQ_UNIQUE_NONE,
                               .tags = SEARCH_NAMES("a"), .ntags = 1);
        state[id] = is;
        if (is == NQ_STATE_CANCELLED) {
            T_OK(nq_cancel(q, id, &t_last));
        } else if (is != NQ_STATE_WAITING) {
            nq_claimed *c = t_claim_queue(q, "still", NQ_LEASE(8, i + 1), 100, &n);
            ck_assert_uint_ge(n, 1);
            for (const nq_claimed *at = c; at; at = at->next) {
                nq_outcome o = {
                    .id = at->task.id, .lease = at->lease, .keep = true, .error = "e", .error_size = 1};
                nq_outcome *list[] = {&o};
                o.kind = at->task.id != id ? NQ_OUT_RELEASE : is == NQ_STATE_DONE ? NQ_OUT_DONE : NQ_OUT_DEAD;
                if (at->task.id != id || is != NQ_STATE_RUNNING)
                    T_OK(nq_store_finish(nq_store_of(q), list, 1, &t_last));
            }
            t_free_claimed(c);
        }
        search_last = T_ADD(q, .type = "t", .queue = "moving", .unique = NQ_UNIQUE_NONE);
    }
}

START_TEST(rows_that_stay_are_seen_once_whatever_the_others_do)
{
    static const unsigned states[] = {0, NQ_STATE_BIT(NQ_STATE_WAITING) | NQ_STATE_BIT(NQ_STATE_DONE),
                                      NQ_STATE_BIT(NQ_STATE_DEAD) | NQ_STATE_BIT(NQ_STATE_RUNNING),
                                      NQ_STATE_BIT(NQ_STATE_CANCELLED), NQ_STATE_BIT(NQ_STATE_DONE)};
    nq *q = t_open();
    int state[SEARCH_N];
    search_seed = t_seed();
    search_one_goes(q);
    memset(state, -1, sizeof state);
    search_stand(q, state);
    search_between = search_move;
    for (unsigned i = 0; i < 40; i++) {
        static struct search_seen seen;
        int was[SEARCH_N] = {0};
        nq_filter f = {.size = sizeof f, .states = states[i / 4 % 5]};
        f.tags = SEARCH_NAMES("a");
        f.ntags = i >= 20 && i % 8 < 4;
        search_pages(q, &f, i % 2 ? NQ_OLDEST_FIRST : NQ_NEWEST_FIRST, i / 2 % 2, &seen);
        for (size_t k = 0; k < seen.n; k++)
            was[seen.ids[k]]++;
        for (int id = 0; id < SEARCH_N; id++) {
            const bool found = state[id] >= 0 && (!f.states || f.states & NQ_STATE_BIT(state[id]));
            ck_assert_msg(was[id] <= 1, "walk %u: task %d was seen %d times", i, id, was[id]);
            ck_assert_msg(state[id] < 0 || was[id] == found, "walk %u: task %d, state %d, was seen %d times",
                          i, id, state[id], was[id]);
        }
    }
    search_between = NULL;
    nq_close(q);
}
END_TEST

/* Any INSERT may give one, and an nq_id cannot hold it. More tasks than one window has. */
START_TEST(ids_beyond_those_of_tasks_are_not_found)
{
    nq *q = t_open();
    const nq_filter f = {.size = sizeof f, .text = "huge"};
    t_sql("INSERT INTO nanoq_tasks (type, payload, unique_key) VALUES ('t', 'x', NULL)");
    for (int i = 0; i < 11; i++)
        t_sql("INSERT INTO nanoq_tasks (type, payload, unique_key) SELECT type, payload, NULL FROM "
              "nanoq_tasks");
    t_sql("INSERT INTO nanoq_tasks (id, type, payload) VALUES (18446744073709551600, 't', 'huge')");
    for (int order = NQ_OLDEST_FIRST; order <= NQ_NEWEST_FIRST; order++) {
        struct search_seen seen = {.n = 0};
        T_OK(nq_list(
            q,
            &(nq_list_options){.size = sizeof(nq_list_options), .filter = &f, .order = order, .look = 100000},
            search_see, &seen, &t_last));
        ck_assert_uint_eq(seen.n, 0);
    }
    nq_counted counted = {.size = sizeof counted};
    T_OK(nq_count(q, &f, NULL, &counted, &t_last));
    ck_assert_uint_eq(counted.n, 0);
    nq_close(q);
}
END_TEST

Suite *suite_search_pages(void)
{
    Suite *s = suite_create("search_pages");
    TCase *c = t_case(s, "search_pages", 60);
    tcase_add_test(c, stars_and_texts);
    tcase_add_test(c, what_cannot_be_is_refused);
    tcase_add_test(c, an_answer_says_how_far_it_reaches);
    tcase_add_test(c, ids_are_looked_up);
    if (T_MYSQL)
        tcase_add_test(c, ids_beyond_those_of_tasks_are_not_found);
    tcase_add_test(c, pages_are_stable_while_tasks_move);
    tcase_add_test(c, rows_that_stay_are_seen_once_whatever_the_others_do);
    return s;
}
