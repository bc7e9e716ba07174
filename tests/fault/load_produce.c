/* SPDX-License-Identifier: MIT */
/* A producer: enqueues one, many, or in a transaction of its own, and notes before and after what it heard.
 */
#include "load.h"

#define PRODUCE_MANY 8

struct produce {
    nq *q;
    struct load_tx *tx;
    int64_t n;          /* keys so far */
    int64_t start, at;  /* of a race */
    struct load_task t; /* the last one planned */
};

static void produce_plan(struct produce *p)
{
    struct load_task *t = &p->t;
    const int64_t hot = load_number("hot", 0);
    memset(t, 0, sizeof *t);
    if (load_number("race", 0))
        snprintf(t->key, sizeof t->key, "race-%lld", (long long)p->n);
    else if (hot)
        snprintf(t->key, sizeof t->key, "hot-%llu", (unsigned long long)load_random((uint64_t)hot));
    else
        snprintf(t->key, sizeof t->key, "p%ld-%lld", (long)getpid(), (long long)p->n);
    p->n++;
    const char *modes = load_text("modes", "dddddddrrsx");
    t->mode = hot || load_number("race", 0) ? 'd' : modes[load_random(strlen(modes))];
    t->work_ms = (int)load_random((uint64_t)load_number("work_ms", 15) + 1);
    t->delay_ms = (int)load_random(300);
    t->fill = hot || load_number("race", 0) ? 0 : (size_t)load_random(load_random(10) ? 200 : 20000);
    if (hot || load_number("race", 0))
        t->work_ms = t->delay_ms = 0; /* the payload is the key: it must be the same for all */
}

static const char *produce_answer(int rc)
{
    switch (rc) {
    case NQ_OK:
        return "OK";
    case NQ_DUPLICATE:
        return "DUP";
    case NQ_EUNKNOWN:
        return "UNKNOWN";
    default:
        return "FAIL";
    }
}

static const char *produce_queue(char out[16])
{
    const int64_t queues = load_number("queues", 1);
    if (queues <= 1)
        return NULL;
    snprintf(out, 16, "q%llu", (unsigned long long)load_random((uint64_t)queues));
    return out;
}

static nq_task_spec produce_spec(const struct load_task *t, const void *payload, size_t size, char queue[16])
{
    nq_task_spec spec = {.size = sizeof spec, .type = "fault", .payload = payload, .payload_size = size};
    spec.max_retries = (int)load_number("max_retries", 20);
    spec.queue = produce_queue(queue);
    spec.until = strcmp(load_text("until", "done"), "start") == 0 ? NQ_UNTIL_START : NQ_UNTIL_DONE;
    spec.timeout_us = NQ_SECONDS(load_number("timeout", 60));
    if (load_random(4) == 0 && t->fill)
        spec.delay_us = NQ_MS(load_random(200));
    return spec;
}

/* Every call must come back within its time limit, whatever the network does. */
static void produce_took(int64_t start, const char *op)
{
    const int64_t limit = load_number("limit_ms", 0), took = (load_mono() - start) / 1000;
    if (limit)
        load_note(took > limit ? "LATE" : "TOOK", "op=%s ms=%lld", op, (long long)took);
}

/* Answers the code. */
static int produce_one(struct produce *p, const struct load_task *t, const char *op)
{
    size_t size = 0;
    char queue[16];
    void *payload = load_payload(t, &size);
    nq_task_spec spec = produce_spec(t, payload, size, queue);
    nq_id id = 0;
    nq_err err = {0};
    load_note("INVOKE", "key=%s op=%s delay=%lld", t->key, op, (long long)spec.delay_us);
    const int64_t start = load_mono();
    const int rc = nq_enqueue(p->q, NQ_OWN_TX, &spec, &id, &err);
    produce_took(start, op);
    load_note(produce_answer(rc), "key=%s id=%lld code=%d db=%d %.300s", t->key, (long long)id, rc,
              rc < 0 ? err.db_code : 0, rc < 0 ? err.message : "");
    free(payload);
    return rc;
}

static int produce_many(struct produce *p)
{
    struct load_task tasks[PRODUCE_MANY];
    nq_task_spec specs[PRODUCE_MANY];
    nq_id ids[PRODUCE_MANY] = {0};
    int results[PRODUCE_MANY] = {0};
    char queues[PRODUCE_MANY][16];
    const size_t n = 1 + (size_t)load_random(PRODUCE_MANY);
    nq_err err = {0};
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        produce_plan(p);
        tasks[i] = p->t;
        void *payload = load_payload(&tasks[i], &size);
        specs[i] = produce_spec(&tasks[i], payload, size, queues[i]);
        load_note("INVOKE", "key=%s op=many delay=%lld", tasks[i].key, (long long)specs[i].delay_us);
    }
    const int64_t start = load_mono();
    const int rc = nq_enqueue_many(p->q, NQ_OWN_TX, specs, n, ids, results, &err);
    produce_took(start, "many");
    for (size_t i = 0; i < n; i++) {
        load_note(produce_answer(rc ? rc : results[i]), "key=%s id=%lld code=%d db=%d %.300s", tasks[i].key,
                  (long long)ids[i], rc, rc ? err.db_code : 0, rc ? err.message : "");
        free((void *)(uintptr_t)specs[i].payload);
    }
    return rc;
}

