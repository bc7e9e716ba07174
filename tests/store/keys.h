/* SPDX-License-Identifier: MIT */
/* What the suites of keys share. */
#ifndef NQ_TEST_STORE_KEYS_H
#define NQ_TEST_STORE_KEYS_H

#include "suites.h"

#define FOLLOWUPS "SELECT COUNT(*) FROM nanoq_followups"
#define TASKS     "SELECT COUNT(*) FROM nanoq_tasks"
#define KEYED(...)                                                                                           \
    NQ_TASK(.type = "t", .unique = NQ_UNIQUE_DATA, .unique_data = "k", .unique_size = 1, __VA_ARGS__)
#define REPLACING(text) KEYED(NQ_BYTES(text), .duplicate = NQ_REPLACE)
#define APPENDING(text) KEYED(NQ_BYTES(text), .duplicate = NQ_APPEND)

static inline size_t keys_promote(nq *q)
{
    size_t n = 0, all = 0;
    bool more = true;
    for (int i = 0; more && i < 100; i++) {
        T_OK(nq_store_promote(nq_store_of(q), 500, &n, &more, &t_last));
        all += n;
    }
    return all;
}

static inline nq_id keys_add(nq *q, nq_tx tx, const nq_task_spec *spec, int answer)
{
    nq_id id = 0;
    T_ANSWERS(nq_enqueue(q, tx, spec, &id, &t_last), answer);
    ck_assert_int_gt(id, 0);
    return id;
}

static inline void keys_done(nq *q, nq_claimed *c)
{
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
}

static inline void keys_payload(nq *q, nq_id id, const char *payload)
{
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_uint_eq(t.info.payload_size, strlen(payload));
    ck_assert_mem_eq(t.payload, payload, strlen(payload));
    t_task_free(&t);
}

/* The one task that is due has this payload; it is done then. */
static inline void keys_runs(nq *q, const char *payload)
{
    static uint64_t lease = 1000;
    nq_claimed *c = t_claim_one(q, NQ_LEASE(7, lease++));
    ck_assert_str_eq(c->task.payload, payload);
    keys_done(q, c);
}

/* In a transaction of the connection `mine`, where that is what `theirs` says. */
#define IN(...)                                                                                              \
    do {                                                                                                     \
        if (theirs)                                                                                          \
            t_begin(mine);                                                                                   \
        __VA_ARGS__;                                                                                         \
        if (theirs)                                                                                          \
            t_run(mine, "COMMIT");                                                                           \
    } while (0)

#endif
