/* SPDX-License-Identifier: MIT */
/* What a filter says: checked, and as conditions of SQL. */
#include <stdio.h>

#include "store.h"

/* ---- A statement ---- */

NQ_PRIVATE void nq_query_arg(nq_query *q, nq_val v)
{
    nq_val *more = nq_grow(q->args, q->n, &q->cap, sizeof *more);
    if (!more) {
        q->sql.failed = true;
        return;
    }
    q->args = more;
    q->args[q->n++] = v;
}

NQ_PRIVATE int nq_query_run(nq_conn *c, const nq_query *q, nq_row_fn row, void *arg, nq_err *err)
{
    return q->sql.failed ? nq_err_nomem(err) : nq_sql_once(c, q->sql.p, q->args, q->n, row, arg, err);
}

NQ_PRIVATE void nq_query_clear(nq_query *q)
{
    nq_buf_clear(&q->sql);
    q->n = 0;
}

NQ_PRIVATE void nq_query_free(nq_query *q)
{
    nq_buf_free(&q->sql);
    free(q->args);
    memset(q, 0, sizeof *q);
}

/* ---- Checks ---- */

static int filter_check_number(const char *what, const void *names, size_t n, size_t most, nq_err *err)
{
    if (n > most)
        return nq_err_set(err, NQ_EINVAL, "%zu %s: at most %zu are allowed", n, what, most);
    if (n > 0 && !names)
        return nq_err_set(err, NQ_EINVAL, "%s is NULL, but its number is not 0", what);
    return NQ_OK;
}

static int filter_check_numbers(const nq_filter *f, nq_err *err)
{
    int rc;
    if ((rc = filter_check_number("queues", f->queues, f->nqueues, NQ_MAX_LIST_NAMES, err)) != NQ_OK ||
        (rc = filter_check_number("groups", f->groups, f->ngroups, NQ_MAX_LIST_NAMES, err)) != NQ_OK ||
        (rc = filter_check_number("types", f->types, f->ntypes, NQ_MAX_LIST_NAMES, err)) != NQ_OK ||
        (rc = filter_check_number("tags", f->tags, f->ntags, NQ_MAX_TAGS, err)) != NQ_OK ||
        (rc = filter_check_number("ids", f->ids, f->nids, NQ_MAX_FILTER_IDS, err)) != NQ_OK)
        return rc;
    if (f->ngroups > 0 && f->nqueues == 0)
        return nq_err_set(err, NQ_EINVAL, "group is given without a queue: it is of one");
    if (f->nqueues * f->ngroups > (size_t)10 * NQ_MAX_LIST_NAMES)
        return nq_err_set(err, NQ_EINVAL,
                          "%zu groups of each of %zu queues: at most %d are allowed altogether", f->ngroups,
                          f->nqueues, 10 * NQ_MAX_LIST_NAMES);
    return NQ_OK;
}

static int filter_check_text(const char *what, const char *text, size_t n, size_t most, nq_err *err)
{
    if (n == 0 || n > most)
        return nq_err_set(err, NQ_EINVAL, "%s has %zu bytes: 1 to %zu are allowed, and NULL for any", what, n,
                          most);
    (void)text;
    return NQ_OK;
}

#define FILTER_LAST_TIME INT64_C(253402300799999999) /* the end of the year 9999 */

static int filter_check_time(const char *what, int64_t us, nq_err *err)
{
    if (us < 0 || us > FILTER_LAST_TIME)
        return nq_err_set(err, NQ_EINVAL,
                          "%s is %lld: microseconds since 1970, up to the year 9999; 0: any time", what,
                          (long long)us);
    return NQ_OK;
}

