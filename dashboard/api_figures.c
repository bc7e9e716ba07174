/* SPDX-License-Identifier: MIT */
/* Figures over time: the overview, points for charts, types. */
#include <pthread.h>
#include <time.h>

#include "dash.h"

#define FIGURES_POINTS 160

static const char *const figures_windows[] = {"15m", "1h", "24h", NULL};
static const char *const figures_type_windows[] = {"1h", "15m", "24h", "7d", NULL};

/* ---- Points ---- */

struct figures_point {
    int64_t at_us;
    uint64_t done, retried, dead, cancelled, snoozed;
    nq_spread wait, run;
};

struct figures_series {
    int64_t step_us, since_us;
    size_t n;
    struct figures_point points[FIGURES_POINTS];
    int64_t now_us;
    bool heard;        /* that is what the database's clock says */
    const char *queue; /* only of this one, or NULL */
    size_t at;
};

static int figures_add(const nq_figures *f, void *udata)
{
    struct figures_series *s = udata;
    struct figures_point *p = &s->points[s->at];
    if (s->queue && strcmp(s->queue, f->queue) != 0)
        return 0;
    p->done = f->done;
    p->retried = f->retried;
    p->dead = f->dead;
    p->cancelled = f->cancelled;
    p->snoozed = f->snoozed;
    p->wait = f->wait;
    p->run = f->run;
    return 0;
}

/*
 * What is past changes no more, but for its last seconds: workers write every 10 s. So the points of all
 * queues together are kept, and a page that is drawn again reads the last two or three.
 */
#define FIGURES_LATE NQ_MINUTES(2)
#define FIGURES_KEPT 512

static struct {
    pthread_mutex_t mutex;
    struct {
        int64_t step_us;
        struct figures_point point;
    } kept[FIGURES_KEPT];
    int64_t now_us, heard_us; /* the database's clock, and when it said so, monotonic */
} figures = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int figures_hear(const nq_figures *f, void *udata)
{
    *(int64_t *)udata = f->until_us;
    return 0;
}

/*
 * Minutes are of the database's clock, and this host's may be wrong. Figures up to now say when that is, if
 * there are any: those of this minute are soon read, but there may be none. Where there are none in all of
 * the window there is nothing to show, and this host's clock does: false then.
 */
static int figures_now(int64_t window, int64_t *now, bool *heard, nq_err *err)
{
    const int64_t clock = dash_clock_us();
    int64_t until = 0;
    pthread_mutex_lock(&figures.mutex);
    *heard = figures.heard_us && clock - figures.heard_us < FIGURES_LATE;
    *now = *heard ? figures.now_us + clock - figures.heard_us : cli_now_us(CLOCK_REALTIME);
    pthread_mutex_unlock(&figures.mutex);
    const nq_minutes_options o = {.size = sizeof o, .since_us = *heard ? -1 : -window, .by = NQ_BY_NONE};
    const int rc = nq_minutes(dash.q, &o, figures_hear, &until, err);
    if (rc != NQ_OK || until == 0)
        return rc;
    *now = until;
    *heard = true;
    pthread_mutex_lock(&figures.mutex);
    figures.now_us = until;
    figures.heard_us = clock;
    pthread_mutex_unlock(&figures.mutex);
    return rc;
}

static size_t figures_place(int64_t step_us, int64_t at_us)
{
    /* Minutes have one half of the places, longer steps the other. */
    return (size_t)(at_us / step_us) % (FIGURES_KEPT / 2) + (step_us > NQ_MINUTES(1) ? FIGURES_KEPT / 2 : 0);
}

static bool figures_recall(const struct figures_series *s, struct figures_point *p)
{
    const size_t i = figures_place(s->step_us, p->at_us);
    pthread_mutex_lock(&figures.mutex);
    const bool found =
        !s->queue && figures.kept[i].step_us == s->step_us && figures.kept[i].point.at_us == p->at_us;
    if (found)
        *p = figures.kept[i].point;
    pthread_mutex_unlock(&figures.mutex);
    return found;
}

static void figures_keep(const struct figures_series *s, const struct figures_point *p)
{
    const size_t i = figures_place(s->step_us, p->at_us);
    if (s->queue || !s->heard || s->now_us < p->at_us + s->step_us + FIGURES_LATE)
        return;
    pthread_mutex_lock(&figures.mutex);
    figures.kept[i].step_us = s->step_us;
    figures.kept[i].point = *p;
    pthread_mutex_unlock(&figures.mutex);
}

static int figures_read(struct figures_series *s, nq_err *err)
{
    int rc = NQ_OK;
    for (s->at = 0; s->at < s->n && rc == NQ_OK; s->at++) {
        struct figures_point *p = &s->points[s->at];
        p->at_us = s->since_us + (int64_t)s->at * s->step_us;
        const nq_minutes_options o = {.size = sizeof o,
                                      .since_us = p->at_us,
                                      .until_us = p->at_us + s->step_us,
                                      .by = s->queue ? NQ_BY_QUEUE : NQ_BY_NONE};
        if (figures_recall(s, p))
            continue;
        rc = nq_minutes(dash.q, &o, figures_add, s, err);
        if (rc == NQ_OK)
            figures_keep(s, p);
    }
    return rc;
}

