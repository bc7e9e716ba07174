/* SPDX-License-Identifier: MIT */
/* Groups of a queue: their names, their turns in claims, what is counted and listed with their queue. */
#include "suites.h"

static nq_claimer *groups_claimer(nq *q, const char *queue)
{
    nq_claimer *c = NULL;
    T_OK(nq_claimer_new(&c, nq_store_of(q), queue, NULL, 0, &t_last));
    nq_claimer_thorough(c);
    return c;
}

static nq_claimed *groups_claim(nq_claimer *c, uint64_t seq, size_t limit, size_t *n, int64_t *wait_us)
{
    nq_claimed *list = NULL;
    T_OK(nq_claimer_claim(c, NQ_LEASE(1, seq), limit, NULL, &list, n, wait_us, &t_last));
    ck_assert_uint_le(*n, limit);
    return list;
}

static void groups_add(nq *q, const char *group, int n)
{
    for (int i = 0; i < n; i++)
        T_ADD(q, .type = "t", .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE);
}

static size_t groups_of(const nq_claimed *list, const char *group)
{
    size_t n = 0;
    for (; list; list = list->next) {
        ck_assert_str_eq(list->task.queue, "mail");
        n += strcmp(list->task.group ? list->task.group : "", group) == 0;
    }
    return n;
}

START_TEST(a_group_is_a_queue_by_its_name)
{
    nq *q = t_open();
    char *name;
    T_ADD(q, .type = "a", .queue = "mail", .group = "42");
    T_ADD(q, .type = "b", .queue = "mail", .group = "a/b:c.d-e_F");
    T_ADD(q, .type = "c", .queue = "mail", .group = "J\xc3\xb6rg & sons");
    T_ADD(q, .type = "d", .queue = "mail", .group = ".h-mine");
    T_ADD(q, .type = "e", .queue = "mail//43");
    T_ADD(q, .type = "f", .group = "of the default one");
    const char *const names[] = {"mail//42",  "mail//a/b:c.d-e_F", "mail//.h-",
                                 "mail//.h-", "mail//43",          "default//.h-"};
    for (int i = 0; i < 6; i++) {
        name = t_text(t_side(), "SELECT queue FROM nanoq_tasks WHERE type = '%c'", 'a' + i);
        const size_t n = strlen(names[i]);
        ck_assert_msg(strncmp(name, names[i], n) == 0, "%s", name);
        ck_assert_uint_eq(strlen(name), n + (names[i][n - 1] == '-' ? 26 : 0));
        free(name);
    }
    /* The same text has the same name, another one another. */
    T_ADD(q, .type = "g", .queue = "mail", .group = "J\xc3\xb6rg & sons");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks a JOIN nanoq_tasks b ON a.queue = b.queue "
                           "WHERE a.type = 'g' AND b.type IN ('c', 'd')"),
                     1);
    nq_close(q);
}
END_TEST

START_TEST(groups_that_cannot_be_are_refused)
{
    nq *q = t_open();
    char text[300], queue[60];
    memset(text, 'x', sizeof text);
    text[256] = '\0';
    memset(queue, 'q', sizeof queue);
    queue[40] = '\0';
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .group = ""), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .group = text), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .group = "a\nb"), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .group = "\xff"), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .queue = "a//b", .group = "c"), NULL, &t_last),
            NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .queue = "a/", .group = "c"), NULL, &t_last),
            NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .queue = queue, .group = "no name"), NULL, &t_last),
            NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "33"));
    text[255] = '\0';
    queue[33] = '\0';
    T_ADD(q, .type = "t", .queue = queue, .group = text);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    nq_close(q);
}
END_TEST