static int filter_check_rest(nq_where *w, nq_err *err)
{
    const nq_filter *f = &w->f;
    int rc = NQ_OK;
    if (f->states & ~(NQ_LIVE_STATES | NQ_ENDED_STATES))
        return nq_err_set(err, NQ_EINVAL,
                          "states is 0x%x: made of NQ_STATE_BIT(NQ_STATE_WAITING) and its like", f->states);
    if (f->time < NQ_BY_CREATED || f->time > NQ_BY_FINISHED)
        return nq_err_set(err, NQ_EINVAL, "time is %d: NQ_BY_CREATED, NQ_BY_RUN_AT or NQ_BY_FINISHED",
                          f->time);
    for (size_t i = 0; i < f->ntags && rc == NQ_OK; i++)
        rc = f->tags[i] ? filter_check_text("a tag", f->tags[i], strlen(f->tags[i]), NQ_MAX_TAG, err)
                        : nq_err_set(err, NQ_EINVAL, "a tag is NULL");
    w->error_size = f->error ? strlen(f->error) : 0;
    w->text_size = f->text ? f->text_size > 0 ? f->text_size : strlen(f->text) : 0;
    w->worker_size = f->worker ? strlen(f->worker) : 0;
    if (rc == NQ_OK && f->error)
        rc = filter_check_text("error", f->error, w->error_size, NQ_MAX_FILTER_TEXT, err);
    if (rc == NQ_OK && f->text)
        rc = filter_check_text("text", f->text, w->text_size, NQ_MAX_FILTER_TEXT, err);
    if (rc == NQ_OK && f->worker)
        rc = filter_check_text("worker", f->worker, w->worker_size, 255, err);
    if (rc == NQ_OK)
        rc = filter_check_time("since_us", f->since_us, err);
    return rc == NQ_OK ? filter_check_time("until_us", f->until_us, err) : rc;
}

/* ---- Names ---- */

/* Does it end in a star? Copy what is before that; a name that does not fit is cut, and refused later. */
static bool filter_star(char *out, size_t size, const char *name, bool stars)
{
    const size_t n = strlen(name);
    const bool star = stars && n > 0 && name[n - 1] == '*';
    snprintf(out, size, "%.*s", (int)(star ? n - 1 : n < size ? n : size - 1), name);
    return star;
}

/* Of this name: with its groups; or of a group: those too that were set apart by their type, and whose header
 * tells the group. text: of the group, where it was given apart. */
static void filter_queue_ranges(nq_where_queue *q, const char *text)
{
    const int base = (int)nq_group_base(q->name);
    if (q->name[base] != '\0' && !nq_group_is_type(q->name)) {
        snprintf(q->from, sizeof q->from, "%.*s//:", base, q->name);
        snprintf(q->to, sizeof q->to, "%.*s//;", base, q->name);
        snprintf(q->line, sizeof q->line, "\nnq-group: %s\n", text ? text : q->name + base + 2);
    } else if (nq_group_may_have(q->name)) {
        snprintf(q->from, sizeof q->from, "%s//", q->name);
        snprintf(q->to, sizeof q->to, "%s/0", q->name); /* the next byte after '/' */
    }
}

/* *any: every queue is meant. */
static int filter_queue(nq_where *w, const char *name, bool stars, bool *any, nq_err *err)
{
    nq_where_queue *q = &w->queues[w->nqueues];
    int rc = NQ_OK;
    if (!name)
        return nq_check_queue(name, err);
    const bool star = filter_star(q->name, sizeof q->name, name, stars);
    const size_t n = strlen(q->name);
    if (star && w->f.ngroups > 0)
        return nq_err_set(err, NQ_EINVAL, "group is given with queue '%.70s': it is of one queue", name);
    if (star && n == 0) {
        *any = true;
        return NQ_OK;
    }
    if (strlen(name) > (size_t)NQ_MAX_QUEUE + star || (rc = nq_check_queue(q->name, err)) != NQ_OK)
        return rc != NQ_OK ? rc : nq_check_queue(name, err);
    if (star) {
        snprintf(q->from, sizeof q->from, "%s", q->name);
        snprintf(q->to, sizeof q->to, "%s", q->name);
        q->to[n - 1]++;
        w->nqueues++;
        return NQ_OK;
    }
    for (size_t i = 0; i < w->f.ngroups; i++) {
        q = &w->queues[w->nqueues++];
        if (!w->f.groups[i])
            return nq_err_set(err, NQ_EINVAL, "a group is NULL");
        if ((rc = nq_group_name(q->name, name, w->f.groups[i], err)) != NQ_OK)
            return rc;
        filter_queue_ranges(q, w->f.groups[i]);
    }
    if (w->f.ngroups == 0) {
        filter_queue_ranges(q, NULL);
        w->nqueues++;
    }
    return NQ_OK;
}

