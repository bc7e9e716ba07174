/* SPDX-License-Identifier: MIT */
/* What nanoq top shows, of the library's own calls. */
#include "../text/table.h"
#include "top.h"

#define TOP_WINDOW_US   NQ_MINUTES(1) /* of rates and percentiles: this minute and the one before */
#define TOP_ERRORS_MOST 50

enum { Q_NAME, Q_STATE, Q_DUE, Q_DELAYED, Q_RUNNING, Q_RATE, Q_P50, Q_P99, Q_DEAD, Q_OLDEST, Q_N };
static const struct top_column top_queue_columns[] = {
    [Q_NAME] = {"QUEUE", 0, 0, false},     [Q_STATE] = {"STATE", 6, 3, false},
    [Q_DUE] = {"DUE", 8, 0, true},         [Q_DELAYED] = {"DELAYED", 8, 7, true},
    [Q_RUNNING] = {"RUN/MAX", 9, 1, true}, [Q_RATE] = {"DONE/S", 7, 2, true},
    [Q_P50] = {"WAIT50", 7, 6, true},      [Q_P99] = {"WAIT99", 7, 5, true},
    [Q_DEAD] = {"DEAD", 6, 4, true},       [Q_OLDEST] = {"OLDEST", 7, 8, true},
};
enum { T_ID, T_TYPE, T_QUEUE, T_RAN, T_TRY, T_PROGRESS, T_WORKER, T_N };
static const struct top_column top_task_columns[] = {
    [T_ID] = {"TASK", 11, 0, true},        [T_TYPE] = {"TYPE", 0, 0, false},
    [T_QUEUE] = {"QUEUE", 10, 5, false},   [T_RAN] = {"RUNS", 7, 1, true},
    [T_TRY] = {"TRY", 5, 6, true},         [T_PROGRESS] = {"PROGRESS", 14, 2, false},
    [T_WORKER] = {"WORKER", 16, 4, false},
};
enum { W_NAME, W_RUNNING, W_BEAT, W_QUEUES, W_N };
static const struct top_column top_worker_columns[] = {
    [W_NAME] = {"WORKER", 0, 0, false},
    [W_RUNNING] = {"RUN/MAX", 9, 0, true},
    [W_BEAT] = {"BEAT", 7, 1, true},
    [W_QUEUES] = {"QUEUES", 24, 2, false},
};
enum { E_ID, E_TYPE, E_QUEUE, E_AGO, E_ERROR, E_N };
static const struct top_column top_error_columns[] = {
    [E_ID] = {"TASK", 11, 0, true}, [E_TYPE] = {"TYPE", 12, 2, false},  [E_QUEUE] = {"QUEUE", 10, 3, false},
    [E_AGO] = {"AGO", 7, 1, true},  [E_ERROR] = {"ERROR", 0, 0, false},
};
const struct top_shape top_shapes[TOP_PANELS] = {
    [TOP_QUEUES] = {"queues", top_queue_columns, Q_N},
    [TOP_TASKS] = {"running", top_task_columns, T_N},
    [TOP_WORKERS] = {"workers", top_worker_columns, W_N},
    [TOP_ERRORS] = {"dead", top_error_columns, E_N},
};

/* ---- Rows ---- */

static struct top_row *top_row_new(struct top_rows *rows)
{
    if (rows->n == rows->cap) {
        rows->cap = rows->cap * 2 + 16;
        rows->all = cli_realloc(rows->all, rows->cap * sizeof rows->all[0]);
    }
    struct top_row *row = &rows->all[rows->n++];
    *row = (struct top_row){0};
    return row;
}

static void top_cell(struct top_row *row, size_t column, const char *text)
{
    text_safe(&row->cells[column], text, strlen(text));
}

static void top_rate_cell(struct top_row *row, size_t column, double value)
{
    char out[32];
    snprintf(out, sizeof out, "%.3g", value);
    row->values[column] = value;
    top_cell(row, column, out);
}