/* With a row of the producer's own, so that the checker sees that both came or neither. */
static int produce_tx(struct produce *p)
{
    size_t size = 0;
    char sql[200], queue[16];
    nq_id id = 0;
    nq_err err = {0};
    if (!p->tx && !(p->tx = load_tx_open()))
        return NQ_EUNAVAILABLE;
    produce_plan(p);
    void *payload = load_payload(&p->t, &size);
    nq_task_spec spec = produce_spec(&p->t, payload, size, queue);
    const int back = load_random(5) == 0;
    load_note("INVOKE", "key=%s op=%s delay=%lld", p->t.key, back ? "rollback" : "tx",
              (long long)spec.delay_us);
    snprintf(sql, sizeof sql, "INSERT INTO fault_orders (k) VALUES ('%s')", p->t.key);
    const char *answer = "FAIL";
    bool open = false; /* a ROLLBACK may be killed, and the next BEGIN would commit */
    int rc = load_tx_run(p->tx, "BEGIN");
    if (rc == NQ_OK)
        rc = load_tx_run(p->tx, sql);
    const int64_t start = load_mono();
    if (rc == NQ_OK)
        rc = nq_enqueue(p->q, load_tx_handle(p->tx), &spec, &id, &err);
    produce_took(start, "tx");
    if (rc == NQ_OK && load_random(4) == 0)
        load_sleep((int64_t)load_random(20000));
    if (rc == NQ_OK && !back) {
        rc = load_tx_run(p->tx, "COMMIT");
        answer = rc == 0 ? "OK" : load_tx_lost(p->tx) ? "UNKNOWN" : "FAIL";
        if (rc == NQ_OK)
            nq_hint(p->q, spec.queue);
    } else {
        open = load_tx_run(p->tx, "ROLLBACK") != 0;
        answer = rc ? "FAIL" : "BACK";
    }
    load_note(answer, "key=%s id=%lld code=%d db=%d %.300s", p->t.key, (long long)id, rc,
              rc ? err.db_code : 0, rc ? err.message : "");
    if (rc != NQ_OK || open) {
        load_tx_close(p->tx); /* whatever is open there ends with it */
        p->tx = NULL;
    }
    free(payload);
    return rc;
}

/* What failed or is unknown is sometimes sent again until an answer comes, under the same key. */
static void produce_again(struct produce *p, int rc)
{
    const struct load_task t = p->t;
    for (int i = 0; rc < 0 && !load_stop && i < 400; i++) {
        load_sleep(NQ_MS(50));
        rc = produce_one(p, &t, "again");
    }
}

static void produce_step(struct produce *p)
{
    const int64_t hot = load_number("hot", 0);
    const uint64_t dice = load_random(hot ? 70 : 100); /* a deadlock in its own transaction is the caller's */
    if (load_number("race", 0) || dice < 40) {
        produce_plan(p);
        const int rc = produce_one(p, &p->t, "own");
        if (rc < 0 && load_random(2))
            produce_again(p, rc);
    } else if (dice < 70) {
        produce_many(p);
    } else {
        produce_tx(p);
    }
}

/* Keep a transaction open after a refused duplicate; the producers' and workers' business goes on. */
int load_hold(void)
{
    struct produce p = {.q = load_open(), .tx = load_tx_open()};
    nq_id id = 0;
    nq_err err = {0};
    size_t size = 0;
    char queue[16];
    produce_plan(&p); /* race=1: "race-0" */
    void *payload = load_payload(&p.t, &size);
    nq_task_spec spec = produce_spec(&p.t, payload, size, queue);
    int rc = p.tx ? load_tx_run(p.tx, "BEGIN") : NQ_EUNAVAILABLE;
    if (rc == NQ_OK)
        rc = nq_enqueue(p.q, load_tx_handle(p.tx), &spec, &id, &err);
    load_note("HELD", "key=%s id=%lld code=%d %.200s", p.t.key, (long long)id, rc, err.message);
    load_sleep(NQ_MS(load_number("hold_ms", 5000)));
    rc = rc == NQ_DUPLICATE ? load_tx_run(p.tx, "COMMIT") : 1;
    load_note("FREED", "key=%s code=%d", p.t.key, rc);
    load_tx_close(p.tx);
    nq_close(p.q);
    free(payload);
    return rc ? 1 : 0;
}

int load_produce(void)
{
    struct produce p = {.q = load_open(), .start = load_mono()};
    const int64_t count = load_number("count", INT64_MAX), pause = load_number("pause_us", 5000);
    signal(SIGTERM, load_on_term);
    p.at = load_number("at", 0); /* of a race: step i begins at that moment plus i pauses */
    for (int64_t i = 0; i < count && !load_stop; i++) {
        load_sleep(p.at ? p.at + i * pause - load_mono() : pause / 2 + (int64_t)load_random((uint64_t)pause));
        produce_step(&p);
    }
    load_tx_close(p.tx);
    nq_close(p.q);
    load_note("EXIT", "role=produce keys=%lld", (long long)p.n);
    return 0;
}