/* However many tasks one has, each group has its share of a claim, and so has the queue itself. */
START_TEST(groups_have_turns)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    size_t n = 0;
    int64_t wait = 0;
    groups_add(q, "big", 50);
    groups_add(q, "a", 3);
    groups_add(q, "b", 3);
    groups_add(q, NULL, 3);
    T_ADD(q, .type = "t", .queue = "mail-x", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "mail/0", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "mail//", .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = groups_claim(c, 1, 8, &n, &wait);
    ck_assert_uint_eq(n, 8);
    ck_assert_uint_eq(groups_of(list, "big"), 2);
    ck_assert_uint_eq(groups_of(list, "a"), 2);
    ck_assert_uint_eq(groups_of(list, "b"), 2);
    ck_assert_uint_eq(groups_of(list, ""), 2);
    t_free_claimed(list);
    size_t left = 59 - 8, big = 2;
    for (uint64_t seq = 2; left > 0; seq++) {
        list = groups_claim(c, seq, 8, &n, &wait);
        ck_assert_uint_gt(n, 0);
        big += groups_of(list, "big");
        left -= n;
        t_free_claimed(list);
    }
    ck_assert_uint_eq(big, 50);
    ck_assert_ptr_null(groups_claim(c, 100, 8, &n, &wait));
    ck_assert_int_eq(wait, -1);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* With fewer places than groups, the turns go round: none has a second one before all had theirs. */
START_TEST(turns_go_round)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    int had[26] = {0};
    size_t n = 0;
    int64_t wait;
    for (int k = 0; k < 2; k++)
        for (char g[2] = "a"; *g <= 'z'; ++*g)
            groups_add(q, g, 1);
    for (int k = 0; k < 26; k++) {
        nq_claimed *list = groups_claim(c, 1 + (uint64_t)k, 1, &n, &wait);
        ck_assert_uint_eq(n, 1);
        had[list->task.group[0] - 'a']++;
        t_free_claimed(list);
    }
    for (int k = 0; k < 26; k++)
        ck_assert_int_eq(had[k], 1);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* No task is claimed twice, however many turns its group might have: a claim of more than there is. */
START_TEST(a_group_does_not_come_round_twice_in_a_claim)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    size_t n = 0, got = 0;
    int64_t wait;
    bool seen[64] = {false};
    for (char g[2] = "a"; *g <= 'e'; ++*g)
        groups_add(q, g, 4);
    for (uint64_t seq = 1; got < 20; seq++) {
        nq_claimed *list = groups_claim(c, seq, 500, &n, &wait);
        ck_assert_uint_gt(n, 0);
        for (const nq_claimed *t = list; t; t = t->next) {
            ck_assert_int_lt(t->task.id, 64);
            ck_assert(!seen[t->task.id]);
            seen[t->task.id] = true;
            ck_assert_uint_eq(t->task.generation, 1);
        }
        got += n;
        t_free_claimed(list);
    }
    ck_assert_uint_eq(got, 20);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND generation = 1"), 20);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* Claim until three claims in a row bring nothing: how many came. */
static size_t groups_all(nq_claimer *c, uint64_t *seq, size_t limit)
{
    size_t n = 0, got = 0;
    int64_t wait;
    for (int empty = 0; empty < 3; empty = n ? 0 : empty + 1) {
        t_free_claimed(groups_claim(c, ++*seq, limit, &n, &wait));
        got += n;
    }
    return got;
}

/* Groups whose tasks another transaction holds: the windows shrink, and what is free comes all the same; so
 * does the rest when it is free again. */
START_TEST(windows_of_groups_shrink_and_grow)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    uint64_t seq = 0;
    size_t had = 0;
    char group[3] = "a0";
    for (; *group <= 'd'; ++*group)
        for (group[1] = 'a'; group[1] <= 'p'; group[1]++)
            groups_add(q, group, 3);
    if (T_MYSQL) {
        t_begin(t_side());
        t_sql("SELECT COUNT(*) FROM (SELECT id FROM nanoq_tasks FORCE INDEX (claim) WHERE queue >= 'mail//a' "
              "AND "
              "queue < 'mail//d' FOR UPDATE) held");
        had = groups_all(c, &seq, 64);
        ck_assert_uint_ge(had, 3 * 16 - 1); /* the row behind the range is held too */
        ck_assert_uint_le(had, 3 * 16);
        t_sql("COMMIT");
    }
    ck_assert_uint_eq(had + groups_all(c, &seq, 64), 3 * 64);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 1 AND generation = 1"), 3 * 64);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(priorities_order_within_a_group)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    size_t n = 0;
    int64_t wait;
    T_ADD(q, .type = "late", .queue = "mail", .group = "g", .priority = 5);
    T_ADD(q, .type = "soon", .queue = "mail", .group = "g", .priority = -5);
    T_ADD(q, .type = "far", .queue = "mail", .group = "g", .priority = -9, .delay_us = NQ_HOURS(1));
    static const char *const order[] = {"soon", "late"};
    for (int i = 0; i < 2; i++) {
        nq_claimed *list = groups_claim(c, 1 + (uint64_t)i, 1, &n, &wait);
        ck_assert_uint_eq(n, 1);
        ck_assert_str_eq(list->task.type, order[i]);
        t_free_claimed(list);
    }
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(what_comes_due_is_waited_for)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    size_t n = 9;
    int64_t wait = 0;
    T_ADD(q, .type = "t", .queue = "mail", .delay_us = NQ_MINUTES(9));
    T_ADD(q, .type = "u", .queue = "mail", .group = "g", .delay_us = NQ_MINUTES(5));
    T_ADD(q, .type = "v", .queue = "mail", .group = "h", .delay_us = NQ_MINUTES(7));
    ck_assert_ptr_null(groups_claim(c, 1, 10, &n, &wait));
    ck_assert_int_gt(wait, NQ_MINUTES(4));
    ck_assert_int_le(wait, NQ_MINUTES(5));
    t_sql("UPDATE nanoq_tasks SET state = 1 WHERE type <> 't'");
    ck_assert_ptr_null(groups_claim(c, 2, 10, &n, &wait));
    ck_assert_int_gt(wait, NQ_MINUTES(8));
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

START_TEST(types_are_filtered_in_groups_too)
{
    nq *q = t_open();
    static const char *const types[] = {"a"};
    nq_claimer *c = NULL;
    size_t n = 0;
    int64_t wait = 0;
    T_OK(nq_claimer_new(&c, nq_store_of(q), "mail", types, 1, &t_last));
    nq_claimer_thorough(c);
    T_ADD(q, .type = "b", .queue = "mail", .group = "g");
    T_ADD(q, .type = "a", .queue = "mail", .group = "g");
    T_ADD(q, .type = "a", .queue = "mail", .group = "h", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "a", .queue = "mail", .group = "i", .delay_us = NQ_MINUTES(5), .unique = NQ_UNIQUE_NONE);
    nq_claimed *list = groups_claim(c, 1, 10, &n, &wait);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(list->task.type, "a");
    t_free_claimed(list);
    ck_assert_ptr_null(groups_claim(c, 2, 10, &n, &wait));
    ck_assert_int_gt(wait, NQ_MINUTES(4));
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* Many levels of one group do not keep a claim from the others; two claimers share them all. */
START_TEST(many_groups_of_many_levels)
{
    nq *q = t_open();
    nq_claimer *c[2] = {groups_claimer(q, "mail"), groups_claimer(q, "mail")};
    size_t n = 0, got = 0, empty = 0;
    int64_t wait;
    for (int p = NQ_MIN_PRIORITY; p <= NQ_MAX_PRIORITY; p += 2)
        T_ADD(q, .type = "t", .queue = "mail", .group = "m", .priority = p, .unique = NQ_UNIQUE_NONE,
              .delay_us = p < 90 ? NQ_HOURS(1) : 0);
    t_sql("UPDATE nanoq_tasks SET state = 1 WHERE priority < -90");
    for (int k = 0; k < 150; k++) {
        char g[8];
        snprintf(g, sizeof g, "%d", k);
        groups_add(q, g, 1 + k % 2);
    }
    for (uint64_t seq = 1; empty < 2; seq++) {
        nq_claimed *list = groups_claim(c[seq % 2], seq, 1 + seq % 40, &n, &wait);
        empty = n ? 0 : empty + 1;
        got += n;
        t_free_claimed(list);
        ck_assert_uint_lt(seq, 2000);
    }
    ck_assert_uint_eq(got, 225 + 6);
    nq_claimer_free(c[0]);
    nq_claimer_free(c[1]);
    nq_close(q);
}
END_TEST

static int groups_listed(const nq_info *info, void *udata)
{
    char *at = udata;
    snprintf(at + strlen(at), 200 - strlen(at), "%s:%s ", info->queue, info->group);
    return 0;
}

static int groups_counted(const nq_queue_stats *s, void *udata)
{
    char *at = udata;
    snprintf(at + strlen(at), 200 - strlen(at), "%s:%d+%d+%d+%d/%d ", s->queue, (int)s->due, (int)s->delayed,
             (int)s->running, (int)s->dead, (int)s->groups);
    return 0;
}

START_TEST(groups_are_listed_and_counted_with_their_queue)
{
    nq *q = t_open();
    char out[200] = "";
    const char *const mail[] = {"mail"}, *const one[] = {"mail//b"};
    groups_add(q, "a", 1);
    groups_add(q, "b", 2);
    groups_add(q, NULL, 1);
    T_ADD(q, .type = "t", .queue = "mail", .group = "c", .delay_us = NQ_HOURS(1), .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "mail-x", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .queues = mail, .nqueues = 1},
                 groups_listed, out, &t_last));
    ck_assert_str_eq(out, "mail:a mail:b mail:b mail: mail:c ");
    *out = '\0';
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .queues = one, .nqueues = 1},
                 groups_listed, out, &t_last));
    ck_assert_str_eq(out, "mail:b mail:b ");
    *out = '\0';
    t_sql("UPDATE nanoq_tasks SET state = 1 WHERE queue = 'mail//a'");
    T_OK(nq_cancel(q, (nq_id)t_sql("SELECT MIN(id) FROM nanoq_tasks WHERE queue = 'mail//b'"), &t_last));
    T_OK(nq_stats(q, groups_counted, out, &t_last));
    ck_assert_str_eq(out, "mail:2+1+1+0/3 mail-x:1+0+0+0/0 ");
    nq_close(q);
}
END_TEST

