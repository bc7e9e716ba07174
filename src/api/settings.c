/* SPDX-License-Identifier: MIT */
/* The settings of queues: written and listed. */
#include <stdio.h>

#include "api.h"

#define SETTINGS_MAX 2147483647 /* of max_running and rate */

NQ_PRIVATE int nq_settings_name(char name[NQ_MAX_QUEUE + 1], const char *queue, const char *group,
                                const char *type, nq_err *err)
{
    int rc = nq_check_queue(queue, err);
    if (rc == NQ_OK && type)
        rc = nq_check_type(type, err);
    if (rc != NQ_OK)
        return rc;
    if (type && group)
        return nq_err_set(err, NQ_EINVAL,
                          "group '%.100s' and type '%.100s' are given: settings are of one or the other",
                          group, type);
    if (type)
        return nq_group_of_type(name, queue, type, err);
    if (nq_queue_base(queue) < strlen(queue) && group)
        return nq_err_set(err, NQ_EINVAL, "queue '%s' names a group already, and group '%.100s' another",
                          queue, group);
    if (group && group[0] != '.' && group[0] != ':' && strcmp(group, "*") != 0)
        return nq_group_name(name, queue, group, err); /* any text, as of a task */
    if (snprintf(name, NQ_MAX_QUEUE + 1, "%s%s%s", queue, group ? "//" : "", group ? group : "") >
        NQ_MAX_QUEUE)
        return nq_err_set(err, NQ_EINVAL, "queue '%s' and its group have more than %d bytes together", queue,
                          NQ_MAX_QUEUE - 2);
    if (nq_setting_named(name, strlen(name)))
        return NQ_OK;
    char shown[128];
    nq_printable(shown, sizeof shown, name, strlen(name));
    return nq_err_set(err, NQ_EINVAL,
                      "'%s' names no group of a queue: allowed are A-Z a-z 0-9 _ . : / -, or * for each",
                      shown);
}

/* ---- Writing ---- */

struct settings_write {
    const char *name;
    nq_queue_settings s;
};

/* What only a group, or a type, which is one, can be: name says what this is of. */
static int settings_check_order(const char *name, const nq_queue_settings *s, nq_err *err)
{
    if (s->ordered < NQ_ORDERED_NO || s->ordered > NQ_ORDERED_HALT)
        return nq_err_set(err, NQ_EINVAL, "ordered is %d; see enum nq_ordered", s->ordered);
    if (s->ordered && !name[nq_queue_base(name)])
        return nq_err_set(err, NQ_EINVAL,
                          "queue '%s' has ordered without a group: tasks are in order within a group, each "
                          "group (*) by itself, or those of a type",
                          name);
    if (s->ordered && s->max_running > 1)
        return nq_err_set(err, NQ_EINVAL,
                          "max_running is %lld, but one task at a time runs where ordered is set",
                          (long long)s->max_running);
    return NQ_OK;
}

static int settings_check_keep(int64_t us, const char *which, nq_err *err)
{
    if ((us >= 0 && us <= NQ_MAX_DURATION) || us == NQ_ZERO || us == NQ_FOREVER)
        return NQ_OK;
    return nq_err_set(err, NQ_EINVAL,
                      "%s is %lld us; allowed are NQ_ZERO to ten years, NQ_FOREVER, and 0 for not set", which,
                      (long long)us);
}

static int settings_check(const nq_queue_settings *s, nq_err *err)
{
    int rc = settings_check_keep(s->keep_done_us, "keep_done_us", err);
    if (rc != NQ_OK || (rc = settings_check_keep(s->keep_dead_us, "keep_dead_us", err)) != NQ_OK)
        return rc;
    if (s->max_running < 0 || s->max_running > SETTINGS_MAX)
        return nq_err_set(err, NQ_EINVAL, "max_running is %lld; allowed are 1 to %d, and 0 for no limit",
                          (long long)s->max_running, SETTINGS_MAX);
    if (s->rate < 0 || s->rate > SETTINGS_MAX)
        return nq_err_set(err, NQ_EINVAL, "rate is %lld; allowed are 1 to %d, and 0 for no limit",
                          (long long)s->rate, SETTINGS_MAX);
    if ((s->rate == 0) != (s->rate_us == 0))
        return nq_err_set(err, NQ_EINVAL, "rate is %lld and rate_us %lld: a rate needs both",
                          (long long)s->rate, (long long)s->rate_us);
    if (s->rate_us < 0 || s->rate_us > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "rate_us is %lld; allowed are 1 us to ten years",
                          (long long)s->rate_us);
    if (s->burst > 1000000)
        return nq_err_set(err, NQ_EINVAL, "burst is %u; allowed are 1 to 1000000, and 0 for the default",
                          s->burst);
    if (s->weight > 1000)
        return nq_err_set(err, NQ_EINVAL, "weight is %u; allowed are 1 to 1000, and 0 for the default",
                          s->weight);
    if (s->dead_to && nq_check_queue(s->dead_to, NULL) != NQ_OK) {
        char shown[128];
        nq_printable(shown, sizeof shown, s->dead_to, strlen(s->dead_to));
        return nq_err_set(err, NQ_EINVAL,
                          "dead_to is '%s': a queue's name is 1 to %d bytes of A-Z a-z 0-9 _ . : / -", shown,
                          NQ_MAX_QUEUE);
    }
    if (s->burst && !s->rate)
        return nq_err_set(err, NQ_EINVAL, "burst is %u, but there is no rate", s->burst);
    return NQ_OK;
}

