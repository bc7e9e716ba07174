/* SPDX-License-Identifier: MIT */
/* Tags of a task: shown wherever it is, their rows made with it, swept when it is gone. */
#include "keys.h"

static const char *const tags_two[] = {"customer:42", "\xc3\xbc nice one"};
#define TAGS_TWO  .tags = tags_two, .ntags = 2
#define TAGS_A    .tags = (const char *const[]){"a"}, .ntags = 1
#define TAGS_B    .tags = (const char *const[]){"b"}, .ntags = 1

#define TAGS_ROWS "SELECT COUNT(*) FROM nanoq_tags"

/* How many rows of this tag are of this task. */
static void tags_has(nq_id id, const char *tag, int n)
{
    ck_assert_int_eq(t_sql(TAGS_ROWS " WHERE tag = %s'%s'%s AND task_id = %lld", T_SQLITE ? "CAST(" : "", tag,
                           T_SQLITE ? " AS BLOB)" : "", (long long)id),
                     n);
}

static void tags_are_two(const char *const *tags, size_t n)
{
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++)
        ck_assert_str_eq(tags[i], tags_two[i]);
}

static int tags_see_two(const nq_info *info, void *udata)
{
    tags_are_two(info->tags, info->ntags);
    ck_assert_uint_eq(info->nheaders, *(size_t *)udata);
    return 0;
}

static int tags_see_none(const nq_info *info, void *udata)
{
    (void)udata;
    ck_assert_uint_eq(info->ntags, 0);
    ck_assert_ptr_null(info->tags);
    return 0;
}

static size_t tags_sweep(nq *q)
{
    size_t n = 0, passes = 0;
    do
        T_OK(nq_store_tags_sweep(nq_store_of(q), 500, &n, &t_last));
    while (n > 0 && ++passes < 100);
    return passes;
}

START_TEST(they_are_shown_and_have_rows)
{
    static const nq_header lang = {"lang", "de"};
    size_t headers = 1;
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t", TAGS_TWO, .headers = &lang, .nheaders = 1);
    const nq_id other = T_ADD(q, .type = "other");
    T_OK(nq_get(q, id, tags_see_two, &headers, &t_last));
    T_OK(nq_get(q, other, tags_see_none, NULL, &t_last));
    tags_has(id, tags_two[0], 1);
    tags_has(id, tags_two[1], 1);
    ck_assert_int_eq(t_sql(TAGS_ROWS), 2);
    nq_claimed *c = t_claim(q, NQ_LEASE(1, 1), 1, &headers);
    tags_are_two(c->task.tags, c->task.ntags);
    ck_assert_uint_eq(c->task.nheaders, 1);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, "why"), NQ_OK);
    t_free_claimed(c);
    T_OK(nq_get(q, id, tags_see_two, &headers, &t_last));
    /* They stay while there is a record of it, and when it goes back. */
    ck_assert_uint_eq(tags_sweep(q), 0);
    T_OK(nq_retry(q, id, &t_last));
    ck_assert_uint_eq(tags_sweep(q), 0);
    tags_has(id, tags_two[0], 1);
    T_OK(nq_delete(q, id, &t_last));
    ck_assert_uint_gt(tags_sweep(q), 0);
    ck_assert_int_eq(t_sql(TAGS_ROWS), 0);
    nq_close(q);
}
END_TEST