/* Also of a group that is stored by its hash, and tasks of it that were set apart, whatever is before its
 * header. */
START_TEST(a_group_is_listed_by_its_text)
{
    nq *q = t_open();
    char out[200] = "";
    const char *const queues[] = {"mail", "post"}, *const grouped[] = {"mail//b"};
    groups_add(q, "b", 1);
    groups_add(q, "Smith & sons", 2);
    T_ADD(q, .type = "t", .queue = "post", .group = "Smith & sons", .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "t", .queue = "mail", .group = "Smith & son", .unique = NQ_UNIQUE_NONE);
    t_sql("UPDATE nanoq_tasks SET queue = 'mail//:t' WHERE id = 2");
    t_sql("INSERT INTO nanoq_tasks (queue, type, payload, headers) VALUES ('mail//:t', 't', '1', "
          "'a: b\nnq-group: Smith & sons\n'), ('mail//:t', 't', '2', 'a: nq-group: Smith & sons\n')");
    T_OK(
        nq_list(q,
                &(nq_list_options){
                    .size = sizeof(nq_list_options), .queues = queues, .nqueues = 2, .group = "Smith & sons"},
                groups_listed, out, &t_last));
    ck_assert_str_eq(out, "mail:Smith & sons mail:Smith & sons post:Smith & sons mail:Smith & sons ");
    *out = '\0';
    T_OK(nq_list(
        q, &(nq_list_options){.size = sizeof(nq_list_options), .queues = queues, .nqueues = 1, .group = "b"},
        groups_listed, out, &t_last));
    ck_assert_str_eq(out, "mail:b ");
    T_FAILS(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .group = "b"}, groups_listed, out,
                    &t_last),
            NQ_EINVAL);
    T_FAILS(nq_list(q,
                    &(nq_list_options){
                        .size = sizeof(nq_list_options), .queues = grouped, .nqueues = 1, .group = "b"},
                    groups_listed, out, &t_last),
            NQ_EINVAL);
    nq_close(q);
}
END_TEST