/* 12345678 as 12346k: it fits the column. */
static void top_count_cell(struct top_row *row, size_t column, uint64_t n, bool capped)
{
    static const char units[] = "kMGT";
    char out[32];
    double v = (double)n;
    size_t unit = 0;
    for (; v >= 99999.5 && unit < sizeof units - 1; unit++)
        v /= 1000;
    const char unit_text[] = {unit > 0 ? units[unit - 1] : '\0', '\0'};
    snprintf(out, sizeof out, "%.0f%s%s", v, unit_text, capped ? "+" : "");
    row->values[column] = (double)n;
    top_cell(row, column, out);
}

static void top_time_cell(struct top_row *row, size_t column, int64_t us)
{
    char out[32];
    us = us > 0 ? us : 0;
    table_short_duration(us, out);
    row->values[column] = (double)us;
    top_cell(row, column, out);
}

static void top_of_cell(struct top_row *row, size_t column, uint64_t n, int64_t most)
{
    char out[48];
    if (most > 0)
        snprintf(out, sizeof out, "%llu/%lld", (unsigned long long)n, (long long)most);
    else
        snprintf(out, sizeof out, "%llu", (unsigned long long)n);
    row->values[column] = (double)n;
    top_cell(row, column, out);
}

void top_view_free(struct top_view *v)
{
    if (!v)
        return;
    for (size_t p = 0; p < TOP_PANELS; p++) {
        for (size_t i = 0; i < v->panels[p].n; i++)
            for (size_t c = 0; c < TOP_COLUMNS; c++)
                text_free(&v->panels[p].all[i].cells[c]);
        free(v->panels[p].all);
    }
    free(v);
}

/* ---- Queues ---- */

static struct top_row *top_queue(struct top_rows *rows, const char *name)
{
    for (size_t i = 0; i < rows->n; i++)
        if (strcmp(rows->all[i].queue, name) == 0)
            return &rows->all[i];
    struct top_row *row = top_row_new(rows);
    snprintf(row->queue, sizeof row->queue, "%s", name);
    top_cell(row, Q_NAME, name);
    return row;
}

static int top_stats(const nq_queue_stats *s, void *udata)
{
    struct top_row *row = top_queue(udata, s->queue);
    top_count_cell(row, Q_DUE, s->due, s->capped & NQ_CAPPED_DUE);
    top_count_cell(row, Q_DELAYED, s->delayed, s->capped & NQ_CAPPED_DELAYED);
    row->values[Q_RUNNING] = (double)s->running;
    top_count_cell(row, Q_DEAD, s->dead, s->capped & NQ_CAPPED_DEAD);
    if (s->due > 0)
        top_time_cell(row, Q_OLDEST, s->oldest_due_us);
    return 0;
}

static int top_settings(const nq_queue_row *s, void *udata)
{
    if (*s->group || *s->type)
        return 0;
    struct top_row *row = top_queue(udata, s->queue);
    row->paused = row->paused || s->paused;
    row->alarm = row->paused;
    if (s->max_running > 0 && !row->cells[Q_RUNNING].p)
        top_of_cell(row, Q_RUNNING, (uint64_t)row->values[Q_RUNNING], s->max_running);
    if (!row->cells[Q_STATE].p)
        top_cell(row, Q_STATE, s->paused ? "paused" : s->held_until_us ? "held" : "");
    return 0;
}

static int top_figures(const nq_figures *f, void *udata)
{
    struct top_row *row = top_queue(udata, f->queue);
    const double seconds = (double)(f->until_us - f->since_us) / 1e6;
    if (seconds > 0)
        top_rate_cell(row, Q_RATE, (double)f->done / seconds);
    if (f->wait.n > 0) {
        top_time_cell(row, Q_P50, f->wait.p50_us);
        top_time_cell(row, Q_P99, f->wait.p99_us);
    }
    return 0;
}

static int top_read_queues(nq *q, struct top_rows *rows, nq_err *err)
{
    const nq_minutes_options minutes = {
        .size = sizeof minutes, .since_us = -TOP_WINDOW_US, .by = NQ_BY_QUEUE};
    int rc = nq_stats(q, top_stats, rows, err);
    if (rc == NQ_OK)
        rc = nq_queue_get(q, NULL, top_settings, rows, err);
    if (rc == NQ_OK)
        rc = nq_minutes(q, &minutes, top_figures, rows, err);
    for (size_t i = 0; i < rows->n; i++) {
        struct top_row *row = &rows->all[i];
        if (!row->cells[Q_DUE].p)
            top_count_cell(row, Q_DUE, 0, false);
        if (!row->cells[Q_RUNNING].p)
            top_of_cell(row, Q_RUNNING, (uint64_t)row->values[Q_RUNNING], 0);
    }
    return rc;
}