START_TEST(many_at_once_have_theirs)
{
    enum { N = 700 };
    nq *q = t_open();
    static nq_task_spec specs[N];
    static nq_id ids[N];
    static int results[N];
    static char payloads[N][8];
    t_conn *mine = t_connect();
    for (int theirs = 0; theirs < 2; theirs++) {
        for (int i = 0; i < N; i++) {
            snprintf(payloads[i], sizeof payloads[i], "%d", i % 600 + theirs * 1000);
            specs[i] = *NQ_TASK(.type = "t", .payload = payloads[i], .payload_size = strlen(payloads[i]));
            specs[i].tags = i % 3 == 0 ? tags_two : NULL;
            specs[i].ntags = i % 3 == 0 ? 2 : 0;
        }
        IN(T_OK(nq_enqueue_many(q, theirs ? t_tx(mine) : NQ_OWN_TX, specs, N, ids, results, &t_last)));
        for (int i = 0; i < N; i++) {
            ck_assert_int_eq(results[i], i < 600 ? NQ_OK : NQ_DUPLICATE);
            if (i % 50 == 0 && i < 600)
                tags_has(ids[i], tags_two[0], i % 3 == 0);
        }
        ck_assert_int_eq(t_sql(TAGS_ROWS), 400 * (theirs + 1)); /* those of duplicates are not added */
    }
    /* Those of a transaction that is rolled back neither. */
    t_begin(mine);
    T_OK(nq_enqueue(q, t_tx(mine), NQ_TASK(.type = "x", TAGS_TWO), NULL, &t_last));
    t_run(mine, "ROLLBACK");
    ck_assert_int_eq(t_sql(TAGS_ROWS), 800);
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

/* What a waiting task is replaced by has its own tags; what is appended to it changes none. */
START_TEST(they_go_with_what_replaces)
{
    for (int theirs = 0; theirs < 2; theirs++) {
        nq *q = t_open();
        t_conn *mine = t_connect();
        const nq_tx tx = theirs ? t_tx(mine) : NQ_OWN_TX;
        nq_id id;
        IN(id = keys_add(q, tx, KEYED(NQ_BYTES("1"), .duplicate = NQ_REPLACE, TAGS_A), NQ_OK));
        tags_has(id, "a", 1);
        IN(keys_add(q, tx, KEYED(NQ_BYTES("2"), .duplicate = NQ_REPLACE, TAGS_B), NQ_OK));
        tags_has(id, "a", 0);
        tags_has(id, "b", 1);
        IN(keys_add(q, tx, KEYED(NQ_BYTES("3"), .duplicate = NQ_APPEND, TAGS_A), NQ_OK));
        tags_has(id, "a", 0);
        tags_has(id, "b", 1);
        IN(keys_add(q, tx, REPLACING("4"), NQ_OK));
        ck_assert_int_eq(t_sql(TAGS_ROWS), 0);
        /* One that runs: what follows it has them when it is there. */
        nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
        IN(keys_add(q, tx, KEYED(NQ_BYTES("5"), .duplicate = NQ_REPLACE, TAGS_A), NQ_OK));
        ck_assert_int_eq(t_sql(TAGS_ROWS), 0);
        keys_done(q, c);
        ck_assert_uint_eq(keys_promote(q), 1);
        ck_assert_int_eq(t_sql(TAGS_ROWS), 1);
        c = t_claim_one(q, NQ_LEASE(1, 2));
        ck_assert_uint_eq(c->task.ntags, 1);
        ck_assert_str_eq(c->task.tags[0], "a");
        tags_has(c->task.id, "a", 1);
        keys_done(q, c);
        tags_sweep(q);
        /* And one that was changed while its follow-up came. */
        id = keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("6"), .duplicate = NQ_REPLACE, TAGS_A), NQ_OK);
        c = t_claim_one(q, NQ_LEASE(1, 3));
        keys_add(q, NQ_OWN_TX, KEYED(NQ_BYTES("7"), .duplicate = NQ_REPLACE, TAGS_B), NQ_OK);
        ck_assert_int_eq(t_finish(q, c, NQ_OUT_RELEASE, 0, NULL), NQ_OK);
        t_free_claimed(c);
        ck_assert_uint_eq(keys_promote(q), 1);
        tags_has(id, "a", 0);
        tags_has(id, "b", 1);
        keys_runs(q, "7");
        t_disconnect(mine);
        nq_close(q);
        t_sql("DELETE FROM nanoq_tags");
    }
}
END_TEST

