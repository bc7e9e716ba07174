/* SPDX-License-Identifier: MIT */
/* Steps of whoever sets, pauses and holds queues and groups. */
#include <inttypes.h>

#include "model.h"

/* ---- Rows ---- */

/* The queue, group and type of a row. */
struct settings_of {
    const char *queue, *group, *type;
};

static struct settings_of settings_of(int row)
{
    struct settings_of of = {.queue = model_queues[row == MODEL_MAIL ? MODEL_LIMITED : MODEL_SHARED]};
    if (row == MODEL_EACH)
        of.group = "*";
    else if (row > 0 && row < MODEL_GROUPS)
        of.group = model_groups[row];
    else if (row >= MODEL_GROUPS && row < MODEL_PLACES)
        of.type = model_types[row - MODEL_GROUPS];
    return of;
}

static void settings_pause(struct steps *s, int row, bool pause)
{
    const struct settings_of of = settings_of(row);
    const nq_pause_options o = {.size = sizeof o, .group = of.group, .type = of.type};
    if (s->q)
        T_OK((pause ? nq_pause : nq_resume)(s->q, of.queue, &o, &t_last));
}

void steps_pause_type(struct steps *s, int type, bool pause)
{
    settings_pause(s, MODEL_GROUPS + type, pause);
}

static void settings_write(struct steps *s, int row)
{
    const struct settings_of of = settings_of(row);
    const struct model_row *set = &s->model.rows[row];
    const nq_queue_settings o = {.size = sizeof o,
                                 .group = of.group,
                                 .type = of.type,
                                 .max_running = set->limit,
                                 .rate = set->hours ? 1 : 0,
                                 .rate_us = set->hours * MODEL_HOUR,
                                 .burst = (unsigned)set->burst,
                                 .ordered = set->ordered,
                                 .dead_to = model_letters[set->dead_to].name};
    if (s->q)
        T_OK(nq_queue_set(s->q, of.queue, &o, &t_last));
}

/* What is not rated has no start to come. */
static void settings_forget_rates(struct steps *s)
{
    for (int place = 0; place <= MODEL_MAIL; place++)
        s->model.gates[place].next_hour = MODEL_NEVER;
    if (s->q)
        t_sql("UPDATE nanoq_gates SET tat = 0");
}

/* Nothing, a limit, an order, a rate, some of them together; what else is set stays. */
static void settings_shape(struct steps *s, int row, int shape, int most)
{
    struct model_row *set = &s->model.rows[row];
    const int before = set->hours;
    set->limit = shape == 1 || shape == 2 ? most : 0;
    set->hours = shape >= 2 && shape <= 4 ? most : 0;
    set->burst = set->hours ? 1 + (most + shape) % 4 : 0;
    set->ordered = shape == 4 || shape == 5   ? NQ_ORDERED_STRICT
                   : shape == 6 || shape == 7 ? NQ_ORDERED_HALT
                                              : NQ_ORDERED_NO;
    settings_write(s, row);
    if ((before == 0) != (set->hours == 0))
        settings_forget_rates(s);
}

/* Nothing limits or orders these rows any more, and types are not paused. */
static void settings_clear(struct steps *s, int from, int to)
{
    for (int row = from; row < to; row++) {
        const struct model_row *set = &s->model.rows[row];
        if (set->limit || set->hours || set->ordered)
            settings_shape(s, row, 0, 0);
        if (row >= MODEL_GROUPS && row < MODEL_PLACES && set->paused)
            settings_pause(s, row, s->model.rows[row].paused = false);
    }
}

/* ---- Steps ---- */

/* Of limits of the queue or its groups and settings of types one at a time, or which tasks of a group that is
 * at its limit are met, and set apart, would be the store's choice. */
void steps_settings(struct steps *s)
{
    const int kind = (int)steps_random(s, 11), group = 1 + (int)steps_random(s, MODEL_GROUPS - 1),
              type = MODEL_GROUPS + (int)steps_random(s, MODEL_TYPES), most = 1 + (int)steps_random(s, 3),
              shape = (int)steps_random(s, 8), letters = (int)steps_random(s, MODEL_LETTERS);
    static const int paused[] = {0, MODEL_EACH, -1, MODEL_MAIL}, letting[] = {0, MODEL_EACH, -1, MODEL_MAIL};
    const bool pause = steps_random(s, 3) == 0;
    steps_say(s, "settings %d of group %d, type %d: %d, %d, %d, %d", kind, group, type, pause, most, shape,
              letters);
    s->changed = true;
    if (kind < 4) {
        const int row = paused[kind] < 0 ? group : paused[kind];
        settings_pause(s, row, s->model.rows[row].paused = pause);
    } else if (kind == 4) {
        const int row = letting[shape % 4] < 0 ? group : letting[shape % 4];
        s->model.rows[row].dead_to = letters;
        settings_write(s, row);
    } else if (kind == 5) {
        settings_shape(s, MODEL_MAIL, shape % 4, most);
    } else if (kind < 9) {
        settings_clear(s, MODEL_GROUPS, MODEL_PLACES);
        if (kind == 8) /* of the queue with all its groups, which are in no order */
            settings_shape(s, 0, shape % 4, 2 * most);
        else
            settings_shape(s, kind == 6 ? MODEL_EACH : group, shape, most);
    } else {
        settings_clear(s, 0, MODEL_GROUPS);
        settings_clear(s, MODEL_EACH, MODEL_EACH + 1);
        settings_shape(s, type, shape, most);
        settings_pause(s, type, s->model.rows[type].paused = pause);
    }
    if (s->q) { /* as a worker does twice a second: it is what tells of letters */
        nq_settings *settings = NULL;
        T_OK(nq_settings_read(&settings, nq_store_of(s->q), NULL, &t_last));
        nq_settings_unref(settings);
    }
}

/* A handler says that its queue or group is to wait; under a lease that was lost nothing comes of it. */
void steps_hold(struct steps *s)
{
    const struct model_task *t = steps_task(s, NQ_STATE_RUNNING);
    const bool all = steps_random(s, 3) == 0, ours = steps_random(s, 4) > 0;
    const int hours = 1 + (int)steps_random(s, 3), place = t ? model_place(t) : -1;
    steps_say(s, "#%d holds its %s for %d h%s", t ? t->number : 0, all ? "queue" : "group", hours,
              ours ? "" : ", not ours");
    if (place < 0)
        return;
    s->changed = true;
    if (s->q) {
        char *stored = t_text(t_side(), "SELECT queue FROM nanoq_tasks WHERE id = %" PRId64, t->id);
        const char *name = all ? model_queues[t->spec.queue] : stored;
        const int rc = nq_store_hold(nq_store_of(s->q), name, t->id, ours ? t->lease : t->lease + 1,
                                     hours * MODEL_HOUR, &t_last);
        STEPS_CHECK(s, rc == (ours ? NQ_OK : NQ_ELEASE), "#%d holding %s answered %s", t->number, name,
                    nq_code_name(rc));
        free(stored);
    }
    if (ours)
        model_hold(&s->model, all && place != MODEL_MAIL ? 0 : place, hours);
}

/* Gates that nobody needs go, and nobody notices. */
void steps_gates(struct steps *s)
{
    size_t n = 0;
    steps_say(s, "sweep of gates");
    model_gates_sweep(&s->model);
    if (s->q)
        T_OK(nq_store_gates_sweep(nq_store_of(s->q), 1000, &n, &t_last));
}