/* ---- Tasks and workers ---- */

static int top_task(const nq_info *info, void *udata)
{
    char out[64];
    struct top_row *row = top_row_new(udata);
    row->id = info->id;
    row->alarm = info->cancelling;
    row->values[T_ID] = (double)info->id;
    snprintf(out, sizeof out, "%lld", (long long)info->id);
    top_cell(row, T_ID, out);
    top_cell(row, T_TYPE, info->type);
    top_cell(row, T_QUEUE, info->queue);
    top_time_cell(row, T_RAN, cli_now_us(CLOCK_REALTIME) - info->claimed_at_us);
    row->values[T_TRY] = info->attempts + 1;
    snprintf(out, sizeof out, "%u", info->attempts + 1);
    top_cell(row, T_TRY, out);
    top_cell(row, T_WORKER, info->worker);
    if (info->cancelling) {
        top_cell(row, T_PROGRESS, "cancelling");
    } else if (info->progress_at_us > 0) {
        if (info->progress_total > 0)
            snprintf(out, sizeof out, "%.0f%% ",
                     100.0 * (double)info->progress_done / (double)info->progress_total);
        else
            snprintf(out, sizeof out, "%lld ", (long long)info->progress_done);
        top_cell(row, T_PROGRESS, out);
        top_cell(row, T_PROGRESS, info->progress_note);
    }
    return 0;
}

static int top_error(const nq_info *info, void *udata)
{
    char out[32];
    struct top_row *row = top_row_new(udata);
    row->id = info->id;
    row->values[E_ID] = (double)info->id;
    snprintf(out, sizeof out, "%lld", (long long)info->id);
    top_cell(row, E_ID, out);
    top_cell(row, E_TYPE, info->type);
    top_cell(row, E_QUEUE, info->queue);
    top_time_cell(row, E_AGO, cli_now_us(CLOCK_REALTIME) - info->finished_at_us);
    top_cell(row, E_ERROR, info->error);
    return 0;
}

static int top_worker(const nq_worker_row *w, void *udata)
{
    struct top_row *row = top_row_new(udata);
    top_cell(row, W_NAME, w->name);
    top_of_cell(row, W_RUNNING, w->running, w->concurrency);
    top_time_cell(row, W_BEAT, w->beat_ago_us);
    row->alarm = w->beat_ago_us > NQ_WORKER_SILENT_US;
    top_cell(row, W_QUEUES, w->queues);
    return ((struct top_rows *)udata)->n >= TOP_ROWS;
}

static int top_list(nq *q, int state, int order, unsigned limit, nq_info_fn fn, struct top_rows *rows,
                    nq_err *err)
{
    const nq_list_options list = {
        .size = sizeof list, .states = NQ_STATE_BIT(state), .order = order, .limit = limit};
    return nq_list(q, &list, fn, rows, err);
}

int top_read(nq *q, struct top_view *out, nq_err *err)
{
    const int64_t start = cli_now_us(CLOCK_MONOTONIC);
    int rc = top_read_queues(q, &out->panels[TOP_QUEUES], err);
    if (rc == NQ_OK)
        rc = top_list(q, NQ_STATE_RUNNING, NQ_OLDEST_FIRST, TOP_ROWS, top_task, &out->panels[TOP_TASKS], err);
    if (rc == NQ_OK)
        rc = nq_workers(q, top_worker, &out->panels[TOP_WORKERS], err);
    if (rc == NQ_OK)
        rc = top_list(q, NQ_STATE_DEAD, NQ_NEWEST_FIRST, TOP_ERRORS_MOST, top_error, &out->panels[TOP_ERRORS],
                      err);
    out->took_us = cli_now_us(CLOCK_MONOTONIC) - start;
    return rc;
}