/* What begins with this text is less than that, in the order of bytes and of code points. "": there is no
 * such text. */
static void filter_behind(char *to, const char *from)
{
    size_t n = strlen(from);
    memcpy(to, from, n + 1);
    while (n > 0) {
        size_t at = n - 1;
        uint32_t cp = 0;
        while (at > 0 && ((unsigned char)to[at] & 0xc0) == 0x80)
            at--;
        nq_utf8(to + at, n - at, &cp);
        cp = cp == 0xd7ff ? 0xe000 : cp + 1;
        n = at;
        to[n] = '\0';
        if (cp > 0x10ffff)
            continue;
        char *p = to + n; /* no longer than what it comes after, but at the borders of lengths by one */
        if (cp < 0x80) {
            *p++ = (char)cp;
        } else if (cp < 0x800) {
            *p++ = (char)(0xc0 | cp >> 6);
        } else if (cp < 0x10000) {
            *p++ = (char)(0xe0 | cp >> 12);
            *p++ = (char)(0x80 | (cp >> 6 & 0x3f));
        } else {
            *p++ = (char)(0xf0 | cp >> 18);
            *p++ = (char)(0x80 | (cp >> 12 & 0x3f));
            *p++ = (char)(0x80 | (cp >> 6 & 0x3f));
        }
        if (cp >= 0x80)
            *p++ = (char)(0x80 | (cp & 0x3f));
        *p = '\0';
        return;
    }
}

/* *any: every type is meant. */
static int filter_type(nq_where *w, const char *name, bool stars, bool *any, nq_err *err)
{
    nq_where_type *t = &w->types[w->ntypes];
    int rc;
    if (!name)
        return nq_check_type(name, err);
    const bool star = filter_star(t->from, sizeof t->from, name, stars);
    if (star && t->from[0] == '\0') {
        *any = true;
        return NQ_OK;
    }
    if (strlen(name) > (size_t)NQ_MAX_TYPE + star)
        return nq_err_set(err, NQ_EINVAL, "a type of the filter is %zu bytes long, at most %d are allowed",
                          strlen(name), NQ_MAX_TYPE);
    if ((rc = nq_check_type(t->from, err)) != NQ_OK)
        return rc;
    t->star = star;
    if (star)
        filter_behind(t->to, t->from);
    w->ntypes++;
    return NQ_OK;
}

static int filter_names(nq_where *w, bool stars, nq_err *err)
{
    const nq_filter *f = &w->f;
    bool any = false, all = false;
    int rc = NQ_OK;
    w->queues = calloc(f->nqueues * (f->ngroups ? f->ngroups : 1) + 1, sizeof *w->queues);
    w->types = calloc(f->ntypes + 1, sizeof *w->types);
    if (!w->queues || !w->types)
        return nq_err_nomem(err);
    for (size_t i = 0; i < f->nqueues && rc == NQ_OK; i++)
        rc = filter_queue(w, f->queues[i], stars, &any, err);
    for (size_t i = 0; i < f->ntypes && rc == NQ_OK; i++)
        rc = filter_type(w, f->types[i], stars, &all, err);
    w->nqueues = any ? 0 : w->nqueues;
    w->ntypes = all ? 0 : w->ntypes;
    return rc;
}

static int filter_by_id(const void *a, const void *b)
{
    const nq_id x = *(const nq_id *)a, y = *(const nq_id *)b;
    return (x > y) - (x < y);
}

