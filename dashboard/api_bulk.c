/* SPDX-License-Identifier: MIT */
/* Bulk jobs: one action for many tasks, each job in a thread of its own. */
#include <pthread.h>
#include <time.h>

#include "dash.h"
#include "nanoq_bulk.h"

#define BULK_JOBS    50 /* that are remembered */
#define BULK_RUNNING 4
#define BULK_DRY_US  NQ_SECONDS(5)

enum bulk_state { BULK_RUNS, BULK_DONE, BULK_STOPPED, BULK_FAILED };
static const char *const bulk_states[] = {"running", "done", "stopped", "failed"};
static const char *const bulk_actions[] = {[NQ_BULK_RETRY] = "retry",
                                           [NQ_BULK_CANCEL] = "cancel",
                                           [NQ_BULK_DELETE] = "delete",
                                           [NQ_BULK_MOVE] = "move",
                                           [NQ_BULK_PRIORITY] = "priority"};

/* What was asked for. The filter's strings are in words. */
struct bulk_order {
    enum nq_bulk_action action;
    json_t *filter; /* as it was said; NULL: by ids */
    struct pick pick;
    struct pick_words words;
    char *queue;
    nq_bulk_options options;
    bool dry_run;
};

struct bulk_job {
    int64_t id; /* 0: free */
    struct bulk_order order;
    enum bulk_state state;
    bool stop, total_capped;
    int64_t total; /* at least so many where total_capped */
    uint64_t done, skipped;
    int64_t started_us, ended_us;
    char who[DASH_WHO], error[256];
};

static struct {
    pthread_mutex_t mutex; /* of all jobs, but for the order of one that runs: it does not change */
    struct bulk_job *jobs[BULK_JOBS];
    int64_t made;
    unsigned running;
} bulk = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void bulk_order_free(struct bulk_order *o)
{
    json_decref(o->filter);
    pick_words_free(&o->words);
    free(o->queue);
}

/* ---- Reading an order ---- */

/* "50/s", "1000/m", "10/5s": tasks in a time. */
static bool bulk_rate(const char *text, unsigned *per_second, nq_err *err)
{
    char *end = NULL;
    int64_t us = 0;
    const long n = text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : 0;
    if (n > 0 && n <= 1000000 && *end == '/' && cli_parse_rate_time(end + 1, &us, NULL) != NQ_OK)
        us = 0;
    const double rate = us > 0 ? (double)n * 1e6 / (double)us : 0;
    if (rate < 1 || rate > 1e6) {
        api_invalid(err, "rate: '%.40s' is none of 50/s, 1000/m and the like, from one a second on", text);
        return false;
    }
    *per_second = (unsigned)rate;
    return true;
}

static bool bulk_action(const struct dash_request *r, enum nq_bulk_action *action, nq_err *err)
{
    const char *name = NULL;
    if (!api_body_str(r, "action", &name, err))
        return false;
    for (int i = 0; name && i < 5; i++) {
        if (strcmp(bulk_actions[i], name) == 0) {
            *action = (enum nq_bulk_action)i;
            return true;
        }
    }
    api_invalid(err, "action is none of retry, cancel, delete, move, priority");
    return false;
}

static bool bulk_options(struct dash_request *r, struct bulk_order *o, nq_err *err)
{
    const char *queue = NULL, *rate = NULL;
    int64_t limit = 0, priority = 0;
    if (!api_body_int(r, "limit", 1, INT64_MAX, &limit, err) || !api_body_str(r, "rate", &rate, err) ||
        !api_body_str(r, "to_queue", &queue, err) ||
        !api_body_int(r, "priority", NQ_MIN_PRIORITY, NQ_MAX_PRIORITY, &priority, err) ||
        (rate && !bulk_rate(rate, &o->options.per_second, err)) ||
        !api_body_bool(r, "all", &o->options.all, err) || !api_body_bool(r, "dry_run", &o->dry_run, err))
        return false;
    if (o->action == NQ_BULK_MOVE && !queue) {
        api_invalid(err, "to_queue is missing: where to move them");
        return false;
    }
    if (o->action == NQ_BULK_PRIORITY && !json_is_integer(json_object_get(r->body, "priority"))) {
        api_invalid(err, "priority is missing: a whole number from %d to %d", NQ_MIN_PRIORITY,
                    NQ_MAX_PRIORITY);
        return false;
    }
    o->queue = queue ? cli_format("%s", queue) : NULL;
    o->options.size = sizeof o->options;
    o->options.queue = o->action == NQ_BULK_MOVE ? o->queue : NULL;
    o->options.priority = (int)priority;
    o->options.limit = (uint64_t)limit;
    o->options.dry_run = o->dry_run;
    return true;
}