START_TEST(plain_sql_adds_to_a_group)
{
    nq *q = t_open();
    nq_claimer *c = groups_claimer(q, "mail");
    size_t n = 0;
    int64_t wait;
    t_sql("INSERT INTO nanoq_tasks (queue, type, payload) VALUES ('mail//42', 'email', '{}')");
    nq_claimed *list = groups_claim(c, 1, 10, &n, &wait);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list->task.queue, "mail");
    ck_assert_str_eq(list->task.group, "42");
    ck_assert_int_eq(t_finish(q, list, NQ_OUT_RETRY, 0, "again"), NQ_OK);
    t_free_claimed(list);
    list = groups_claim(c, 2, 10, &n, &wait);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(list->task.last_error, "again");
    ck_assert_int_eq(t_finish(q, list, NQ_OUT_DEAD, 0, "no more"), NQ_OK);
    t_free_claimed(list);
    nq_claimer_free(c);
    /* A worker on the group's own name serves it alone. */
    T_OK(nq_retry(q, 1, &t_last));
    c = groups_claimer(q, "mail//42");
    list = groups_claim(c, 3, 10, &n, &wait);
    ck_assert_uint_eq(n, 1);
    t_free_claimed(list);
    nq_claimer_free(c);
    nq_close(q);
}
END_TEST