static int filter_ids(nq_where *w, nq_err *err)
{
    const nq_filter *f = &w->f;
    if (f->nids == 0)
        return NQ_OK;
    w->ids = malloc(f->nids * sizeof *w->ids);
    if (!w->ids)
        return nq_err_nomem(err);
    memcpy(w->ids, f->ids, f->nids * sizeof *w->ids);
    qsort(w->ids, f->nids, sizeof *w->ids, filter_by_id);
    if (w->ids[0] <= 0)
        return nq_err_set(err, NQ_EINVAL, "an id of the filter is %lld: ids are positive",
                          (long long)w->ids[0]);
    for (size_t i = 0; i < f->nids; i++)
        if (i == 0 || w->ids[i] != w->ids[w->nids - 1])
            w->ids[w->nids++] = w->ids[i];
    return NQ_OK;
}

NQ_PRIVATE int nq_where_init(nq_where *w, const nq_filter *f, bool stars, nq_err *err)
{
    int rc;
    memset(w, 0, sizeof *w);
    if ((rc = nq_options_copy(&w->f, sizeof w->f, f, "nq_filter", err)) != NQ_OK ||
        (rc = filter_check_numbers(&w->f, err)) != NQ_OK || (rc = filter_check_rest(w, err)) != NQ_OK ||
        (rc = filter_names(w, stars, err)) != NQ_OK || (rc = filter_ids(w, err)) != NQ_OK) {
        nq_where_free(w);
        return rc;
    }
    w->states = w->f.states ? w->f.states : NQ_LIVE_STATES | NQ_ENDED_STATES;
    if (w->f.worker) {
        w->states &= NQ_STATE_BIT(NQ_STATE_RUNNING);
        w->workers = stars && w->f.worker[w->worker_size - 1] == '*';
        w->worker_size -= w->workers;
    }
    if (w->f.time == NQ_BY_FINISHED && (w->f.since_us || w->f.until_us))
        w->states &= NQ_ENDED_STATES;
    return NQ_OK;
}

NQ_PRIVATE void nq_where_free(nq_where *w)
{
    free(w->queues);
    free(w->types);
    free(w->ids);
    memset(w, 0, sizeof *w);
}

/* ---- Conditions ---- */

/* The states of one table that are wanted; no condition where that is all of them. */
static void filter_add_states(const nq_where *w, unsigned of_table, nq_query *q)
{
    const unsigned wanted = w->states & of_table;
    const char *before = " AND i.state IN (?";
    if (wanted == of_table)
        return;
    for (int state = NQ_STATE_WAITING; state <= NQ_STATE_CANCELLED; state++) {
        if (!(wanted & NQ_STATE_BIT(state)))
            continue;
        nq_buf_str(&q->sql, before);
        before = ", ?";
        nq_query_arg(q, nq_int(state));
    }
    nq_buf_str(&q->sql, wanted ? ")" : " AND 1 = 0");
}

static void filter_add_queues(const nq_where *w, nq_query *q)
{
    for (size_t i = 0; i < w->nqueues; i++) {
        const nq_where_queue *of = &w->queues[i];
        nq_buf_str(&q->sql, i ? " OR i.queue = ?" : " AND (i.queue = ?");
        nq_query_arg(q, nq_text(of->name));
        if (of->from[0] == '\0')
            continue;
        nq_buf_str(&q->sql, " OR (i.queue > ? AND i.queue < ?");
        nq_query_arg(q, nq_text(of->from));
        nq_query_arg(q, nq_text(of->to));
        if (of->line[0]) {
            nq_buf_str(&q->sql, " AND INSTR({lines:i.headers}, ?) > 0");
            nq_query_arg(q, nq_text(of->line));
        }
        nq_buf_str(&q->sql, ")");
    }
    nq_buf_str(&q->sql, w->nqueues ? ")" : "");
}

