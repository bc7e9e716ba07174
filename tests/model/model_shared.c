/* SPDX-License-Identifier: MIT */
/* The model: settings of queues and groups, and what may start under them. Nothing of src/ is used. */
#include "model.h"

void model_begin(struct model *m)
{
    for (int i = 0; i <= MODEL_PLACES; i++)
        m->gates[i].next_hour = MODEL_NEVER;
}

int model_place(const struct model_task *t)
{
    if (t->spec.queue == MODEL_LIMITED)
        return MODEL_MAIL;
    return t->spec.queue != MODEL_SHARED ? -1 : t->apart ? MODEL_GROUPS + t->spec.type : t->spec.group;
}

/* Of a group each setting that it does not have itself is that of each group. */
struct model_row model_row(const struct model *m, int place)
{
    struct model_row row = m->rows[place];
    const struct model_row *each = &m->rows[MODEL_EACH];
    if (place == 0)
        return (struct model_row){.dead_to = row.dead_to}; /* of the queue with its groups only this is set */
    if (place != MODEL_MAIL) {
        row.limit = row.limit ? row.limit : each->limit;
        row.burst = row.burst ? row.burst : each->burst;
        row.hours = row.hours ? row.hours : each->hours;
        row.ordered = row.ordered ? row.ordered : each->ordered;
        row.dead_to = row.dead_to ? row.dead_to : each->dead_to ? each->dead_to : m->rows[0].dead_to;
    }
    row.limit = row.ordered ? 1 : row.limit;
    return row;
}

bool model_shut(const struct model *m, int place)
{
    const bool group = place > 0 && place != MODEL_MAIL, all = place != MODEL_MAIL;
    return m->rows[place].paused || m->gates[place].held_hour > m->hour ||
           (group && m->rows[MODEL_EACH].paused) ||
           (all && (m->rows[0].paused || m->gates[0].held_hour > m->hour));
}

void model_hold(struct model *m, int place, int hours)
{
    if (m->gates[place].held_hour < m->hour + hours)
        m->gates[place].held_hour = m->hour + hours;
}

/* ---- What may start ---- */

/* The time of the next start by a rate. */
static int64_t model_next_start(const struct model *m, const struct model_row *row,
                                const struct model_gate *gate)
{
    const int64_t quiet = m->hour - (int64_t)(row->burst - 1) * row->hours;
    /* of a slower rate before: no start under this one leaves it so far ahead */
    const int64_t next = gate->next_hour > m->hour + row->hours ? m->hour : gate->next_hour;
    return next > quiet ? next : quiet;
}

/* Of so many that are due, beside so many that run: as many as a limit and a rate leave. */
static size_t model_room(const struct model *m, const struct model_row *row, const struct model_gate *gate,
                         int64_t running, size_t due)
{
    int64_t left = (int64_t)due;
    if (row->limit && left > row->limit - running)
        left = row->limit - running;
    if (row->hours && left > 0) {
        const int64_t next = model_next_start(m, row, gate);
        const int64_t tokens = next > m->hour ? 0 : (m->hour - next) / row->hours + 1;
        left = left < tokens ? left : tokens;
    }
    return left > 0 ? (size_t)left : 0;
}

static void model_spend(const struct model *m, const struct model_row *row, struct model_gate *gate, size_t n)
{
    if (row->hours && n > 0)
        gate->next_hour = model_next_start(m, row, gate) + (int64_t)n * row->hours;
}

static size_t model_room_at(const struct model *m, int place, size_t due)
{
    const struct model_row row = model_row(m, place);
    int64_t running = 0;
    for (size_t i = 0; i < m->n; i++)
        running += m->tasks[i].state == NQ_STATE_RUNNING && model_place(&m->tasks[i]) == place;
    return model_room(m, &row, &m->gates[place], running, due);
}

size_t model_limited(struct model *m, size_t due)
{
    const struct model_row row = model_row(m, MODEL_MAIL);
    const size_t n = model_shut(m, MODEL_MAIL) ? 0 : model_room_at(m, MODEL_MAIL, due);
    model_spend(m, &row, &m->gates[MODEL_MAIL], n);
    return n;
}

static struct model_task *model_head(struct model *m, int place)
{
    for (size_t i = 0; i < m->n && m->gates[place].head; i++)
        if (m->tasks[i].number == m->gates[place].head && m->tasks[i].state != MODEL_GONE)
            return &m->tasks[i];
    return NULL;
}

static bool model_lives(const struct model_task *t)
{
    return t->state == NQ_STATE_WAITING || t->state == NQ_STATE_RUNNING;
}