static int settings_count(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = cols[0].i;
    return 0;
}

NQ_PRIVATE int nq_settings_few_types(nq_conn *c, const char *name, nq_err *err)
{
    char from[NQ_MAX_QUEUE + 4], to[NQ_MAX_QUEUE + 4];
    const int base = (int)nq_queue_base(name);
    int64_t n = 0;
    snprintf(from, sizeof from, "%.*s//:", base, name);
    snprintf(to, sizeof to, "%.*s//;", base, name);
    const nq_val range[] = {nq_text(from), nq_text(to)};
    const int rc = nq_sql(c, "SELECT COUNT(*) FROM {queues} WHERE name > ? AND name < ? AND type IS NOT NULL",
                          range, 2, settings_count, &n, NULL, err);
    if (rc != NQ_OK || n <= NQ_SETTINGS_TYPES)
        return rc;
    return nq_err_set(err, NQ_EINVAL,
                      "%d types of queue '%.*s' have settings already, and more are not heeded",
                      NQ_SETTINGS_TYPES, base, name);
}

static nq_val settings_or_null(int64_t v)
{
    return v ? nq_int(v) : nq_null();
}

/* As the column has it. */
static nq_val settings_keep_or_null(int64_t us)
{
    return us == 0 ? nq_null() : nq_int(us == NQ_ZERO ? 0 : us == NQ_FOREVER ? -1 : us);
}

/* The type of a group of tasks of one type says only what is set apart while something is set. */
#define SETTINGS_NONE                                                                                        \
    "(type IS NULL OR name LIKE '%//:%') AND paused_at IS NULL AND max_running IS NULL AND rate IS NULL "    \
    "AND burst IS NULL AND "                                                                                 \
    "weight IS NULL AND ordered IS NULL AND dead_to IS NULL AND keep_done_us IS NULL AND keep_dead_us IS "   \
    "NULL"

NQ_PRIVATE int nq_settings_tidy(nq_conn *c, const char *name, nq_err *err)
{
    const nq_val arg = nq_text(name);
    return nq_sql(c, "DELETE FROM {queues} WHERE name = ? AND " SETTINGS_NONE, &arg, 1, NULL, NULL, NULL,
                  err);
}

NQ_PRIVATE int nq_settings_upsert(nq_conn *c, const char *update, const char *insert, const nq_val args[],
                                  size_t n, nq_err *err)
{
    nq_exec_result res = {0};
    int rc = nq_sql(c, update, args, n, NULL, NULL, &res, err);
    if (rc != NQ_OK || res.affected > 0)
        return rc;
    rc = nq_sql(c, insert, args, n, NULL, NULL, NULL, err);
    return rc == NQ_EDUPLICATE ? nq_err_set(err, NQ_ECONFLICT, "the row was made by another meanwhile") : rc;
}

static int settings_write(nq_conn *c, void *arg, nq_err *err)
{
    const struct settings_write *w = arg;
    const nq_queue_settings *s = &w->s;
    const nq_val args[] = {settings_or_null(s->max_running),
                           settings_or_null(s->rate),
                           settings_or_null(s->rate_us),
                           settings_or_null(s->burst),
                           settings_or_null(s->weight),
                           settings_or_null(s->ordered),
                           s->dead_to ? nq_text(s->dead_to) : nq_null(),
                           settings_keep_or_null(s->keep_done_us),
                           settings_keep_or_null(s->keep_dead_us),
                           w->s.type ? nq_text(w->s.type) : nq_null(),
                           nq_text(w->name)};
    const int rc = nq_settings_upsert(
        c,
        "UPDATE {queues} SET max_running = ?, rate = ?, rate_us = ?, burst = ?, weight = ?, ordered = ?, "
        "dead_to = ?, keep_done_us = ?, keep_dead_us = ?, type = COALESCE(?, type), changed_at = {now} WHERE "
        "name = ?",
        "INSERT INTO {queues} (max_running, rate, rate_us, burst, weight, ordered, dead_to, keep_done_us, "
        "keep_dead_us, type, name, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now})",
        args, sizeof args / sizeof *args, err);
    const int tidy = rc == NQ_OK ? nq_settings_tidy(c, w->name, err) : rc;
    return tidy == NQ_OK && s->type ? nq_settings_few_types(c, w->name, err) : tidy;
}