START_TEST(followups_and_letters_have_them)
{
    nq *q = t_open();
    T_OK(nq_queue_set(q, "mail", &(nq_queue_settings){.size = sizeof(nq_queue_settings), .dead_to = "dead"},
                      &t_last));
    const nq_id id = T_ADD(q, .type = "t", .queue = "mail", TAGS_A);
    size_t n;
    nq_claimed *c = t_claim_queue(q, "mail", NQ_LEASE(1, 1), 1, &n);
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .queue = "mail", TAGS_B), NULL, &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DEAD, 0, "why"), NQ_OK);
    t_free_claimed(c);
    tags_has(id, "a", 1);
    tags_has(t_sql("SELECT id FROM nanoq_tasks WHERE queue = 'dead'"), "a", 1);
    ck_assert_uint_eq(keys_promote(q), 1);
    tags_has(t_sql("SELECT id FROM nanoq_tasks WHERE queue = 'mail'"), "b", 1);
    nq_close(q);
}
END_TEST

START_TEST(tasks_of_schedules_have_them)
{
    nq *q = t_open();
    const nq_schedule s = {.size = sizeof s,
                           .name = "nightly",
                           .spec = "@daily",
                           .overlap = NQ_OVERLAP_ALLOW,
                           .task = NQ_TASK(.type = "t", TAGS_TWO)};
    nq_id id = 0;
    size_t headers = 0;
    T_OK(nq_schedule_set(q, NQ_OWN_TX, &s, &t_last));
    ck_assert_int_eq(t_sql(TAGS_ROWS), 0);
    T_OK(nq_schedule_run(q, "nightly", &id, &t_last));
    tags_has(id, tags_two[1], 1);
    T_OK(nq_get(q, id, tags_see_two, &headers, &t_last));
    nq_scheduler state = {0};
    t_sql("UPDATE nanoq_schedules SET next_at = last_at");
    t_sql(T_SQLITE ? "UPDATE nanoq_schedules SET next_at = 1000000000000000"
                   : "UPDATE nanoq_schedules SET next_at = '2001-01-01'");
    T_OK(nq_store_fire(nq_store_of(q), &state, &t_last));
    ck_assert_int_eq(t_sql(TAGS_ROWS), 4);
    nq_close(q);
}
END_TEST

START_TEST(wrong_ones_are_refused)
{
    static const char *const bad[] = {
        "",         "a,b",  " a",
        "a ",       "a\nb", "\xff",
        "\xc2\x85", NULL,   "0123456789012345678901234567890123456789012345678901234567890123456"};
    static const char *const many[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9"};
    static const char *const twice[] = {"a", "b", "a"};
    nq *q = t_open();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .tags = &bad[i], .ntags = 1), NULL, &t_last),
                NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .tags = many, .ntags = 9), NULL, &t_last),
            NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .ntags = 1), NULL, &t_last), NQ_EINVAL);
    char value[4000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    const nq_header header = {"h", value};
    T_OK(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .headers = &header, .nheaders = 1, TAGS_A), NULL,
                    &t_last));
    T_FAILS(nq_enqueue(q, NQ_OWN_TX,
                       NQ_TASK(.type = "u", .headers = &header, .nheaders = 1, .tags = many, .ntags = 8),
                       NULL, &t_last),
            NQ_ETOOBIG);
    const nq_id id = T_ADD(q, .type = "v", .tags = twice, .ntags = 3);
    ck_assert_int_eq(t_sql(TAGS_ROWS " WHERE task_id = %lld", (long long)id), 2);
    nq_close(q);
}
END_TEST

static int tags_count(const nq_info *info, void *udata)
{
    for (size_t i = 0; i < info->ntags; i++)
        ck_assert_uint_le(strlen(info->tags[i]), NQ_MAX_TAG);
    *(size_t *)udata = info->ntags;
    return 0;
}

