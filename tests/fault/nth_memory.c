/* SPDX-License-Identifier: MIT */
/* What is remembered of tasks, with one thing failing: results, waiting, tags, logs, search, counts, bulk,
 * minutes, and what deletes of them what is over. */
#include "nth_steps.h"

#include "../src/store/minutes.h"
#include "nanoq_logs.h"

#define MEMORY_TAGS(...)                                                                                     \
    .tags = (const char *const[]){__VA_ARGS__},                                                              \
    .ntags = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

/* By another connection; to the same end however often it is called. */
#define MEMORY_AGE(w, mysql, sqlite)                                                                         \
    do {                                                                                                     \
        t_conn *age_side = t_connect();                                                                      \
        if (T_MYSQL)                                                                                         \
            t_run(age_side, "UPDATE %s" mysql, (w)->run->prefix);                                            \
        else                                                                                                 \
            t_run(age_side, "UPDATE %s" sqlite, (w)->run->prefix);                                           \
        t_disconnect(age_side);                                                                              \
    } while (0)

/* ---- Results, and those who wait ---- */

static int memory_enqueue(struct store_world *w, nq_err *err)
{
    const nq_task_spec tasks[] = {
        *NQ_TASK(.type = "m", NQ_BYTES("result"), .keep_us = NQ_HOURS(1), MEMORY_TAGS("a", "b")),
        *NQ_TASK(.type = "m", NQ_BYTES("kept"), .keep_us = NQ_HOURS(2), MEMORY_TAGS("a")),
        *NQ_TASK(.type = "m", NQ_BYTES("gone"), MEMORY_TAGS("b")),
        *NQ_TASK(.type = "m", NQ_BYTES("dead"), MEMORY_TAGS("a", "c d")),
        *NQ_TASK(.type = "m", NQ_BYTES("again")),
        *NQ_TASK(.type = "m", NQ_BYTES("later"), .delay_us = NQ_HOURS(5), MEMORY_TAGS("a")),
        *NQ_TASK(.type = "n", NQ_BYTES("latest"), .delay_us = NQ_HOURS(6)),
    };
    int rc;
    INJECT(rc, nq_enqueue_many(w->q, NQ_OWN_TX, tasks, sizeof tasks / sizeof *tasks, NULL, NULL, err));
    return rc;
}

static int memory_claim(struct store_world *w, nq_err *err)
{
    return store_claim(w, "default", NULL, 0, 5, err);
}

static int memory_finish(struct store_world *w, nq_err *err)
{
    nq_outcome outcomes[5] = {{0}};
    size_t n = 0;
    for (const nq_claimed *c = w->held; c && n < 5; c = c->next) {
        nq_outcome *o = &outcomes[n++];
        const char *payload = c->task.payload;
        *o = (nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE, .keep_us = c->keep_us};
        o->keep = o->keep_us != 0;
        if (strcmp(payload, "result") == 0) {
            o->output = "what it left";
            o->output_size = 12;
        } else if (strcmp(payload, "dead") == 0 || strcmp(payload, "again") == 0) {
            o->kind = *payload == 'd' ? NQ_OUT_DEAD : NQ_OUT_RETRY;
            o->delay_us = NQ_HOURS(3);
            o->error = "no route";
            o->error_size = 8;
        }
    }
    return store_finish(w, outcomes, n, err);
}

static int memory_see(const nq_info *info, void *arg)
{
    struct store_seen *seen = arg;
    seen->bytes += (size_t)info->state * 10000 + info->result_size * 100 + info->ntags;
    return store_see(info, seen);
}

