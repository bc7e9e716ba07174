/* SPDX-License-Identifier: MIT */
/* Types of a queue that are paused or limited: set apart, once, and the others go on. */
#include "suites.h"

#include "../../src/worker/worker.h"

#define P_PAUSE(...) (&(nq_pause_options){.size = sizeof(nq_pause_options), __VA_ARGS__})
#define TYPES_WAIT   NQ_SECONDS(20 * T_SLOW_FACTOR)

struct types_runs {
    _Atomic int pdf, mail, of_group, running, most, slow;
};

static nq_verdict types_run(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct types_runs *r = udata;
    (void)ctx;
    ck_assert_str_eq(task->queue, "mail");
    if (strcmp(task->type, "mail") == 0) {
        r->mail++;
        return NQ_DONE;
    }
    const int now = ++r->running;
    r->most = now > r->most ? now : r->most;
    r->of_group += task->group && strcmp(task->group, "42") == 0;
    ck_assert_ptr_null(nq_task_header(task, "nq-group"));
    if (r->slow)
        t_pause_ms(r->slow);
    r->pdf++;
    r->running--;
    return NQ_DONE;
}

static void types_add(nq *q, const char *type, const char *group, size_t n)
{
    nq_task_spec *specs = calloc(n, sizeof *specs);
    for (size_t i = 0; i < n; i++)
        specs[i] = (nq_task_spec){
            .size = sizeof *specs, .type = type, .queue = "mail", .group = group, .unique = NQ_UNIQUE_NONE};
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, n, NULL, NULL, &t_last));
    free(specs);
}

static nq_worker *types_worker(nq *q, struct types_runs *r, unsigned concurrency, int drain)
{
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    return p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1, .concurrency = concurrency, .drain = drain),
                 types_run, r);
}

#define TYPES_AT(queue)                                                                                      \
    (int)t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type <> 'mail' AND queue = '%s'", queue)

