/* SPDX-License-Identifier: MIT */
/* Tasks that are claimed as they are inserted. */
#include "suites.h"

static nq_member *birth_member(nq *q)
{
    nq_member *m = NULL;
    T_OK(nq_member_join(&m, nq_store_of(q), "birth", NULL, &t_last));
    return m;
}

static void birth_leave(nq_member *m)
{
    T_OK(nq_member_leave(m, &t_last));
}

static char birth_headers[] = "traceparent: 00-1\ntenant: 42\n";

static nq_new birth_task(nq_birth *birth, const char *payload)
{
    return (nq_new){.queue = "default",
                    .type = "ty\xc3\xbc",
                    .priority = -5,
                    .max_retries = 4,
                    .timeout_ms = 7000,
                    .headers = birth_headers,
                    .payload = payload,
                    .payload_size = strlen(payload),
                    .unique = NQ_UNIQUE_PAYLOAD,
                    .data = payload,
                    .data_size = strlen(payload),
                    .birth = birth};
}

static int birth_enqueue(nq *q, nq_birth *birth, const char *payload, nq_id *id)
{
    const nq_new task = birth_task(birth, payload);
    int result = NQ_OK;
    T_OK(nq_store_enqueue(nq_store_of(q), NQ_OWN_TX, &task, 1, id, &result, &t_last));
    return result;
}

static void birth_check(const nq_claimed *c, uint64_t lease, nq_id id, int64_t at_us)
{
    ck_assert_uint_eq(c->lease, lease);
    ck_assert_int_eq(c->task.id, id);
    ck_assert_str_eq(c->task.queue, "default");
    ck_assert_str_eq(c->task.type, "ty\xc3\xbc");
    ck_assert_uint_eq(c->task.payload_size, 2);
    ck_assert_int_eq(memcmp(c->task.payload, "{}", 3), 0);
    ck_assert_int_eq(c->task.priority, -5);
    ck_assert_uint_eq(c->task.attempt, 1);
    ck_assert_uint_eq(c->task.max_retries, 4);
    ck_assert_uint_eq(c->task.crashes, 0);
    ck_assert_uint_eq(c->task.generation, 1);
    ck_assert_int_eq(c->task.timeout_us, NQ_SECONDS(7));
    ck_assert_int_eq(c->task.created_at_us, at_us);
    ck_assert_int_eq(c->task.run_at_us, at_us);
    ck_assert_ptr_null(c->task.last_error);
    ck_assert_uint_eq(c->task.nheaders, 2);
    ck_assert_str_eq(nq_task_header(&c->task, "traceparent"), "00-1");
    ck_assert_str_eq(nq_task_header(&c->task, "tenant"), "42");
    ck_assert_int_eq(c->unread, NQ_READ);
}

START_TEST(it_runs_from_its_first_moment_on_and_looks_as_if_it_had_been_claimed)
{
    nq *q = t_open();
    nq_member *m = birth_member(q);
    const uint64_t lease = NQ_LEASE(nq_member_id(m), 7);
    nq_birth birth = {.lease = lease};
    const nq_new task = birth_task(NULL, "{}");
    nq_id id = 0;
    const int64_t before = t_now(q);
    ck_assert_int_eq(birth_enqueue(q, &birth, "{}", &id), NQ_OK);
    ck_assert(birth.did);
    ck_assert_int_ge(birth.at_us, before);
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_int_eq(t.info.state, NQ_STATE_RUNNING);
    ck_assert_uint_eq(t.info.generation, 1);
    ck_assert_int_eq(t.info.created_at_us, birth.at_us);
    ck_assert_int_eq(t.info.run_at_us, birth.at_us);
    ck_assert_int_eq(t.info.claimed_at_us, birth.at_us);
    t_task_free(&t);
    /* The row that is read, the content as the producer has it, and that as it was packed, are the same. */
    nq_claimed *read = NULL, *made = nq_claimed_born(&task, lease);
    T_OK(nq_store_claimed(nq_store_of(q), "default", lease, &read, &t_last));
    ck_assert_ptr_nonnull(read);
    ck_assert_ptr_nonnull(made);
    made->task.id = id;
    made->task.created_at_us = made->task.run_at_us = birth.at_us;
    nq_buf packed = {0};
    nq_claimed_pack(&packed, made);
    nq_claimed *unpacked = nq_claimed_unpack(packed.p, packed.n, lease);
    ck_assert_ptr_nonnull(unpacked);
    birth_check(read, lease, id, birth.at_us);
    birth_check(made, lease, id, birth.at_us);
    birth_check(unpacked, lease, id, birth.at_us);
    ck_assert_int_eq(t_finish(q, read, NQ_OUT_DONE, 0, NULL), NQ_OK);
    ck_assert_int_eq(t_state(q, id), -1);
    nq_buf_free(&packed);
    t_free_claimed(read);
    t_free_claimed(made);
    t_free_claimed(unpacked);
    birth_leave(m);
    nq_close(q);
}
END_TEST