NQ_API int nq_queue_set(nq *q, const char *queue, const nq_queue_settings *settings, nq_err *err)
{
    char name[NQ_MAX_QUEUE + 1];
    struct settings_write w = {.name = name};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK ||
        (rc = nq_options_copy(&w.s, sizeof w.s, settings, "nq_queue_settings", err)) != NQ_OK ||
        (rc = nq_settings_name(name, queue, w.s.group, w.s.type, err)) != NQ_OK ||
        (rc = settings_check(&w.s, err)) != NQ_OK || (rc = settings_check_order(name, &w.s, err)) != NQ_OK ||
        (rc = nq_ready(q, err)) != NQ_OK ||
        (rc = nq_store_tx(nq_store_of(q), settings_write, &w, err)) != NQ_OK)
        return rc;
    nq_wake_settings(q);
    return NQ_OK;
}

/* ---- Listing ---- */

/* Is this row of the queue, or of a group of it? A queue that names a group is that group's. */
static bool settings_of(const char *name, const char *queue)
{
    const size_t n = queue ? strlen(queue) : 0;
    return !queue || (strncmp(name, queue, n) == 0 && (name[n] == '\0' || strncmp(name + n, "//", 2) == 0));
}

/* Of a name, its row and its gate; either may be NULL. */
static nq_queue_row settings_shown(const nq_settings *all, const char *name, const nq_setting *own,
                                   const nq_gate_row *gate)
{
    static const nq_setting none = {.ordered = -1};
    nq_setting group;
    const nq_setting *s = own ? own : &none;
    const nq_setting *holds = nq_settings_group(all, name, &group) ? &group : s;
    const nq_rate rate = nq_rate_of(holds->rate, holds->rate_us, holds->burst);
    const size_t base = nq_queue_base(name);
    return (nq_queue_row){.name = name,
                          .group = name[base] ? name + base + 2 : "",
                          .type = s->type ? s->type : "",
                          .paused = s->paused,
                          .paused_at_us = s->paused_at_us,
                          .paused_why = s->why ? s->why : "",
                          .max_running = s->max_running,
                          .rate = s->rate,
                          .rate_us = s->rate_us,
                          .burst = (unsigned)s->burst,
                          .weight = (unsigned)s->weight,
                          .ordered = s->ordered,
                          .dead_to = s->dead_to,
                          .keep_done_us = s->keep_done_us,
                          .keep_dead_us = s->keep_dead_us,
                          .changed_at_us = s->changed_at_us,
                          .rate_left = rate.every_ns == 0 || strcmp(name + base, "//*") == 0 ? -1
                                       : gate ? nq_rate_left(&rate, gate->tat_ns, gate->now_us)
                                              : rate.burst,
                          .held_until_us = gate ? gate->held_until_us : 0,
                          .halted_by = gate && holds->ordered == NQ_ORDERED_HALT ? gate->dead : 0};
}

static int settings_show(const nq_settings *all, const char *name, const nq_setting *own,
                         const nq_gate_row *gate, nq_queue_row_fn fn, void *udata)
{
    char queue[NQ_MAX_QUEUE + 1];
    const size_t base = nq_queue_base(name);
    nq_queue_row row = settings_shown(all, name, own, gate);
    memcpy(queue, name, base);
    queue[base] = '\0';
    row.queue = queue;
    return own || row.held_until_us || row.halted_by ? fn(&row, udata) : 0;
}

NQ_API int nq_queue_get(nq *q, const char *queue, nq_queue_row_fn fn, void *udata, nq_err *err)
{
    nq_settings *s = NULL;
    nq_gate_rows gates = {.n = 0};
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to show the settings with was given");
    if ((queue && (rc = nq_check_queue(queue, err)) != NQ_OK) || (rc = nq_ready(q, err)) != NQ_OK ||
        (rc = nq_settings_read(&s, nq_store_of(q), NULL, err)) != NQ_OK)
        return rc;
    rc = nq_store_gates(&gates, nq_store_of(q), err);
    for (size_t i = 0, k = 0; rc == NQ_OK && (i < s->n || k < gates.n);) {
        const int order = i == s->n ? 1 : k == gates.n ? -1 : strcmp(s->rows[i].name, gates.all[k].name);
        const nq_setting *own = order <= 0 ? &s->rows[i++] : NULL;
        const nq_gate_row *gate = order >= 0 ? &gates.all[k++] : NULL;
        const char *name = own ? own->name : gate->name;
        if (settings_of(name, queue) && settings_show(s, name, own, gate, fn, udata))
            break;
    }
    free(gates.all);
    nq_settings_unref(s);
    return rc;
}