/* Whatever stands in the column: what is read are eight good ones at most, and nothing stops. */
START_TEST(hostile_ones_are_passed_over)
{
    enum { LINES = 400 };
    nq *q = t_open();
    nq_buf b = {0};
    size_t n = 0;
    for (int i = 0; i < LINES; i++)
        nq_buf_fmt(&b, "nq-tag: %d\n", i % 9);
    t_sql("INSERT INTO nanoq_tasks (id, type, headers) VALUES (7, 't', '%s')", b.p);
    T_OK(nq_get(q, 7, tags_count, &n, &t_last));
    ck_assert_uint_eq(n, NQ_MAX_TAGS);
    nq_buf_clear(&b);
    for (int i = 0; i < 90; i++)
        nq_buf_fmt(&b, "h%d: v\nnq-tag: %d\n", i, i);
    t_sql("UPDATE nanoq_tasks SET headers = '%s'", b.p);
    T_OK(nq_get(q, 7, tags_count, &n, &t_last));
    ck_assert_uint_eq(n, NQ_MAX_TAGS);
    t_sql("UPDATE nanoq_tasks SET headers = 'nq-tag:\nnq-tag: \nnq-tag: a,b\nnq-tag:  \nnq-tag: ok'");
    T_OK(nq_get(q, 7, tags_count, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_uint_eq(c->task.ntags, 1);
    keys_done(q, c);
    /* Rows of tasks that never were, and of numbers that are none. */
    t_sql(T_SQLITE ? "INSERT INTO nanoq_tags (tag, task_id) VALUES (x'ff', 5), (x'00', 9223372036854775807)"
                   : "INSERT INTO nanoq_tags (tag, task_id) VALUES (x'ff', 5), (x'00', 9223372036854775807), "
                     "('', 18446744073709551615)");
    ck_assert_uint_gt(tags_sweep(q), 0);
    ck_assert_int_eq(t_sql(TAGS_ROWS " WHERE task_id <= 9223372036854775807"), 0);
    nq_buf_free(&b);
    nq_close(q);
}
END_TEST

/* It goes on where it stopped, and looks at some only. */
START_TEST(the_sweep_goes_round)
{
    nq *q = t_open();
    size_t n = 0;
    t_sql(T_SQLITE
              ? "INSERT INTO nanoq_tags (tag, task_id) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT "
                "i + 1 FROM s WHERE i < 6000) SELECT x'61', i FROM s"
              : "INSERT INTO nanoq_tags (tag, task_id) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT "
                "i + 1 FROM s WHERE i < 800) SELECT 'a', i FROM s");
    t_sql("INSERT INTO nanoq_tasks (id, type) VALUES (3, 't')");
    T_OK(nq_store_tags_sweep(nq_store_of(q), 500, &n, &t_last));
    ck_assert_uint_eq(n, 500);
    ck_assert_int_eq(t_sql(TAGS_ROWS " WHERE task_id <= 501"), 1);
    ck_assert_uint_gt(tags_sweep(q), 0);
    ck_assert_int_eq(t_sql(TAGS_ROWS), 1);
    tags_has(3, "a", 1);
    ck_assert_uint_eq(tags_sweep(q), 0);
    t_sql("DELETE FROM nanoq_tasks");
    ck_assert_uint_gt(tags_sweep(q) + tags_sweep(q), 0);
    ck_assert_int_eq(t_sql(TAGS_ROWS), 0);
    nq_close(q);
}
END_TEST

Suite *suite_tags(void)
{
    Suite *s = suite_create("tags");
    TCase *c = t_case(s, "tags", 60);
    tcase_add_test(c, they_are_shown_and_have_rows);
    tcase_add_test(c, many_at_once_have_theirs);
    tcase_add_test(c, they_go_with_what_replaces);
    tcase_add_test(c, followups_and_letters_have_them);
    tcase_add_test(c, tasks_of_schedules_have_them);
    tcase_add_test(c, wrong_ones_are_refused);
    tcase_add_test(c, hostile_ones_are_passed_over);
    tcase_add_test(c, the_sweep_goes_round);
    return s;
}