static bool bulk_order(struct dash_request *r, struct bulk_order *o, nq_err *err)
{
    const json_t *ids = json_object_get(r->body, "ids"), *filter = json_object_get(r->body, "filter");
    if (!bulk_action(r, &o->action, err) || !bulk_options(r, o, err))
        return false;
    if (!json_is_array(ids) == !json_is_object(filter)) {
        api_invalid(err, "either ids, a list, or filter, an object, says which tasks are meant");
        return false;
    }
    if (json_is_array(ids))
        return pick_ids(&o->pick, ids, err);
    o->filter = json_deep_copy(filter);
    return pick_body(&o->pick, &o->words, r, filter, err);
}

/* ---- Running ---- */

static bool bulk_stopped(struct bulk_job *job)
{
    pthread_mutex_lock(&bulk.mutex);
    const bool stop = job->stop;
    pthread_mutex_unlock(&bulk.mutex);
    return stop;
}

static void bulk_told(struct bulk_job *job, uint64_t done, uint64_t skipped)
{
    pthread_mutex_lock(&bulk.mutex);
    job->done = done;
    job->skipped = skipped;
    pthread_mutex_unlock(&bulk.mutex);
}

static uint64_t bulk_skipped(const nq_bulk_counts *c)
{
    return c->changed + c->state + c->duplicates + c->locked + c->refused;
}

static int bulk_progress(const nq_bulk_counts *c, void *udata)
{
    bulk_told(udata, c->done, bulk_skipped(c));
    return bulk_stopped(udata);
}

static int bulk_call(struct bulk_job *job, nq_err *err)
{
    const struct bulk_order *o = &job->order;
    nq_bulk_options options = o->options;
    nq_bulk_counts counts = {.size = sizeof counts};
    options.progress = bulk_progress;
    options.udata = job;
    const int rc = nq_bulk(dash.q, &o->pick.filter, o->action, &options, &counts, err);
    /* Of ids those too that there are none of. */
    const uint64_t missing = rc == NQ_OK && !counts.stopped && o->pick.filter.nids > counts.found
                                 ? o->pick.filter.nids - counts.found
                                 : 0;
    bulk_told(job, counts.done, bulk_skipped(&counts) + missing);
    return rc;
}

static void *bulk_run(void *arg)
{
    struct bulk_job *job = arg;
    nq_err err = {0};
    const int rc = bulk_call(job, &err);
    pthread_mutex_lock(&bulk.mutex);
    job->ended_us = cli_now_us(CLOCK_REALTIME);
    job->state = job->stop ? BULK_STOPPED : BULK_DONE;
    if (rc != NQ_OK) {
        job->state = BULK_FAILED;
        snprintf(job->error, sizeof job->error, "%.250s", err.message[0] ? err.message : nq_strerror(rc));
    }
    bulk.running--;
    pthread_mutex_unlock(&bulk.mutex);
    return NULL;
}

static int bulk_dry_progress(const nq_bulk_counts *c, void *udata)
{
    (void)c;
    return dash_clock_us() > *(const int64_t *)udata;
}