START_TEST(a_paused_type_is_set_apart_and_the_others_go_on)
{
    nq *q = t_open();
    struct types_runs r = {0};
    p_thread t;
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf", .why = "printer"), &t_last));
    types_add(q, "pdf", NULL, 30);
    types_add(q, "mail", NULL, 20);
    types_add(q, "pdf", "42", 10);
    types_add(q, "mail", "42", 10);
    p_start(&t, types_worker(q, &r, 4, NQ_DRAIN_NEVER));
    T_WAIT(r.mail == 30 && TYPES_AT("mail//:pdf") == 40, 20);
    ck_assert_int_eq(r.pdf, 0);
    ck_assert_int_eq(t_sql("SELECT SUM(generation) FROM nanoq_tasks WHERE type = 'pdf'"), 0);
    types_add(q, "pdf", NULL, 1); /* met by the next claim, which its hint leads to */
    types_add(q, "mail", NULL, 1);
    T_WAIT(r.mail == 31 && TYPES_AT("mail//:pdf") == 41, 20);
    T_OK(nq_resume(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    T_WAIT(r.pdf == 41, 20);
    ck_assert_int_eq(r.of_group, 10);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), 0);
    types_add(q, "pdf", NULL, 5);
    T_WAIT(r.pdf == 46, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* A backlog: what is behind it, more urgent than it or of less priority starts while it is still moved. */
START_TEST(nothing_waits_until_a_backlog_is_set_apart)
{
    nq *q = t_open();
    struct types_runs r = {0};
    p_thread t;
    int left = 0;
    types_add(q, "pdf", NULL, 20000);
    types_add(q, "mail", NULL, 20);
    T_ADD(q, .type = "mail", .queue = "mail", .priority = 7, .unique = NQ_UNIQUE_NONE);
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    p_start(&t, types_worker(q, &r, 4, NQ_DRAIN_NEVER));
    T_WAIT(r.mail == 21, 20);
    left = TYPES_AT("mail");
    T_WAIT(TYPES_AT("mail//:pdf") == 20000, 60);
    printf("%d of 20,000 were still to be set apart when the others had run\n", left);
    ck_assert_int_gt(left, 2000);
    ck_assert_int_eq(r.pdf, 0);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(the_wait_is_for_running_tasks_of_the_type)
{
    nq *q = t_open();
    struct types_runs r = {.slow = 2};
    p_thread t;
    types_add(q, "pdf", NULL, 2000);
    types_add(q, "pdf", "42", 200);
    p_start(&t, types_worker(q, &r, 4, NQ_DRAIN_NEVER));
    T_WAIT(r.pdf > 50, 20);
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf", .wait_us = TYPES_WAIT), &t_last));
    const int ran = r.pdf;
    ck_assert_int_eq(r.running, 0);
    types_add(q, "mail", NULL, 30);
    T_WAIT(r.mail == 30 && TYPES_AT("mail//:pdf") == 2200 - ran, 20);
    ck_assert_int_eq(r.pdf, ran);
    r.slow = 0;
    t_sql("DELETE FROM nanoq_queues WHERE name = 'mail//:pdf'"); /* does as well as to resume it */
    T_WAIT(r.pdf == 2200, 30);
    p_stop(&t);
    nq_close(q);
}
END_TEST

START_TEST(a_limited_type_is_set_apart_and_limited)
{
    nq *q = t_open();
    struct types_runs r = {.slow = 10}; /* longer than a claim: two are seen at once */
    T_OK(nq_queue_set(
        q, "mail", &(nq_queue_settings){.size = sizeof(nq_queue_settings), .type = "pdf", .max_running = 2},
        &t_last));
    types_add(q, "pdf", NULL, 60);
    types_add(q, "pdf", "42", 20);
    types_add(q, "mail", NULL, 30);
    p_run(types_worker(q, &r, 8, NQ_DRAIN_DUE));
    ck_assert_int_eq(r.pdf, 80);
    ck_assert_int_eq(r.mail, 30);
    ck_assert_int_eq(r.of_group, 20);
    ck_assert_int_eq(r.most, 2);
    nq_close(q);
}
END_TEST

/* Workers that know some types alone: the one that is paused, and one that is not. */
START_TEST(a_paused_type_among_known_ones)
{
    nq *q = t_open();
    struct types_runs r = {0};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail");
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    types_add(q, "pdf", NULL, 30);
    types_add(q, "other", NULL, 5);
    types_add(q, "mail", "42", 20);
    for (int i = 0; i < 2; i++) {
        nq_worker *w = p_new(
            q, P_OPTIONS(.queues = &queue, .nqueues = 1, .known_types_only = true, .drain = NQ_DRAIN_DUE),
            NULL, NULL);
        T_OK(nq_worker_handle(w, "pdf", types_run, &r, NULL, &t_last));
        T_OK(nq_worker_handle(w, "mail", types_run, &r, NULL, &t_last));
        p_run(w);
        ck_assert_int_eq(r.mail, 20);
        ck_assert_int_eq(r.pdf, i ? 30 : 0);
        ck_assert_int_eq(TYPES_AT("mail//:pdf"), i ? 0 : 30);
        T_OK(nq_resume(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    }
    ck_assert_int_eq(TYPES_AT("mail"), 5);
    nq_close(q);
}
END_TEST

/* Of a worker that serves one group: it passes the type by, and takes nothing away that it could not get
 * back. */
START_TEST(a_worker_of_a_group_passes_a_paused_type_by)
{
    nq *q = t_open();
    struct types_runs r = {0};
    const nq_queue_options queue = NQ_QUEUE(.name = "mail//42");
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    types_add(q, "pdf", "42", 30);
    types_add(q, "mail", "42", 20);
    p_thread t;
    p_start(&t, p_new(q, P_OPTIONS(.queues = &queue, .nqueues = 1), types_run, &r));
    T_WAIT(r.mail == 20, 20);
    ck_assert_int_eq(TYPES_AT("mail//42"), 30);
    ck_assert_int_eq(r.pdf, 0);
    T_OK(nq_resume(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    T_WAIT(r.pdf == 30, 20);
    p_stop(&t);
    nq_close(q);
}
END_TEST

/* Names of types that no group can have; the row by plain SQL may have any that is a group of the library's.
 */
START_TEST(types_of_any_name_are_set_apart)
{
    static const char *const types[] = {"p d f", "p\303\244", ".h-x", "a//b", "*", "x'); DROP"};
    nq *q = t_open();
    struct types_runs r = {0};
    char name[200];
    for (size_t i = 0; i < 6; i++) {
        T_OK(nq_pause(q, "mail", P_PAUSE(.type = types[i]), &t_last));
        types_add(q, types[i], NULL, 2);
    }
    memset(name, 'n', sizeof name);
    name[199] = '\0';
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = name), &t_last));
    types_add(q, name, "42", 2);
    t_sql("INSERT INTO nanoq_queues (name, type, paused_at) VALUES ('mail//:any', 'plain', %s)",
          T_SQLITE ? "17" : "UTC_TIMESTAMP(6)");
    types_add(q, "plain", NULL, 2);
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(r.pdf, 0);
    ck_assert_int_eq(TYPES_AT("mail"), 0);
    ck_assert_int_eq(TYPES_AT("mail//:any"), 2);
    ck_assert_int_eq(TYPES_AT("mail//:a//b"), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE queue LIKE 'mail//:.h-%%' AND "
                           "LENGTH(queue) = 36"),
                     12);
    t_sql("DELETE FROM nanoq_queues");
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(r.pdf, 16);
    ck_assert_int_eq(r.of_group, 2);
    nq_close(q);
}
END_TEST

static int types_note(const nq_info *info, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 1000 - n, "%s/%s/%s/%d;", info->queue, info->group, info->type, info->state);
    return 0;
}

static int types_note_stats(const nq_queue_stats *s, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    snprintf(text + n, 1000 - n, "%s %d due %d groups %d cancelled;", s->queue, (int)s->due, (int)s->groups,
             (int)s->cancelled);
    return 0;
}

/* Set apart, a task is one of its queue and its group all the same. */
START_TEST(a_task_that_is_set_apart_is_still_its_queues)
{
    static const char *const mail[] = {"mail"}, *const group[] = {"mail//42"};
    nq *q = t_open();
    struct types_runs r = {0};
    char text[1000] = "";
    nq_id other = 0;
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    const nq_id id =
        T_ADD(q, .type = "pdf", .queue = "mail", .group = "42", .payload = "x", .payload_size = 1);
    const nq_id second = T_ADD(q, .type = "pdf", .queue = "mail", .payload = "y", .payload_size = 1);
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(TYPES_AT("mail//:pdf"), 2);
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .queues = mail, .nqueues = 1},
                 types_note, text, &t_last));
    ck_assert_str_eq(text, "mail/42/pdf/0;mail//pdf/0;");
    text[0] = '\0';
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .queues = group, .nqueues = 1},
                 types_note, text, &t_last));
    ck_assert_str_eq(text, "mail/42/pdf/0;");
    text[0] = '\0';
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX,
                         NQ_TASK(.type = "pdf", .queue = "mail", .payload = "x", .payload_size = 1), &other,
                         &t_last),
              NQ_DUPLICATE);
    ck_assert_int_eq(other, id);
    T_OK(nq_cancel(q, second, &t_last));
    T_OK(nq_stats(q, types_note_stats, text, &t_last));
    ck_assert_str_eq(text, "mail 1 due 0 groups 1 cancelled;");
    T_OK(nq_retry(q, second, &t_last));
    T_OK(nq_cancel(q, id, &t_last));
    T_OK(nq_retry(q, id, &t_last));
    T_OK(nq_resume(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(r.pdf, 2);
    ck_assert_int_eq(r.of_group, 1);
    nq_close(q);
}
END_TEST

static int types_note_why(const nq_reason *r, void *udata)
{
    char *text = udata;
    const size_t n = strlen(text);
    if (strcmp(r->reason, "paused") == 0)
        snprintf(text + n, 1000 - n, "%s %s;", r->reason, r->name);
    return 0;
}

/* It is said of a task that nobody has set apart yet, and of one of another queue it is not. */
START_TEST(why_tells_of_a_paused_type)
{
    nq *q = t_open();
    struct types_runs r = {0};
    char text[1000] = "";
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    const nq_id id = T_ADD(q, .type = "pdf", .queue = "mail", .group = "42");
    const nq_id other = T_ADD(q, .type = "pdf", .queue = "mails", .unique = NQ_UNIQUE_NONE);
    T_OK(nq_why(q, id, types_note_why, text, &t_last));
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(TYPES_AT("mail//:pdf"), 1);
    T_OK(nq_why(q, id, types_note_why, text, &t_last));
    T_OK(nq_why(q, other, types_note_why, text, &t_last));
    ck_assert_str_eq(text, "paused mail//:pdf;paused mail//:pdf;");
    nq_close(q);
}
END_TEST

/* Headers stay behind the group; where they have no room for it, it is not known any more. */
START_TEST(headers_are_kept)
{
    nq *q = t_open();
    struct types_runs r = {0};
    static char value[4050];
    memset(value, 'v', sizeof value - 1);
    const nq_header few = {"traceparent", "00-1"}, many = {"x", value};
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "pdf"), &t_last));
    T_ADD(q, .type = "pdf", .queue = "mail", .group = "42", .headers = &few, .nheaders = 1,
          .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "pdf", .queue = "mail", .group = "a.group.whose.name.needs.many.bytes.of.a.header",
          .headers = &many, .nheaders = 1, .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "pdf", .queue = "mail", .headers = &few, .nheaders = 1, .unique = NQ_UNIQUE_NONE);
    T_ADD(q, .type = "pdf", .queue = "mail", .group = "4 2", .unique = NQ_UNIQUE_NONE);
    p_run(types_worker(q, &r, 2, NQ_DRAIN_DUE));
    ck_assert_int_eq(TYPES_AT("mail//:pdf"), 4);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE headers LIKE 'nq-group: 42\ntrace%%'"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE headers LIKE 'x: vv%%'"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE headers LIKE 'trace%%'"), 1);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE headers LIKE 'nq-group: %%'"), 2);
    nq_close(q);
}
END_TEST