static int memory_wait(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id ids[] = {store_id(w, "finished", "result"), store_id(w, "finished", "dead"),
                         store_id(w, "finished", "result")};
    int rc;
    INJECT(rc, nq_wait(w->q, ids, 3, NQ_WAIT_ALL, NQ_ZERO, memory_see, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

/* One of them lives: the time is up, and that is no failure unless a reason is told. */
static int memory_wait_up(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id ids[] = {store_id(w, "finished", "kept"), store_id(w, "tasks", "later")};
    int rc;
    INJECT(rc, nq_wait(w->q, ids, 2, NQ_WAIT_ALL, NQ_MS(5), memory_see, &seen, err));
    NTH_CHECK(w->run, rc != NQ_OK, "it waited for a task that lives");
    rc = rc == NQ_ETIMEOUT && !strchr(err->message, ';') ? NQ_OK : rc;
    store_saw(w, rc, &seen);
    return rc;
}

static int memory_get(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id id = store_id(w, "finished", "result");
    int rc;
    INJECT(rc, nq_get(w->q, id, memory_see, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

static int memory_attempt(const nq_attempt_row *row, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes += strlen(row->error) + (size_t)row->outcome;
    return 0;
}

static int memory_attempts(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id id = store_id(w, "finished", "dead");
    int rc;
    INJECT(rc, nq_attempts(w->q, id, memory_attempt, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

/* ---- Logs ---- */

enum { MEMORY_LINES = 5 };

static int memory_log(struct store_world *w, nq_err *err)
{
    nq_log_line *lines[MEMORY_LINES];
    const nq_log_line *given[MEMORY_LINES];
    const nq_id id = store_id(w, "finished", "result");
    int rc;
    for (unsigned i = 0; i < MEMORY_LINES; i++) {
        given[i] = lines[i] = calloc(1, sizeof *lines[i] + 8);
        ck_assert_ptr_nonnull(lines[i]);
        *lines[i] = (nq_log_line){
            .task = id, .at_us = t_mono(), .generation = 1, .seq = i + 1, .level = NQ_LOG_INFO, .n = 6};
        snprintf(lines[i]->text, 8, "line %u", i);
    }
    INJECT(rc, nq_store_logs_add(w->s, given, MEMORY_LINES, err));
    for (unsigned i = 0; i < MEMORY_LINES; i++)
        free(lines[i]);
    return rc;
}

static int memory_line(const nq_log_row *row, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes += row->n + row->seq;
    return 0;
}

static int memory_logs(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    const nq_id id = store_id(w, "finished", "result");
    uint64_t count = 0;
    int rc;
    INJECT(rc, nq_logs(w->q, id, NULL, memory_line, &seen, err));
    if (rc == NQ_OK)
        INJECT(rc, nq_logs_count(w->q, id, &count, err));
    NTH_CHECK(w->run, count == (rc == NQ_OK ? MEMORY_LINES : 0), "%s: %llu lines were counted",
              nq_code_name(rc), (unsigned long long)count);
    store_saw(w, rc, &seen);
    return rc;
}

/* ---- Finding and counting ---- */

static const nq_filter memory_tagged = {
    .size = sizeof memory_tagged, .tags = (const char *const[]){"a"}, .ntags = 1};
static const nq_filter memory_text = {.size = sizeof memory_text, .text = "late"};

static int memory_search(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    nq_bounds bounds = {.size = sizeof bounds};
    nq_list_options o = {
        .size = sizeof o, .filter = &memory_tagged, .bounds = &bounds, .order = NQ_NEWEST_FIRST};
    int rc;
    INJECT(rc, nq_list(w->q, &o, memory_see, &seen, err));
    o.filter = &memory_text;
    if (rc == NQ_OK)
        INJECT(rc, nq_list(w->q, &o, memory_see, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

static int memory_count(struct store_world *w, nq_err *err)
{
    nq_counted tagged = {.size = sizeof tagged}, text = {.size = sizeof text};
    int rc;
    INJECT(rc, nq_count(w->q, &memory_tagged, NULL, &tagged, err));
    if (rc == NQ_OK)
        INJECT(rc,
               nq_count(w->q, &memory_text,
                        &(nq_count_options){.size = sizeof(nq_count_options), .exact = true}, &text, err));
    NTH_CHECK(w->run, rc == NQ_OK || text.n == 0, "%s, and a count was written", nq_code_name(rc));
    store_saw(w, rc, &(struct store_seen){tagged.n, text.n});
    return rc;
}

/* ---- Many at once ---- */

/* A batch is a transaction, and here there is one: the numbers say whether it took effect. */
static int memory_bulk(struct store_world *w, enum nq_bulk_action action, const nq_filter *f, uint64_t want,
                       nq_err *err)
{
    const nq_bulk_options o = {
        .size = sizeof o, .all = true, .per_second = 1000000, .queue = "slow", .priority = 7};
    nq_bulk_counts counts = {.size = sizeof counts};
    int rc;
    INJECT(rc, nq_bulk(w->q, f, action,
                       action == NQ_BULK_MOVE || action == NQ_BULK_PRIORITY
                           ? &o
                           : &(nq_bulk_options){.size = sizeof o, .all = true, .per_second = 1000000},
                       &counts, err));
    NTH_CHECK(w->run, rc != NQ_OK || (counts.done + counts.asked == want && counts.refused == 0),
              "%llu of %llu are done, %llu refused", (unsigned long long)counts.done,
              (unsigned long long)want, (unsigned long long)counts.refused);
    return rc;
}

static int memory_priority(struct store_world *w, nq_err *err)
{
    return memory_bulk(w, NQ_BULK_PRIORITY, &memory_text, 2, err);
}

static int memory_move(struct store_world *w, nq_err *err)
{
    return memory_bulk(w, NQ_BULK_MOVE, &memory_tagged, 1, err);
}

static const nq_filter memory_failed = {
    .size = sizeof memory_failed, .error = "route", .states = NQ_STATE_BIT(NQ_STATE_DEAD)};

static int memory_retry(struct store_world *w, nq_err *err)
{
    return memory_bulk(w, NQ_BULK_RETRY, &memory_failed, 1, err);
}

static int memory_cancel(struct store_world *w, nq_err *err)
{
    return memory_bulk(w, NQ_BULK_CANCEL, &memory_text, 2, err);
}

static int memory_delete(struct store_world *w, nq_err *err)
{
    static const nq_filter f = {
        .size = sizeof f, .text = "latest", .states = NQ_STATE_BIT(NQ_STATE_CANCELLED)};
    return memory_bulk(w, NQ_BULK_DELETE, &f, 1, err);
}

/* ---- Minutes ---- */

static int memory_minutes(struct store_world *w, nq_err *err)
{
    static const nq_minute rows[] = {
        {.queue = "default", .type = "m", .counts = {.done = 3, .dead = 1, .run_us = 50, .run = {[4] = 3}}},
        {.queue = "slow", .type = "n", .counts = {.done = 2, .run_us = 70, .run = {[6] = 2}}}};
    const nq_minute *const list[] = {&rows[0], &rows[1]};
    int64_t now = 0;
    int rc;
    INJECT(rc, nq_store_minutes_add(w->s, 9, list, 2, &now, err));
    return rc;
}

static int memory_figures_row(const nq_figures *f, void *arg)
{
    struct store_seen *seen = arg;
    seen->n++;
    seen->bytes += f->done + 100 * f->dead + f->run.n;
    return 0;
}

static int memory_figures(struct store_world *w, nq_err *err)
{
    struct store_seen seen = {0, 0};
    int rc;
    INJECT(rc, nq_minutes(w->q,
                          &(nq_minutes_options){.size = sizeof(nq_minutes_options), .since_us = NQ_DAYS(365)},
                          memory_figures_row, &seen, err));
    store_saw(w, rc, &seen);
    return rc;
}

/* Into hours, a minute after the other: there may be two. */
static int memory_merge(struct store_world *w, nq_err *err)
{
    size_t n = 0;
    int rc;
    MEMORY_AGE(
        w, "minutes SET at = at - INTERVAL 3 DAY WHERE worker > 0 AND at > UTC_TIMESTAMP() - INTERVAL 1 DAY",
        "minutes SET at = at - 3 * 86400000000 WHERE worker > 0 AND at > (unixepoch() - 86400) * 1000000");
    INJECT(rc, nq_store_minutes_sweep(w->s, 100, &n, err));
    return rc;
}

/* ---- What is over ---- */

static int memory_set(struct store_world *w, nq_err *err)
{
    int rc;
    INJECT(rc, nq_queue_set(w->q, "slow",
                            &(nq_queue_settings){.size = sizeof(nq_queue_settings), .keep_dead_us = NQ_MS(1)},
                            err));
    return rc;
}

static int memory_purge(struct store_world *w, nq_err *err)
{
    nq_settings *s = NULL;
    int rc, calls = 0;
    MEMORY_AGE(w, "finished SET finished_at = '2026-01-01'", "finished SET finished_at = 1767225600000000");
    MEMORY_AGE(w, "results SET made_at = '2026-01-02'", "results SET made_at = 1767312000000000");
    INJECT(rc, nq_settings_read(&s, w->s, NULL, err));
    nq_purge p = {.settings = s,
                  .keep_done_us = NQ_MS(1),
                  .keep_dead_us = NQ_KEEP_FOREVER,
                  .limit = 1,
                  .scan = {.most_us = NQ_SECONDS(10)}};
    for (bool more = true; rc == NQ_OK && more && calls < 50; calls++) {
        INJECT(rc, nq_store_purge_queues(w->s, &p, err));
        more = p.scan.more || p.left;
    }
    NTH_CHECK(w->run, calls < 50, "the purge does not end");
    nq_buf_free(&p.scan.queue);
    nq_settings_unref(s);
    return rc;
}

static int memory_sweep(struct store_world *w, nq_err *err)
{
    static int (*const sweeps[])(nq_store * s, size_t limit, size_t * n, nq_err * err) = {
        nq_store_results_sweep, nq_store_logs_sweep, nq_store_tags_sweep, nq_store_history_sweep};
    int rc = NQ_OK;
    MEMORY_AGE(w, "results SET keep_until = '2026-02-01'", "results SET keep_until = 1769904000000000");
    for (size_t i = 0; rc == NQ_OK && i < sizeof sweeps / sizeof *sweeps; i++) {
        /* A call may only come to the end of the table, and the next one begins again. */
        for (int k = 0; rc == NQ_OK && k < 3; k++) {
            size_t n = 0;
            INJECT(rc, sweeps[i](w->s, 100, &n, err));
        }
    }
    return rc;
}

/* ---- The scenario --------------------------------------------------------------------------- */

static const nth_step memory_steps[] = {
    {"open", store_open, false, false},
    {"tasks with tags", memory_enqueue, false, false},
    {"join", store_join, false, false},
    {"claim", memory_claim, false, true},
    {"finish with results", memory_finish, true, false},
    {"wait", memory_wait, false, false},
    {"wait in vain", memory_wait_up, false, false},
    {"show", memory_get, false, false},
    {"failed attempts", memory_attempts, false, false},
    {"write lines", memory_log, false, false},
    {"read lines", memory_logs, false, false},
    {"search", memory_search, false, false},
    {"count", memory_count, false, false},
    {"priority of many", memory_priority, false, false},
    {"move many", memory_move, false, false},
    {"retry many", memory_retry, false, false},
    {"cancel many", memory_cancel, false, false},
    {"delete many", memory_delete, false, false},
    {"add to a minute", memory_minutes, false, false},
    {"add to it again", memory_minutes, false, false},
    {"figures", memory_figures, false, false},
    {"merge into hours", memory_merge, false, true},
    {"set how long", memory_set, false, false},
    {"purge the queues", memory_purge, false, true},
    {"sweep", memory_sweep, false, true},
    {"leave", store_leave, false, false},
    {"close", store_close, false, false},
};

static void memory_scenario(nth_run *run)
{
    nth_steps_run(run, memory_steps, sizeof memory_steps / sizeof *memory_steps);
}

/* ---- The tests ------------------------------------------------------------------------------ */

static void memory_run(const char *name, enum inject_kind kind, enum inject_how how, bool persistent,
                       long few)
{
    const nth_case c = {name, kind, how, persistent, "hints=none", memory_scenario};
    nth_all(&c, few);
}

START_TEST(memory_allocations)
{
    memory_run("memory, one allocation", INJECT_ALLOC, 0, false, 30);
}
END_TEST

START_TEST(memory_allocations_all)
{
    memory_run("memory, all allocations from the n-th on", INJECT_ALLOC, 0, true, 9);
}
END_TEST

START_TEST(memory_statements)
{
    const nth_way *way = &nth_statement_ways[_i];
    if ((way->how >= INJECT_BUSY) == T_SQLITE)
        memory_run(way->name, INJECT_STATEMENT, way->how, way->persistent, way->persistent ? 5 : 10);
}
END_TEST

START_TEST(memory_files)
{
    const nth_way *way = &nth_file_ways[_i];
    if (T_SQLITE)
        memory_run(way->name, INJECT_FILE, way->how, way->persistent, 10);
}
END_TEST

Suite *suite_memory(void)
{
    Suite *s = suite_create("nth memory");
    TCase *c = t_case(s, "memory", nth_long() ? 3000 : 60);
    tcase_add_test(c, memory_allocations);
    tcase_add_test(c, memory_allocations_all);
    tcase_add_loop_test(c, memory_statements, 0, NTH_STATEMENT_WAYS);
    tcase_add_loop_test(c, memory_files, 0, NTH_FILE_WAYS);
    return s;
}