/* How many would be tried, as far as it comes in a few seconds. */
static int bulk_dry(struct dash_request *r, struct bulk_order *o, nq_err *err)
{
    int64_t until = dash_clock_us() + BULK_DRY_US;
    nq_bulk_counts counts = {.size = sizeof counts};
    o->options.per_second = 0;
    o->options.progress = bulk_dry_progress;
    o->options.udata = &until;
    const int rc = nq_bulk(dash.q, &o->pick.filter, o->action, &o->options, &counts, err);
    out_int(out_key(&r->out, "would"), (int64_t)counts.done);
    out_bool(out_key(&r->out, "capped"),
             counts.stopped && (o->options.limit == 0 || counts.done < o->options.limit));
    return rc;
}

/* The place of a new job: that of the oldest that does not run. NULL: too many run. Under the lock. */
static struct bulk_job **bulk_place(void)
{
    struct bulk_job **place = NULL;
    for (size_t i = 0; i < BULK_JOBS && bulk.running < BULK_RUNNING; i++) {
        struct bulk_job **at = &bulk.jobs[i];
        if (!*at)
            return at;
        if ((*at)->state != BULK_RUNS && (!place || (*at)->id < (*place)->id))
            place = at;
    }
    return place;
}

/* The job is no longer ours then: told is what is said of it. */
static bool bulk_begin(struct bulk_job *job, struct out *told)
{
    pthread_t thread;
    pthread_mutex_lock(&bulk.mutex);
    struct bulk_job **place = bulk_place();
    if (!place || cli_thread(&thread, bulk_run, job) != 0) {
        pthread_mutex_unlock(&bulk.mutex);
        return false;
    }
    pthread_detach(thread);
    if (*place) {
        bulk_order_free(&(*place)->order);
        free(*place);
    }
    *place = job;
    job->id = ++bulk.made;
    bulk.running++;
    out_int(out_key(told, "bulk"), job->id);
    pthread_mutex_unlock(&bulk.mutex);
    return true;
}

/* A second's dry run: what is refused outright is refused now, and not in a job that fails; and how many
 * there are, as far as it came. */
static int bulk_probe(struct bulk_job *job, nq_err *err)
{
    const struct bulk_order *o = &job->order;
    int64_t until = dash_clock_us() + NQ_SECONDS(1);
    nq_bulk_options probe = o->options;
    nq_bulk_counts counts = {.size = sizeof counts};
    probe.dry_run = true;
    probe.per_second = 0;
    probe.progress = bulk_dry_progress;
    probe.udata = &until;
    const int rc = nq_bulk(dash.q, &o->pick.filter, o->action, &probe, &counts, err);
    job->total = (int64_t)(o->filter ? counts.done : o->pick.filter.nids);
    job->total_capped = o->filter && counts.stopped && (probe.limit == 0 || counts.done < probe.limit);
    return rc;
}

static void bulk_what(struct dash_request *r, const struct bulk_order *o)
{
    char *filter = o->filter ? json_dumps(o->filter, JSON_COMPACT) : NULL;
    size_t n = (size_t)snprintf(r->what, sizeof r->what, "%s %.200s", bulk_actions[o->action],
                                filter ? filter : "ids");
    for (size_t i = 0; !filter && i < o->pick.filter.nids; i++) {
        if (n > sizeof r->what - 40) {
            snprintf(r->what + n, sizeof r->what - n, ", ...");
            break;
        }
        n += (size_t)snprintf(r->what + n, sizeof r->what - n, "%s%lld", i > 0 ? ", " : " ",
                              (long long)o->pick.ids[i]);
    }
    free(filter);
}

int api_bulk_start(struct dash_request *r, nq_err *err)
{
    struct bulk_job *job = cli_alloc(sizeof *job);
    int rc = bulk_order(r, &job->order, err) ? NQ_OK : NQ_EINVAL;
    r->asks = job->order.dry_run;
    if (rc == NQ_OK)
        bulk_what(r, &job->order);
    if (rc == NQ_OK && job->order.dry_run)
        rc = bulk_dry(r, &job->order, err);
    else if (rc == NQ_OK)
        rc = bulk_probe(job, err);
    if (rc == NQ_OK && !job->order.dry_run) {
        job->started_us = cli_now_us(CLOCK_REALTIME);
        snprintf(job->who, sizeof job->who, "%s", r->who.name);
        if (bulk_begin(job, &r->out))
            return NQ_OK;
        api_fail(r, 429, "EBUSY", "%d bulk jobs run: wait for one, or stop it", BULK_RUNNING);
    }
    bulk_order_free(&job->order);
    free(job);
    return rc;
}