static void figures_column(struct out *j, const struct figures_series *s, const char *name, size_t offset)
{
    out_open(out_key(j, name), '[');
    for (size_t i = 0; i < s->n; i++) {
        uint64_t v;
        memcpy(&v, (const char *)&s->points[i] + offset, sizeof v);
        out_int(j, (int64_t)v);
    }
    out_close(j, ']');
}

static void figures_spread(struct out *j, const struct figures_series *s, const char *name, bool wait)
{
    out_open(out_key(j, name), '[');
    for (size_t i = 0; i < s->n; i++) {
        const nq_spread *spread = wait ? &s->points[i].wait : &s->points[i].run;
        if (spread->n > 0)
            out_duration(j, spread->p95_us);
        else
            out_null(j);
    }
    out_close(j, ']');
}

/* What the sampler saw: of all queues together. */
static void figures_depths(struct out *j, const struct figures_series *s)
{
    static const char *const names[] = {"due", "running", "oldest_due"};
    /* The sampler goes by this host's clock. */
    const int64_t ahead = (s->now_us - cli_now_us(CLOCK_REALTIME)) / NQ_MINUTES(1) * NQ_MINUTES(1);
    for (int k = 0; k < 3; k++) {
        out_open(out_key(j, names[k]), '[');
        for (size_t i = 0; i < s->n; i++) {
            struct sample_depth d;
            if (s->queue || !sampler_depth(s->points[i].at_us - ahead, s->step_us, &d))
                out_null(j);
            else if (k == 2)
                out_duration(j, d.oldest_due_us);
            else
                out_int(j, k == 0 ? d.due : d.running);
        }
        out_close(j, ']');
    }
}

static void figures_write(struct out *j, const struct figures_series *s)
{
    out_int(out_key(j, "step"), s->step_us / 1000000);
    out_open(out_key(j, "t"), '[');
    for (size_t i = 0; i < s->n; i++)
        out_int(j, s->points[i].at_us / 1000000);
    out_close(j, ']');
    figures_column(j, s, "done", offsetof(struct figures_point, done));
    figures_column(j, s, "retried", offsetof(struct figures_point, retried));
    figures_column(j, s, "dead", offsetof(struct figures_point, dead));
    figures_column(j, s, "cancelled", offsetof(struct figures_point, cancelled));
    figures_column(j, s, "snoozed", offsetof(struct figures_point, snoozed));
    figures_spread(j, s, "wait_p95", true);
    figures_spread(j, s, "run_p95", false);
    figures_depths(j, s);
}

static int figures_series(struct dash_request *r, const char *queue, nq_err *err)
{
    int64_t window = 0;
    if (!api_param_window(r, figures_windows, &window, err))
        return NQ_EINVAL;
    struct figures_series *s = cli_alloc(sizeof *s);
    int rc = figures_now(window, &s->now_us, &s->heard, err);
    s->queue = queue;
    s->step_us = window > NQ_HOURS(1) ? NQ_MINUTES(10) : NQ_MINUTES(1);
    s->n = (size_t)(window / s->step_us) + 1;
    s->since_us = s->now_us - s->now_us % s->step_us - window;
    if (rc == NQ_OK)
        rc = figures_read(s, err);
    if (rc == NQ_OK)
        figures_write(&r->out, s);
    free(s);
    return rc;
}

int api_minutes(struct dash_request *r, nq_err *err)
{
    return figures_series(r, api_param(r, "queue"), err);
}

int api_overview(struct dash_request *r, nq_err *err)
{
    int rc = sample_read(&r->out, err);
    if (rc == NQ_OK) {
        out_open(out_key(&r->out, "series"), '{');
        rc = figures_series(r, NULL, err);
        out_close(&r->out, '}');
    }
    return rc;
}

/* ---- Types ---- */

static void figures_type_spread(struct out *j, const char *what, const nq_spread *s)
{
    static const char *const names[] = {"p50", "p95", "p99", "mean"};
    const int64_t all[] = {s->p50_us, s->p95_us, s->p99_us, s->mean_us};
    for (size_t i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s_%s", what, names[i]);
        if (s->n > 0)
            out_duration(out_key(j, name), all[i]);
        else
            out_null(out_key(j, name));
    }
}

static int figures_type(const nq_figures *f, void *udata)
{
    struct out *j = udata;
    out_open(j, '{');
    out_str(out_key(j, "type"), f->type);
    out_int(out_key(j, "done"), (int64_t)f->done);
    out_real(out_key(j, "rate"), (double)f->done / ((double)(f->until_us - f->since_us) / 1e6));
    out_int(out_key(j, "retried"), (int64_t)f->retried);
    out_int(out_key(j, "dead"), (int64_t)f->dead);
    out_int(out_key(j, "cancelled"), (int64_t)f->cancelled);
    out_int(out_key(j, "snoozed"), (int64_t)f->snoozed);
    figures_type_spread(j, "wait", &f->wait);
    figures_type_spread(j, "run", &f->run);
    out_close(j, '}');
    return 0;
}

int api_types(struct dash_request *r, nq_err *err)
{
    int64_t window = 0;
    if (!api_param_window(r, figures_type_windows, &window, err))
        return NQ_EINVAL;
    const nq_minutes_options o = {.size = sizeof o, .since_us = -window, .by = NQ_BY_TYPE};
    out_open(out_key(&r->out, "types"), '[');
    const int rc = nq_minutes(dash.q, &o, figures_type, &r->out, err);
    out_close(&r->out, ']');
    return rc;
}
