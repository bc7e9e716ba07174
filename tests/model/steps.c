/* SPDX-License-Identifier: MIT */
/* Random steps. What is chosen depends on the seed and on the model alone, so that the same seed takes the
 * same steps with whatever store; what the store answers must be what the model says. */
#include <inttypes.h>
#include <stdarg.h>

#include "model.h"

uint64_t steps_random(struct steps *s, uint64_t below)
{
    return t_rand(&s->random) % below;
}

/* Into the digest by FNV-1a. */
void steps_say(struct steps *s, const char *fmt, ...)
{
    char *line = s->trace[s->step % 40];
    va_list args;
    va_start(args, fmt);
    const int at = snprintf(line, sizeof s->trace[0], "%" PRIu64 " ", s->step);
    vsnprintf(line + at, sizeof s->trace[0] - (size_t)at, fmt, args);
    va_end(args);
    for (const char *c = line; *c != '\0'; c++)
        s->digest = (s->digest ^ (unsigned char)*c) * 1099511628211U;
}

void steps_fail(struct steps *s, const char *file, int line, const char *cond, const char *fmt, ...)
{
    va_list args;
    for (uint64_t i = s->step > 39 ? s->step - 39 : 0; i <= s->step; i++)
        fprintf(stderr, "%s\n", s->trace[i % 40]);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n%s:%d: not true: %s; NANOQ_SEED=%" PRIu64 " step %" PRIu64 "\n", file, line, cond,
            s->seed, s->step);
    ck_abort_msg("the store is not as the model says");
    abort();
}

int64_t steps_now(const struct steps *s)
{
    return s->q ? t_now(s->q) : 0;
}

/* In order of their deaths, which is that of their ids. */
void steps_letters(struct steps *s, int64_t from_us)
{
    for (size_t i = 0; i < s->model.n; i++) {
        struct model_task *t = &s->model.tasks[i];
        if (!t->new)
            continue;
        t->new = false;
        if (!s->q)
            continue;
        t->id = s->newest = t_sql("SELECT MIN(id) FROM nanoq_tasks WHERE id > %" PRId64, s->newest);
        look_task(s, t, from_us, steps_now(s));
    }
    if (s->q)
        STEPS_CHECK(s, t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE id > %" PRId64, s->newest) == 0,
                    "a task was added that should not be there");
}

struct model_task *steps_task(struct steps *s, int state)
{
    struct model_task *of[MODEL_TASKS];
    size_t n = 0;
    for (size_t i = 0; i < s->model.n; i++)
        if (state == MODEL_GONE ? s->model.tasks[i].state != MODEL_GONE : s->model.tasks[i].state == state)
            of[n++] = &s->model.tasks[i];
    return n > 0 ? of[steps_random(s, n)] : NULL;
}

/* ---- One step ---- */

const char *const steps_names[STEPS_KINDS] = {"enqueue",
                                              "enqueue in a transaction",
                                              "claim",
                                              "finish",
                                              "stale",
                                              "complete in",
                                              "admin",
                                              "crash",
                                              "orphans",
                                              "cancels",
                                              "promote",
                                              "clock",
                                              "purge",
                                              "look",
                                              "claim of groups",
                                              "settings",
                                              "hold",
                                              "bury",
                                              "sweep of gates"};

static void steps_take(struct steps *s, size_t kind)
{
    static void (*const plain[])(struct steps *) = {
        [2] = steps_claim,     [3] = steps_finish, [4] = steps_stale,   [5] = steps_complete_in,
        [6] = steps_admin,     [7] = steps_crash,  [8] = steps_orphans, [9] = steps_cancels,
        [10] = steps_promote,  [11] = steps_clock, [12] = steps_purge,  [14] = steps_shared,
        [15] = steps_settings, [16] = steps_hold,  [17] = steps_bury,   [18] = steps_gates};
    s->counts[kind]++;
    if (kind < 2) {
        steps_enqueue(s, kind == 1);
    } else if (kind != 13) {
        plain[kind](s);
    } else {
        steps_say(s, "look at all");
        look_all(s);
    }
}

void steps_one(struct steps *s)
{
    static const unsigned weights[STEPS_KINDS] = {220, 60, 220, 220, 30, 30, 90, 4,  20, 15,
                                                  30,  25, 6,   4,   60, 25, 15, 10, 25};
    unsigned total = 0;
    for (size_t i = 0; i < STEPS_KINDS; i++)
        total += weights[i];
    uint64_t at = steps_random(s, total);
    size_t kind = 0;
    while (at >= weights[kind])
        at -= weights[kind++];
    if (s->model.n > MODEL_FULL && kind < 2)
        kind = 6; /* deletes */
    s->step++;
    steps_take(s, kind);
    model_sweep(&s->model);
}

void steps_begin(struct steps *s, nq *q, uint64_t seed, nq_buf *chosen)
{
    *s = (struct steps){
        .q = q, .seed = seed, .random = seed, .chosen = chosen, .digest = 14695981039346656037U};
    s->model.eager = T_MYSQL;
    model_begin(&s->model);
    s->caller = q ? t_connect() : NULL;
    s->changed = true;
    for (int i = 0; i < MODEL_MEMBERS; i++)
        steps_join(s, i);
}

void steps_end(struct steps *s)
{
    look_all(s);
    if (!s->q)
        return;
    for (int i = 0; i < MODEL_MEMBERS; i++)
        T_OK(nq_member_leave(s->members[i], &t_last));
    nq_claimer_free(s->claimer);
    t_disconnect(s->caller);
}