/* ---- Looking, stopping ---- */

static void bulk_write(struct out *j, const struct bulk_job *job)
{
    out_open(j, '{');
    out_int(out_key(j, "id"), job->id);
    out_str(out_key(j, "action"), bulk_actions[job->order.action]);
    char *filter = job->order.filter ? json_dumps(job->order.filter, JSON_COMPACT) : NULL;
    if (filter)
        out_raw(out_key(j, "filter"), filter, strlen(filter));
    else
        out_null(out_key(j, "filter"));
    free(filter);
    out_positive(out_key(j, "ids"), job->order.filter ? 0 : (int64_t)job->order.pick.filter.nids);
    out_str(out_key(j, "state"), bulk_states[job->state]);
    out_int(out_key(j, "done"), (int64_t)job->done);
    out_int(out_key(j, "skipped"), (int64_t)job->skipped);
    out_int(out_key(j, "total"), job->total);
    out_bool(out_key(j, "total_capped"), job->total_capped);
    out_time(out_key(j, "started_at"), job->started_us);
    out_time(out_key(j, "ended_at"), job->ended_us);
    out_str(out_key(j, "who"), job->who);
    out_optional(out_key(j, "error"), job->error);
    out_close(j, '}');
}

/* With the mutex held: the one with the largest id below this. */
static const struct bulk_job *bulk_before(int64_t id)
{
    const struct bulk_job *found = NULL;
    for (size_t i = 0; i < BULK_JOBS; i++)
        if (bulk.jobs[i] && bulk.jobs[i]->id < id && (!found || bulk.jobs[i]->id > found->id))
            found = bulk.jobs[i];
    return found;
}

int api_bulk(struct dash_request *r, nq_err *err)
{
    (void)err;
    out_open(out_key(&r->out, "jobs"), '[');
    pthread_mutex_lock(&bulk.mutex);
    /* The newest first: one that runs keeps its place, however many came after it. */
    const struct bulk_job *next;
    for (int64_t before = INT64_MAX; (next = bulk_before(before)); before = next->id)
        bulk_write(&r->out, next);
    pthread_mutex_unlock(&bulk.mutex);
    out_close(&r->out, ']');
    return NQ_OK;
}

int api_bulk_stop(struct dash_request *r, nq_err *err)
{
    bool found = false;
    (void)err;
    snprintf(r->what, sizeof r->what, "%lld", (long long)r->id);
    pthread_mutex_lock(&bulk.mutex);
    for (size_t i = 0; i < BULK_JOBS; i++) {
        if (bulk.jobs[i] && bulk.jobs[i]->id == r->id) {
            found = true;
            bulk.jobs[i]->stop = bulk.jobs[i]->state == BULK_RUNS;
        }
    }
    pthread_mutex_unlock(&bulk.mutex);
    return found ? NQ_OK : api_fail(r, 404, "ENOTFOUND", "there is no bulk job %lld", (long long)r->id);
}

bool bulk_end(void)
{
    const int64_t until = dash_clock_us() + NQ_SECONDS(5);
    bool running = true;
    while (running && dash_clock_us() < until) {
        pthread_mutex_lock(&bulk.mutex);
        for (size_t i = 0; i < BULK_JOBS; i++)
            if (bulk.jobs[i])
                bulk.jobs[i]->stop = bulk.jobs[i]->state == BULK_RUNS;
        running = bulk.running > 0;
        pthread_mutex_unlock(&bulk.mutex);
        if (running)
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    for (size_t i = 0; i < BULK_JOBS && !running; i++) {
        if (bulk.jobs[i])
            bulk_order_free(&bulk.jobs[i]->order);
        free(bulk.jobs[i]);
    }
    return !running;
}
