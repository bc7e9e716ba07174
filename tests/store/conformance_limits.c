/* SPDX-License-Identifier: MIT */
/* What is refused before anything is sent: each bad field with its own error, and nothing half-done. */
#include "suites.h"

struct limits_bad {
    const char *what;
    nq_task_spec spec;
    int code;
};

static char limits_long_type[NQ_MAX_TYPE + 2];
static char limits_long_queue[NQ_MAX_QUEUE + 2];

#define LIMITS_SPEC(...)                                                                                     \
    {                                                                                                        \
        .size = sizeof(nq_task_spec), __VA_ARGS__                                                            \
    }

static const struct limits_bad limits_all[] = {
    {"no type", LIMITS_SPEC(.type = NULL), NQ_EINVAL},
    {"empty type", LIMITS_SPEC(.type = ""), NQ_EINVAL},
    {"control character", LIMITS_SPEC(.type = "a\nb"), NQ_EINVAL},
    {"not UTF-8", LIMITS_SPEC(.type = "a\xff"), NQ_EINVAL},
    {"overlong UTF-8", LIMITS_SPEC(.type = "\xc0\xaf"), NQ_EINVAL},
    {"surrogate", LIMITS_SPEC(.type = "\xed\xa0\x80"), NQ_EINVAL},
    {"long type", LIMITS_SPEC(.type = limits_long_type), NQ_ETOOBIG},
    {"empty queue", LIMITS_SPEC(.type = "x", .queue = ""), NQ_EINVAL},
    {"queue with a space", LIMITS_SPEC(.type = "x", .queue = "a b"), NQ_EINVAL},
    {"queue with a quote", LIMITS_SPEC(.type = "x", .queue = "a'; DROP TABLE nanoq_tasks; --"), NQ_EINVAL},
    {"queue in UTF-8", LIMITS_SPEC(.type = "x", .queue = "ä"), NQ_EINVAL},
    {"long queue", LIMITS_SPEC(.type = "x", .queue = limits_long_queue), NQ_ETOOBIG},
    {"low priority", LIMITS_SPEC(.type = "x", .priority = NQ_MIN_PRIORITY - 1), NQ_EINVAL},
    {"high priority", LIMITS_SPEC(.type = "x", .priority = NQ_MAX_PRIORITY + 1), NQ_EINVAL},
    {"negative delay", LIMITS_SPEC(.type = "x", .delay_us = -1), NQ_EINVAL},
    {"long delay", LIMITS_SPEC(.type = "x", .delay_us = NQ_MAX_DURATION + 1), NQ_EINVAL},
    {"endless delay", LIMITS_SPEC(.type = "x", .delay_us = INT64_MAX), NQ_EINVAL},
    {"negative run_at", LIMITS_SPEC(.type = "x", .run_at_us = -1), NQ_EINVAL},
    {"endless run_at", LIMITS_SPEC(.type = "x", .run_at_us = INT64_MAX), NQ_EINVAL},
    {"delay and run_at", LIMITS_SPEC(.type = "x", .delay_us = 1, .run_at_us = 1), NQ_EINVAL},
    {"short timeout", LIMITS_SPEC(.type = "x", .timeout_us = NQ_SECONDS(1) - 1), NQ_EINVAL},
    {"negative timeout", LIMITS_SPEC(.type = "x", .timeout_us = -1), NQ_EINVAL},
    {"long timeout", LIMITS_SPEC(.type = "x", .timeout_us = NQ_MAX_DURATION + 1), NQ_EINVAL},
    {"negative retries", LIMITS_SPEC(.type = "x", .max_retries = -1), NQ_EINVAL},
    {"many retries", LIMITS_SPEC(.type = "x", .max_retries = NQ_MAX_RETRIES + 1), NQ_EINVAL},
    {"payload NULL with a size", LIMITS_SPEC(.type = "x", .payload_size = 1), NQ_EINVAL},
    {"unknown unique", LIMITS_SPEC(.type = "x", .unique = (enum nq_unique)9), NQ_EINVAL},
    {"unique data missing", LIMITS_SPEC(.type = "x", .unique = NQ_UNIQUE_DATA), NQ_EINVAL},
    {"unique data without its kind", LIMITS_SPEC(.type = "x", .unique_data = "k", .unique_size = 1),
     NQ_EINVAL},
    {"size 0", {.size = 0, .type = "x"}, NQ_EINVAL},
};