/* The text of a group that is told by its hash: to handlers, to who looks, and never another one. */
static int groups_shown(const nq_info *info, void *udata)
{
    snprintf(udata, 300, "%s", info->group);
    return 0;
}

START_TEST(the_text_of_a_hashed_group_is_kept)
{
    static const char text[] = "Smith & s\xc3\xb6hne",
                      other[] = " 0123456789012345678901234567890123456789012345678901234567890";
    static const nq_header lang = {"lang", "de"};
    char shown[300], big[NQ_MAX_HEADERS_SIZE];
    nq *q = t_open();
    const nq_id id = T_ADD(q, .type = "t", .queue = "mail", .group = text, .headers = &lang, .nheaders = 1,
                           .expires_us = NQ_HOURS(1));
    T_ADD(q, .type = "t2", .queue = "mail", .group = other);
    T_ADD(q, .type = "t3", .queue = "mail", .group = "42");
    T_OK(nq_get(q, id, groups_shown, shown, &t_last));
    ck_assert_str_eq(shown, text);
    size_t n = 0;
    nq_claimed *list = t_claim_queue(q, "mail", NQ_LEASE(1, 1), 5, &n);
    ck_assert_uint_eq(n, 3);
    for (const nq_claimed *c = list; c; c = c->next) {
        const bool first = strcmp(c->task.type, "t") == 0, third = strcmp(c->task.type, "t3") == 0;
        ck_assert_str_eq(c->task.group, first ? text : third ? "42" : other);
        ck_assert(third || strncmp(c->group, ".h-", 3) == 0);
        ck_assert_uint_eq(c->task.nheaders, first);
        ck_assert(!first || c->task.expires_at_us > 0);
    }
    t_free_claimed(list);
    T_OK(nq_pause(q, "mail", &(nq_pause_options){.size = sizeof(nq_pause_options), .group = text}, &t_last));
    ck_assert_int_eq(t_sql("SELECT t.id FROM nanoq_tasks t JOIN nanoq_queues q ON q.name = t.queue"), id);
    t_sql("UPDATE nanoq_tasks SET headers = 'nq-group: Smythe' WHERE id = %lld", (long long)id);
    T_OK(nq_get(q, id, groups_shown, shown, &t_last));
    ck_assert(strncmp(shown, ".h-", 3) == 0);
    memset(big, 'x', sizeof big);
    big[4040] = '\0';
    const nq_header most = {"a", big};
    T_OK(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t4", .headers = &most, .nheaders = 1), NULL, &t_last));
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t5", .group = text, .headers = &most, .nheaders = 1),
                       NULL, &t_last),
            NQ_ETOOBIG);
    nq_close(q);
}
END_TEST

Suite *suite_groups(void)
{
    Suite *s = suite_create("groups");
    TCase *tc = t_case(s, "groups", 20);
    tcase_add_test(tc, the_text_of_a_hashed_group_is_kept);
    tcase_add_test(tc, a_group_is_a_queue_by_its_name);
    tcase_add_test(tc, groups_that_cannot_be_are_refused);
    tcase_add_test(tc, groups_have_turns);
    tcase_add_test(tc, turns_go_round);
    tcase_add_test(tc, a_group_does_not_come_round_twice_in_a_claim);
    tcase_add_test(tc, windows_of_groups_shrink_and_grow);
    tcase_add_test(tc, priorities_order_within_a_group);
    tcase_add_test(tc, what_comes_due_is_waited_for);
    tcase_add_test(tc, types_are_filtered_in_groups_too);
    tcase_add_test(tc, many_groups_of_many_levels);
    tcase_add_test(tc, groups_are_listed_and_counted_with_their_queue);
    tcase_add_test(tc, a_group_is_listed_by_its_text);
    tcase_add_test(tc, plain_sql_adds_to_a_group);
    return s;
}
