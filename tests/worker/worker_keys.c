/* SPDX-License-Identifier: MIT */
/* Replaced and debounced under load: of each key the version that was committed last runs last. */
#include "suites.h"

#define KEYS_PRODUCERS 5
#define KEYS_KEYS      50

enum keys_mode { KEYS_REPLACE, KEYS_DEBOUNCE, KEYS_CALLER };

struct keys_load {
    nq *q;
    enum keys_mode mode;
    int rounds; /* of each producer */
    _Atomic int producers, conflicts, runs;
    _Atomic int made[KEYS_KEYS], ran[KEYS_KEYS], running[KEYS_KEYS], both;
};

struct keys_version {
    int key, version;
};

static int keys_enqueue(struct keys_load *l, nq_tx tx, const struct keys_version *v, nq_err *err)
{
    const bool debounce = l->mode == KEYS_DEBOUNCE;
    return nq_enqueue(l->q, tx,
                      NQ_TASK(.type = "sync", .payload = v, .payload_size = sizeof *v,
                              .unique = NQ_UNIQUE_DATA, .unique_data = &v->key, .unique_size = sizeof v->key,
                              .duplicate = debounce ? NQ_DEBOUNCE : NQ_REPLACE,
                              .delay_us = debounce ? NQ_MS(5) : 0, .max_wait_us = debounce ? NQ_MS(50) : 0),
                      NULL, err);
}

/* Each key has one producer, so that it is known which version was committed last. */
static void *keys_produce(void *arg)
{
    struct keys_load *l = arg;
    const int me = atomic_fetch_add(&l->producers, 1);
    uint64_t seed = t_seed() + (uint64_t)me;
    t_conn *mine = l->mode == KEYS_CALLER ? t_connect() : NULL;
    for (int round = 1; round <= l->rounds; round++) {
        const int key = (int)(t_rand(&seed) % (KEYS_KEYS / KEYS_PRODUCERS)) * KEYS_PRODUCERS + me;
        const struct keys_version v = {key, round};
        nq_err err = {0};
        int rc = NQ_ECONFLICT;
        while (rc == NQ_ECONFLICT) {
            if (mine)
                t_begin(mine);
            rc = keys_enqueue(l, mine ? t_tx(mine) : NQ_OWN_TX, &v, &err);
            l->conflicts += rc == NQ_ECONFLICT;
            if (mine)
                t_run(mine, rc == NQ_OK ? "COMMIT" : "ROLLBACK");
        }
        ck_assert_msg(rc == NQ_OK, "%s: %s", nq_code_name(rc), err.message);
        l->made[key] = round;
        if (mine)
            nq_hint(l->q, NULL);
    }
    if (mine)
        t_disconnect(mine);
    return NULL;
}

static nq_verdict keys_run(nq_ctx *ctx, const nq_task *task, void *udata)
{
    struct keys_load *l = udata;
    struct keys_version v;
    (void)ctx;
    ck_assert_uint_eq(task->payload_size, sizeof v);
    memcpy(&v, task->payload, sizeof v);
    l->both += atomic_fetch_add(&l->running[v.key], 1) > 0;
    l->ran[v.key] = v.version;
    l->runs++;
    if (task->id % 16 == 0)
        t_pause_ms(3); /* so that some are replaced while they run */
    l->running[v.key]--;
    return task->id % 7 == 0 && task->attempt == 1 ? NQ_RETRY : NQ_DONE;
}

static int64_t keys_at_once(unsigned attempt, const nq_task *task, void *udata)
{
    (void)attempt;
    (void)task;
    (void)udata;
    return 1000;
}

static void keys_load(enum keys_mode mode, int rounds, int workers)
{
    nq *q = t_open();
    struct keys_load l = {.q = q, .mode = mode, .rounds = rounds};
    pthread_t producers[KEYS_PRODUCERS];
    p_thread threads[3];
    for (int i = 0; i < workers; i++)
        p_start(&threads[i],
                p_new(q, P_OPTIONS(.concurrency = 4, .poll_us = NQ_MS(20), .retry_policy = keys_at_once),
                      keys_run, &l));
    for (int i = 0; i < KEYS_PRODUCERS; i++)
        t_thread(&producers[i], keys_produce, &l);
    for (int i = 0; i < KEYS_PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    T_WAIT(t_sql("SELECT (SELECT COUNT(*) FROM nanoq_tasks) + (SELECT COUNT(*) FROM nanoq_followups)") == 0,
           30);
    for (int i = 0; i < workers; i++)
        p_stop(&threads[i]);
    for (int i = 0; i < KEYS_KEYS; i++)
        ck_assert_msg(l.ran[i] == l.made[i], "key %d: version %d was committed last, %d ran last", i,
                      l.made[i], l.ran[i]);
    ck_assert_int_eq(l.both, 0);
    printf("%d versions of %d keys, %d runs, %d conflicts\n", rounds * KEYS_PRODUCERS, KEYS_KEYS, l.runs,
           l.conflicts);
    if (mode != KEYS_CALLER)
        ck_assert_int_eq(l.conflicts, 0);
    nq_close(q);
}

START_TEST(the_last_committed_version_runs_last)
{
    keys_load((enum keys_mode)_i, 60, 2);
}
END_TEST

/* For make fault: more of it. */
START_TEST(the_last_committed_version_runs_last_for_long)
{
    keys_load((enum keys_mode)_i, 3000, 3);
}
END_TEST

Suite *suite_keys(void)
{
    Suite *s = suite_create("keys");
    TCase *tc = t_case(s, "keys", 60);
    tcase_add_loop_test(tc, the_last_committed_version_runs_last, 0, 3);
    tc = t_case(s, "long", 300);
    if (getenv("NANOQ_TEST_LONG"))
        tcase_add_loop_test(tc, the_last_committed_version_runs_last_for_long, 0, 3);
    return s;
}