START_TEST(bad_pauses_of_types_are_refused)
{
    nq *q = t_open();
    char name[70];
    memset(name, 'q', sizeof name);
    name[60] = '\0';
    T_FAILS(nq_pause(q, "mail", P_PAUSE(.type = "pdf", .group = "42"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "mail//42", P_PAUSE(.type = "pdf"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "mail/", P_PAUSE(.type = "pdf"), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, "mail", P_PAUSE(.type = ""), &t_last), NQ_EINVAL);
    T_FAILS(nq_pause(q, name, P_PAUSE(.type = "pdf"), &t_last), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "too long"));
    for (int i = 0; i < NQ_SETTINGS_TYPES; i++) {
        snprintf(name, sizeof name, "t%d", i);
        T_OK(nq_pause(q, "mail", P_PAUSE(.type = name), &t_last));
    }
    T_OK(nq_pause(q, "mail", P_PAUSE(.type = "t7"), &t_last));
    T_FAILS(nq_pause(q, "mail", P_PAUSE(.type = "one more"), &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_queues"), NQ_SETTINGS_TYPES);
    nq_close(q);
}
END_TEST

Suite *suite_types(void)
{
    Suite *s = suite_create("types");
    TCase *c = t_case(s, "types", 60);
    tcase_add_test(c, a_paused_type_is_set_apart_and_the_others_go_on);
    tcase_add_test(c, nothing_waits_until_a_backlog_is_set_apart);
    tcase_add_test(c, the_wait_is_for_running_tasks_of_the_type);
    tcase_add_test(c, a_limited_type_is_set_apart_and_limited);
    tcase_add_test(c, a_paused_type_among_known_ones);
    tcase_add_test(c, a_worker_of_a_group_passes_a_paused_type_by);
    tcase_add_test(c, types_of_any_name_are_set_apart);
    tcase_add_test(c, a_task_that_is_set_apart_is_still_its_queues);
    tcase_add_test(c, why_tells_of_a_paused_type);
    tcase_add_test(c, headers_are_kept);
    tcase_add_test(c, bad_pauses_of_types_are_refused);
    return s;
}
