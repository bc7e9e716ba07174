/* SPDX-License-Identifier: MIT */
/* Looks at groups: what they see of what others have not committed, and how much they read. MySQL and
 * MariaDB. */
#include "../../src/store/groups.h"
#include "suites.h"

/* *n: how many groups it found. */
static int looks_try(nq_conn *c, bool dirty, nq_group groups[2], size_t *n)
{
    nq_groups_look look = {.to = "mail/0", .most = 2, .groups = groups, .dirty = dirty};
    nq_buf_str(&look.after, "mail//");
    const int rc = c->store->driver->groups(c, &look, &t_last);
    nq_buf_free(&look.after);
    *n = look.n;
    return rc;
}

static size_t looks_look(nq_conn *c, bool dirty, nq_group groups[2])
{
    size_t n = 0;
    T_OK(looks_try(c, dirty, groups, &n));
    return n;
}

static nq *looks_open(nq_conn **c)
{
    nq *q = t_open();
    T_ADD(q, .type = "t", .queue = "mail", .group = "a");
    T_OK(nq_pool_get(nq_store_of(q), c, &t_last));
    return q;
}

START_TEST(a_dirty_look_sees_what_others_are_claiming)
{
    nq_group groups[2];
    nq_conn *c;
    nq *q = looks_open(&c);
    t_conn *other = t_connect();
    ck_assert_uint_eq(looks_look(c, true, groups), 1);
    ck_assert_str_eq(groups[0].queue, "mail//a");
    t_run(other, "START TRANSACTION");
    t_run(other, "UPDATE nanoq_tasks SET state = 1, lease = 1");
    ck_assert_uint_eq(looks_look(c, false, groups), 1);
    ck_assert_uint_eq(looks_look(c, true, groups), 0);
    t_run(other, "ROLLBACK");
    ck_assert_uint_eq(looks_look(c, true, groups), 1);
    t_disconnect(other);
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

static int looks_level(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    snprintf(arg, 32, "%.*s", (int)cols[0].n, cols[0].p ? (const char *)cols[0].p : "");
    return 0;
}

/* A claim counts what is committed. */
START_TEST(what_follows_a_dirty_look_sees_what_is_committed)
{
    nq_group groups[2];
    char level[32] = "";
    nq_conn *c;
    nq *q = looks_open(&c);
    looks_look(c, true, groups);
    T_OK(c->store->driver->begin(c, &t_last));
    T_OK(nq_sql(c, "SELECT COUNT(*) FROM {tasks}", NULL, 0, NULL, NULL, NULL, &t_last));
    T_OK(nq_sql(c,
                "SELECT trx_isolation_level FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = "
                "CONNECTION_ID()",
                NULL, 0, looks_level, level, NULL, &t_last));
    ck_assert_str_eq(level, "READ COMMITTED");
    c->store->driver->rollback(c);
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

static int looks_count(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(long *)arg = strtol(cols[1].p, NULL, 10);
    return 0;
}

/* Index entries that the library's session has read, one after another. */
static long looks_entries(nq *q)
{
    nq_conn *c;
    long n = -1;
    T_OK(nq_pool_get(nq_store_of(q), &c, &t_last));
    T_OK(nq_sql(c, "SHOW SESSION STATUS LIKE 'Handler_read_next'", NULL, 0, looks_count, &n, NULL, &t_last));
    nq_pool_put(c);
    return n;
}

/* MySQL sorted them all. */
START_TEST(the_first_tasks_of_groups_are_found_without_reading_the_others)
{
    enum { GROUPS = 3, EACH = 1000, ALL = GROUPS * EACH };
    static nq_task_spec specs[ALL];
    static const char *const groups[GROUPS] = {"a", "b", "c"};
    nq *q = t_open();
    nq_claimer *c = NULL;
    nq_claimed *list = NULL;
    size_t n = 0;
    int64_t wait_us;
    for (int i = 0; i < ALL; i++)
        specs[i] =
            *NQ_TASK(.type = "t", .queue = "mail", .group = groups[i % GROUPS], .unique = NQ_UNIQUE_NONE);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, ALL, NULL, NULL, &t_last));
    t_run(t_side(), "ANALYZE TABLE nanoq_tasks");
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", NULL, 0, &t_last));
    nq_claimer_thorough(c);
    const long before = looks_entries(q);
    T_OK(nq_claimer_claim(c, NQ_LEASE(1, 1), GROUPS, NULL, &list, &n, &wait_us, &t_last));
    ck_assert_uint_eq(n, GROUPS);
    ck_assert_int_lt(looks_entries(q) - before, EACH / 2);
    for (const nq_claimed *k = list; k; k = k->next)
        ck_assert_int_le(k->task.id, GROUPS);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* It may have ended before the statement that the level was for. */
START_TEST(a_dirty_look_that_fails_takes_its_session_along)
{
    nq_group groups[2];
    nq_conn *c;
    nq *q = looks_open(&c);
    size_t n;
    t_sql("RENAME TABLE nanoq_tasks TO elsewhere");
    ck_assert_int_ne(looks_try(c, true, groups, &n), NQ_OK);
    ck_assert(c->broken);
    t_sql("RENAME TABLE elsewhere TO nanoq_tasks");
    nq_pool_put(c);
    nq_close(q);
}
END_TEST

Suite *suite_looks(void)
{
    Suite *s = suite_create("looks");
    TCase *c = t_case(s, "looks", 30);
    if (T_SQLITE)
        return s; /* there is one writer, and nobody sees what it has not committed */
    tcase_add_test(c, a_dirty_look_sees_what_others_are_claiming);
    tcase_add_test(c, what_follows_a_dirty_look_sees_what_is_committed);
    tcase_add_test(c, a_dirty_look_that_fails_takes_its_session_along);
    tcase_add_test(c, the_first_tasks_of_groups_are_found_without_reading_the_others);
    return s;
}