/* The next one of an ordered group, of those that are due; NULL: none. */
static struct model_task *model_next(struct model *m, int place, struct model_task *first)
{
    struct model_task *head = model_head(m, place);
    if (head && model_place(head) == place) {
        if (model_lives(head))
            return head->state == NQ_STATE_WAITING && head->due_hour <= m->hour ? head : NULL;
        if (head->state == NQ_STATE_DEAD && model_row(m, place).ordered == NQ_ORDERED_HALT)
            return NULL;
    }
    return first;
}

static bool model_is_apart(const struct model_row *type)
{
    return type->paused || type->limit || type->hours || type->ordered;
}

size_t model_shared(struct model *m, struct model_task *out[])
{
    struct model_task *due[MODEL_TASKS], *here[MODEL_TASKS];
    size_t n = 0;
    const size_t all = model_due(m, MODEL_SHARED, due);
    for (size_t i = 0; i < all; i++)
        if (!model_shut(m, model_place(due[i])) && model_is_apart(&m->rows[MODEL_GROUPS + due[i]->spec.type]))
            due[i]->apart = true;
    for (int place = 0; place < MODEL_PLACES; place++) {
        size_t some = 0;
        for (size_t i = 0; i < all && !model_shut(m, place); i++)
            if (model_place(due[i]) == place)
                here[some++] = due[i];
        if (some > 0 && model_row(m, place).ordered) {
            here[0] = model_next(m, place, here[0]);
            some = here[0] ? 1 : 0;
        }
        some = model_room_at(m, place, some);
        for (size_t i = 0; i < some; i++)
            out[n++] = here[i];
    }
    return n;
}

size_t model_shared_room(const struct model *m, size_t n)
{
    int64_t running = 0;
    for (size_t i = 0; i < m->n; i++)
        running += m->tasks[i].state == NQ_STATE_RUNNING && m->tasks[i].spec.queue == MODEL_SHARED;
    return model_room(m, &m->rows[0], &m->gates[0], running, n);
}

void model_shared_began(struct model *m, const struct model_task *t)
{
    const int place = model_place(t);
    const struct model_row row = model_row(m, place);
    if (place > 0)
        model_spend(m, &row, &m->gates[place], 1);
    model_spend(m, &m->rows[0], &m->gates[0], 1);
    if (row.ordered)
        m->gates[place].head = t->number;
}

/* ---- What has died ---- */

static bool model_halts(const struct model *m, int place)
{
    return place > 0 && place < MODEL_PLACES &&
           (m->rows[place].ordered == NQ_ORDERED_HALT || m->rows[MODEL_EACH].ordered == NQ_ORDERED_HALT);
}

bool model_keeps(const struct model *m, const struct model_task *t)
{
    bool keeps = false;
    for (int i = 1; i < MODEL_PLACES && t->state == NQ_STATE_DEAD; i++)
        keeps = keeps || (m->gates[i].head == t->number && model_halts(m, i));
    return keeps;
}

void model_died(struct model *m, const struct model_task *t, bool begun)
{
    const int place = model_place(t);
    const struct model_letters *to = place < 0 ? NULL : &model_letters[model_row(m, place).dead_to];
    if (!begun && model_halts(m, place)) {
        const struct model_task *head = model_head(m, place);
        /* one that has begun and lives, or halts the group already, stays */
        if (!head || model_place(head) != place || (!model_lives(head) && head->state != NQ_STATE_DEAD))
            m->gates[place].head = t->number;
    }
    if (!to || !to->name || t->dead_id)
        return;
    struct model_spec spec = {.queue = to->queue,
                              .group = to->group,
                              .type = t->spec.type,
                              .payload = t->spec.payload,
                              .max_retries = 10,
                              .unique = NQ_UNIQUE_NONE};
    struct model_task *letter = model_add(m, &spec);
    letter->dead_id = t->id;
    letter->new = true;
    model_due_in(m, letter, 0);
}

/* ---- Gates that nobody needs ---- */

void model_gates_sweep(struct model *m)
{
    const struct model_row *each = &m->rows[MODEL_EACH];
    for (int place = 1; place < MODEL_PLACES; place++) {
        const struct model_row *own = &m->rows[place];
        const struct model_task *head = model_head(m, place);
        struct model_gate *gate = &m->gates[place];
        /* until the quiet time has saved up all of a burst, by whichever of the two rows that takes longer */
        const int64_t full = (int64_t)(own->burst > each->burst ? own->burst : each->burst) *
                             (own->hours > each->hours ? own->hours : each->hours);
        bool needed = gate->held_hour > m->hour || (head && head->state == NQ_STATE_DEAD) ||
                      gate->next_hour + full > m->hour;
        for (size_t i = 0; i < m->n; i++)
            needed = needed || (model_lives(&m->tasks[i]) && model_place(&m->tasks[i]) == place);
        if (!needed)
            *gate = (struct model_gate){.next_hour = MODEL_NEVER};
    }
}