START_TEST(of_a_worker_that_is_gone_it_waits)
{
    nq *q = t_open();
    nq_member *m = birth_member(q);
    nq_birth birth = {.lease = NQ_LEASE(nq_member_id(m), 1)};
    nq_id id = 0;
    birth_leave(m);
    ck_assert_int_eq(birth_enqueue(q, &birth, "{}", &id), NQ_OK);
    ck_assert(!birth.did);
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    ck_assert_int_eq(t_sql("SELECT lease + generation FROM nanoq_tasks"), 0);
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_uint_eq(c->task.generation, 1);
    t_free_claimed(c);
    nq_close(q);
}
END_TEST

START_TEST(a_duplicate_takes_no_loan_and_is_followed_up_as_ever)
{
    nq *q = t_open();
    nq_member *m = birth_member(q);
    nq_birth birth = {.lease = NQ_LEASE(nq_member_id(m), 1)},
             second = {.lease = NQ_LEASE(nq_member_id(m), 2)};
    nq_id id = 0, again = 0;
    ck_assert_int_eq(birth_enqueue(q, &birth, "{}", &id), NQ_OK);
    ck_assert_int_eq(birth_enqueue(q, &second, "{}", &again), NQ_DUPLICATE);
    ck_assert(birth.did);
    ck_assert(!second.did);
    ck_assert_int_eq(again, id);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_followups"), 1);
    birth_leave(m);
    nq_close(q);
}
END_TEST

START_TEST(when_its_worker_dies_it_is_an_orphan)
{
    nq *q = t_open();
    nq_member *m = birth_member(q);
    nq_birth birth = {.lease = NQ_LEASE(nq_member_id(m), 1)};
    nq_claimed *orphans = NULL;
    nq_id id = 0;
    size_t n = 0;
    ck_assert_int_eq(birth_enqueue(q, &birth, "{}", &id), NQ_OK);
    t_sql("DELETE FROM nanoq_workers");
    T_OK(nq_store_orphans(nq_store_of(q), NULL, 10, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 1);
    birth_check(orphans, birth.lease, id, birth.at_us);
    t_free_claimed(orphans);
    nq_member_free(m);
    nq_close(q);
}
END_TEST

START_TEST(bytes_that_are_no_claim_are_none)
{
    const nq_new task = birth_task(NULL, "{}");
    nq_claimed *made = nq_claimed_born(&task, 1);
    nq_buf packed = {0};
    uint64_t seed = t_seed();
    nq_claimed_pack(&packed, made);
    for (size_t n = 0; n < packed.n; n++)
        ck_assert_ptr_null(nq_claimed_unpack(packed.p, n, 1));
    for (int i = 0; i < 20000; i++) {
        char *bytes = malloc(packed.n);
        memcpy(bytes, packed.p, packed.n);
        for (uint64_t k = t_rand(&seed) % 4; k < 4; k++)
            bytes[t_rand(&seed) % packed.n] = (char)t_rand(&seed);
        t_free_claimed(nq_claimed_unpack(bytes, packed.n, 1));
        free(bytes);
    }
    nq_buf_free(&packed);
    t_free_claimed(made);
}
END_TEST

Suite *suite_birth(void)
{
    Suite *s = suite_create("birth");
    TCase *c = t_case(s, "birth", 20);
    tcase_add_test(c, it_runs_from_its_first_moment_on_and_looks_as_if_it_had_been_claimed);
    tcase_add_test(c, of_a_worker_that_is_gone_it_waits);
    tcase_add_test(c, a_duplicate_takes_no_loan_and_is_followed_up_as_ever);
    tcase_add_test(c, when_its_worker_dies_it_is_an_orphan);
    tcase_add_test(c, bytes_that_are_no_claim_are_none);
    return s;
}