static void limits_fill(void)
{
    memset(limits_long_type, 't', NQ_MAX_TYPE + 1);
    memset(limits_long_queue, 'q', NQ_MAX_QUEUE + 1);
}

START_TEST(a_bad_field_is_refused_with_its_reason)
{
    const struct limits_bad *bad = &limits_all[_i];
    limits_fill();
    nq *q = t_open();
    nq_id id = 77;
    nq_err err = {0};
    int rc = nq_enqueue(q, NQ_OWN_TX, &bad->spec, &id, &err);
    bool alike = bad->code == NQ_ETOOBIG && rc == NQ_EINVAL; /* a name too long: either says it */
    ck_assert_msg(rc == bad->code || alike, "%s: %s %s", bad->what, nq_code_name(rc), err.message);
    ck_assert_int_eq(err.code, rc);
    ck_assert_uint_gt(strlen(err.message), 8);
    ck_assert_int_eq(id, 77);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 0);
    /* err may be NULL, and the handle goes on. */
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, &bad->spec, NULL, NULL), rc);
    T_ADD(q, .type = "good");
    nq_close(q);
}
END_TEST

START_TEST(null_arguments_are_refused)
{
    nq *q = t_open();
    T_FAILS(nq_enqueue(NULL, NQ_OWN_TX, NQ_TASK(.type = "x"), NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_enqueue_many(q, NQ_OWN_TX, NULL, 3, NULL, NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_migrate(NULL, &t_last), NQ_EINVAL);
    T_FAILS(nq_list(q, NULL, NULL, NULL, &t_last), NQ_EINVAL);
    nq_close(NULL);
    nq_close(q);
}
END_TEST

START_TEST(the_payload_limit_is_an_option)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .max_payload = 3}, &t_last));
    T_ADD(q, .type = "x", NQ_BYTES("abc"));
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "x", NQ_BYTES("abcd")), NULL, &t_last), NQ_ETOOBIG);
    ck_assert_ptr_nonnull(strstr(t_last.message, "3"));
    nq_close(q);
}
END_TEST

START_TEST(a_limit_over_the_servers_packet_is_bounded_by_it)
{
    nq *q = NULL;
    T_OK(nq_open(&q, t_url, &(nq_options){.size = sizeof(nq_options), .max_payload = (size_t)64 << 20},
                 &t_last));
    size_t allowed = nq_store_max_payload(nq_store_of(q));
    size_t n = allowed + 1;
    char *big = calloc(1, n);
    ck_assert_ptr_nonnull(big);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "x", .payload = big, .payload_size = n), NULL, &t_last),
            NQ_ETOOBIG);
    if (allowed <= (size_t)20 << 20) /* the whole of what is allowed passes, on MySQL's default 16 MiB too */
        T_ADD(q, .type = "x", .payload = big, .payload_size = allowed);
    free(big);
    nq_close(q);
}
END_TEST

START_TEST(a_newer_callers_struct_is_refused_only_when_it_asks_for_more)
{
    struct {
        nq_task_spec spec;
        char more[16];
    } newer = {{.size = sizeof(nq_task_spec) + 16, .type = "x"}, {0}};
    nq *q = t_open();
    T_OK(nq_enqueue(q, NQ_OWN_TX, &newer.spec, NULL, &t_last));
    newer.more[3] = 1;
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, &newer.spec, NULL, &t_last), NQ_EINVAL);
    nq_close(q);
}
END_TEST

Suite *suite_limits(void)
{
    Suite *s = suite_create("limits");
    TCase *c = t_case(s, "limits", 30);
    tcase_add_loop_test(c, a_bad_field_is_refused_with_its_reason, 0,
                        (int)(sizeof limits_all / sizeof *limits_all));
    tcase_add_test(c, null_arguments_are_refused);
    tcase_add_test(c, the_payload_limit_is_an_option);
    tcase_add_test(c, a_limit_over_the_servers_packet_is_bounded_by_it);
    tcase_add_test(c, a_newer_callers_struct_is_refused_only_when_it_asks_for_more);
    return s;
}