static void filter_add_types(const nq_where *w, nq_query *q)
{
    const char *before = " AND ({exact:i.type} IN (?";
    bool some = false;
    for (size_t i = 0; i < w->ntypes; i++) {
        if (w->types[i].star)
            continue;
        nq_buf_str(&q->sql, before);
        before = ", ?";
        nq_query_arg(q, nq_text(w->types[i].from));
        some = true;
    }
    nq_buf_str(&q->sql, some ? ")" : "");
    for (size_t i = 0; i < w->ntypes; i++) {
        const nq_where_type *t = &w->types[i];
        if (!t->star)
            continue;
        nq_buf_str(&q->sql, some ? " OR " : " AND (");
        nq_buf_str(&q->sql, "SUBSTR({raw:i.type}, 1, ?) = ?");
        nq_query_arg(q, nq_int((int64_t)strlen(t->from)));
        nq_query_arg(q, nq_blob(t->from, strlen(t->from)));
        some = true;
    }
    nq_buf_str(&q->sql, some ? ")" : "");
}

static void filter_add_times(const nq_where *w, nq_query *q)
{
    static const char *const columns[] = {"i.created_at", "i.run_at", "i.finished_at"};
    const char *column = columns[w->f.time];
    if (w->f.since_us) {
        nq_buf_fmt(&q->sql, " AND %s >= {at}", column);
        nq_query_arg(q, nq_int(w->f.since_us));
    }
    if (w->f.until_us) {
        nq_buf_fmt(&q->sql, " AND %s < {at}", column);
        nq_query_arg(q, nq_int(w->f.until_us));
    }
}

static void filter_add_texts(const nq_where *w, nq_query *q)
{
    if (w->f.error) {
        nq_buf_str(&q->sql, " AND INSTR({raw:i.error}, ?) > 0");
        nq_query_arg(q, nq_blob(w->f.error, w->error_size));
    }
    if (w->f.text) {
        nq_buf_str(&q->sql, " AND (INSTR({raw:i.payload}, ?) > 0 OR INSTR({raw:i.headers}, ?) > 0)");
        nq_query_arg(q, nq_blob(w->f.text, w->text_size));
        nq_query_arg(q, nq_blob(w->f.text, w->text_size));
    }
}

/* Only running tasks have one. One look by its key for each of these: as a join the server might begin with
 * the workers, and read the tasks from end to end for them. */
static void filter_add_worker(const nq_where *w, nq_query *q)
{
    if (!w->f.worker)
        return;
    nq_buf_fmt(&q->sql, " AND (SELECT %s FROM {workers} p WHERE p.id = (i.lease >> 36)) = ?",
               w->workers ? "SUBSTR({raw:p.name}, 1, ?)" : "{raw:p.name}");
    if (w->workers)
        nq_query_arg(q, nq_int((int64_t)w->worker_size));
    nq_query_arg(q, nq_blob(w->f.worker, w->worker_size));
}

NQ_PRIVATE void nq_where_add(const nq_where *w, bool live, size_t tags, nq_query *q)
{
    filter_add_states(w, live ? NQ_LIVE_STATES : NQ_ENDED_STATES, q);
    filter_add_queues(w, q);
    filter_add_types(w, q);
    filter_add_times(w, q);
    for (size_t i = tags; i < w->f.ntags; i++) {
        nq_buf_str(&q->sql, " AND EXISTS (SELECT 1 FROM {tags} g WHERE g.tag = ? AND g.task_id = i.id)");
        nq_query_arg(q, nq_blob(w->f.tags[i], strlen(w->f.tags[i])));
    }
    if (live)
        filter_add_worker(w, q);
    filter_add_texts(w, q);
}

NQ_PRIVATE bool nq_where_needs_rows(const nq_where *w)
{
    bool lines = false;
    for (size_t i = 0; i < w->nqueues; i++)
        lines = lines || w->queues[i].line[0];
    return lines || w->nids > 0 || w->ntypes > 0 || w->f.ntags > 0 || w->f.error || w->f.text ||
           w->f.worker || (w->f.time != NQ_BY_FINISHED && (w->f.since_us || w->f.until_us));
}
