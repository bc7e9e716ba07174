/* SPDX-License-Identifier: MIT */
/* What the files of nanoq-dashboard share. */
#ifndef DASH_H
#define DASH_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <jansson.h>
#include <microhttpd.h>

#include "../cli/cli.h"
#include "out.h"

/*
 * THREADS. The main thread runs HTTP and all that is not a call into the database: access, assets, streams. A
 * few others (pool.c) run the calls of requests, whose connections are suspended meanwhile; one (sampler.c)
 * reads what the streams show, while there are any; and each bulk job has one.
 */

/* Limits, of which docs/dashboard.md tells. */
enum {
    DASH_THREADS = 4,
    DASH_CONNECTIONS = 160,
    DASH_STREAMS = 64,
    DASH_BODY = 65536,
    DASH_MEMORY = 16384, /* of one connection: the head of its request, and what is being sent */
    DASH_PARAMS = 64,
    DASH_READ_S = 15,   /* for a whole request; and without a sign of life */
    DASH_ANSWER_S = 120 /* to take the whole answer */
};

enum dash_role { DASH_NOBODY = 0, DASH_VIEWER, DASH_ADMIN };

#define DASH_WHO 128
struct dash_who {
    enum dash_role role;
    bool token; /* it has a token or a session: there is something to sign out of */
    char name[DASH_WHO];
};

struct dash_settings {
    nq *q;
    char *database; /* the URL without its password and options */
    bool read_only;
    const char *listen, *token_file, *trust_header, *trust_from, *trust_admin, *mask;
    const char *hosts[16];
    size_t nhosts;
};
extern struct dash_settings dash;

struct dash_pair {
    char *name, *value;
};

struct dash_request;
/* One address of the API. run: in a thread of the pool, unless `here`. What it answers but NQ_OK is told as
 * an error. */
struct dash_route {
    const char *method, *path; /* "tasks/#/retry": # is a number */
    int (*run)(struct dash_request *r, nq_err *err);
    enum dash_role role;
    bool here;          /* in the main thread: it does not call the database */
    const char *action; /* of a change, for the action log: "task retry" */
    const char *body;   /* "queue group": its members; NULL: it has none */
};

struct dash_request {
    struct MHD_Connection *connection;
    struct dash_conn *conn;
    const struct dash_route *route;
    char *path; /* behind api/v1/ */
    int64_t id; /* the number in the path */
    struct dash_pair params[DASH_PARAMS];
    size_t nparams;
    struct text body_text;
    bool asks;                   /* an action that is to change nothing: no line of the log */
    bool too_big, running, done; /* running: in the pool; done: the answer stands in out */
    json_t *body;                /* of a POST: an object */
    struct dash_who who;
    struct out out;
    unsigned status;  /* 0: 200 */
    const char *type; /* of the answer; NULL: JSON */
    char cookie[160]; /* to be set, or "" */
    char what[256];   /* what an action is about, for the log */
    struct dash_request *next;
};

/* One connection; its requests come one after the other. */
struct dash_conn {
    int fd;
    int64_t since_us; /* its opening, or what happened last: the end of a request, the start of an answer */
    enum { DASH_READING, DASH_RUNNING, DASH_ANSWERING, DASH_STREAMING } state;
    struct dash_conn *next, **at;
};

/* ---- shared.c */
int64_t dash_clock_us(void); /* monotonic */
void dash_wake(void);        /* any thread: something is to be done in the main thread */
int dash_wakes(void);        /* the descriptor that says so; the first call makes it */

/* ---- memory.c */
void memory_start(void);   /* before all else */
void memory_started(void); /* what only the start needed is given back */
void memory_idle(void);    /* so is what requests needed */

/* ---- http.c: the server; answers an exit code. */
int http_run(int listening, const char *told);

/* ---- answer.c: in the main thread. Answer what stands in r->out. */
enum MHD_Result answer(struct dash_request *r);
void answer_headers(struct MHD_Response *response); /* those that all answers have */

/* ---- routes.c */
/* The route of a method and path, with *id; NULL: none, and *status says which error. */
const struct dash_route *routes_find(const char *method, const char *path, int64_t *id, unsigned *status);
void routes_run(struct dash_request *r); /* and log the change */

/* ---- api.c */
/* Make r's answer an error of this status; answers NQ_OK. */
int api_fail(struct dash_request *r, unsigned status, const char *code, const char *fmt, ...) NQ_PRINTF(4, 5);
void api_error(struct dash_request *r, const nq_err *err);
/* The value of a parameter, or NULL. */
const char *api_param(const struct dash_request *r, const char *name);
/* A number of the query; false: *err says what is allowed. */
bool api_param_int(const struct dash_request *r, const char *name, int64_t low, int64_t high, int64_t *out,
                   nq_err *err);
/* "15m", "24h": microseconds. */
bool api_param_window(const struct dash_request *r, const char *const allowed[], int64_t *us, nq_err *err);
/* A string of the body: NULL where it is not there or null. */
bool api_body_str(const struct dash_request *r, const char *name, const char **out, nq_err *err);
bool api_body_bool(const struct dash_request *r, const char *name, bool *out, nq_err *err);
bool api_body_int(const struct dash_request *r, const char *name, int64_t low, int64_t high, int64_t *out,
                  nq_err *err);
int api_invalid(nq_err *err, const char *fmt, ...) NQ_PRINTF(2, 3); /* NQ_EINVAL */

/* ---- pick.c: which tasks are meant. Its strings are those of the request. */
struct pick {
    nq_filter filter;
    const char *queues[NQ_MAX_LIST_NAMES], *groups[NQ_MAX_LIST_NAMES], *types[NQ_MAX_LIST_NAMES],
        *tags[NQ_MAX_TAGS];
    nq_id ids[NQ_MAX_FILTER_IDS];
    bool any; /* something is said */
};
/* Of the query; others: names that mean something else, up to NULL. */
bool pick_params(struct pick *f, struct dash_request *r, const char *const others[], nq_err *err);

/* Of a member of the body, an object. Its strings are in words then. */
#define PICK_WORDS 320
struct pick_words {
    char *all[PICK_WORDS];
    size_t n;
};
bool pick_body(struct pick *f, struct pick_words *words, struct dash_request *r, const json_t *filter,
               nq_err *err);
/* Of a list of numbers. */
bool pick_ids(struct pick *f, const json_t *ids, nq_err *err);
void pick_words_free(struct pick_words *words);

/* ---- api_*.c: what the routes run. */
int api_tasks(struct dash_request *r, nq_err *err);
int api_tasks_count(struct dash_request *r, nq_err *err);
int api_task(struct dash_request *r, nq_err *err);
int api_task_attempts(struct dash_request *r, nq_err *err);
int api_task_why(struct dash_request *r, nq_err *err);
int api_task_logs(struct dash_request *r, nq_err *err);
int api_overview(struct dash_request *r, nq_err *err);
int api_minutes(struct dash_request *r, nq_err *err);
int api_types(struct dash_request *r, nq_err *err);
int api_queues(struct dash_request *r, nq_err *err);
int api_metrics(struct dash_request *r, nq_err *err);
int api_workers(struct dash_request *r, nq_err *err);
int api_doctor(struct dash_request *r, nq_err *err);
int api_schedules(struct dash_request *r, nq_err *err);
int api_schedules_next(struct dash_request *r, nq_err *err);
int api_schedules_firings(struct dash_request *r, nq_err *err);
int api_session(struct dash_request *r, nq_err *err);
int api_login(struct dash_request *r, nq_err *err);
int api_logout(struct dash_request *r, nq_err *err);
int api_log(struct dash_request *r, nq_err *err);
int api_task_retry(struct dash_request *r, nq_err *err);
int api_task_cancel(struct dash_request *r, nq_err *err);
int api_task_delete(struct dash_request *r, nq_err *err);
int api_queue_pause(struct dash_request *r, nq_err *err);
int api_queue_resume(struct dash_request *r, nq_err *err);
int api_queue_limit(struct dash_request *r, nq_err *err);
int api_schedule_run(struct dash_request *r, nq_err *err);
int api_schedule_pause(struct dash_request *r, nq_err *err);
int api_schedule_resume(struct dash_request *r, nq_err *err);
int api_bulk(struct dash_request *r, nq_err *err);
int api_bulk_start(struct dash_request *r, nq_err *err);
int api_bulk_stop(struct dash_request *r, nq_err *err);
int api_events(struct dash_request *r, nq_err *err);
/* Stop all bulk jobs; false: one still waits for the database. */
bool bulk_end(void);
/* One task as `nanoq list` prints it; here: so many bytes of the payload are at hand. Answers whether
 * something is masked. */
bool api_task_fields(struct out *j, const nq_info *info, size_t here);
/* Text, and headers, of a row: masked, null where there is none. Was something masked? */
bool api_text(struct out *j, const char *s);
bool api_headers(struct out *j, const nq_header *all, size_t n);

/* ---- access.c: in the main thread, but for the first two. */
bool access_start(void); /* read the token file and what else was said; complains */
bool access_open(void);  /* neither tokens nor a trusted header: whoever comes may do all */
/* Who asks. false: r's answer is an error. */
bool access_who(struct dash_request *r);
bool access_host(struct MHD_Connection *connection);
/* A POST comes of our own pages, and may change something. false: r's answer is an error. */
bool access_change(struct dash_request *r);
/* Start a session of whoever has this token. */
bool access_login(struct dash_request *r, const char *token);
void access_logout(struct dash_request *r);
/* The session that a stream began with is still there. */
bool access_still(const char *session);
void access_session_of(struct MHD_Connection *connection, char out[65]);

/* ---- net.c */
/* "8080", "127.0.0.1:8080", "[::1]:0", "localhost:8080". -1 after a complaint; told: "127.0.0.1:8080". */
int net_listen(const char *text, char told[80], bool *loopback);
struct net_range {
    unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;
};
bool net_range_parse(const char *text, struct net_range *out);
bool net_range_has(const struct net_range *range, const struct sockaddr *address);

/* ---- mask.c */
bool mask_start(const char *keys); /* "password,token" */
bool mask_any(void);
bool mask_key(const char *p, size_t n);
/* A copy in which the values of masked keys are "***"; whether there were any. Whatever else stands around
 * JSON. */
bool mask_text(struct text *out, const void *p, size_t n);
void mask_names(struct out *j);

/* ---- pool.c */
bool pool_start(void (*run)(struct dash_request *r));
void pool_submit(struct dash_request *r);
struct dash_request *pool_take(void); /* one that is done, or NULL */
bool pool_stop(void);                 /* false: a thread still waits for the database */

/* ---- sampler.c */
struct sample {
    atomic_int refs;
    uint64_t number;
    int64_t made_us;
    size_t n;
    char text[]; /* a whole event */
};
bool sampler_start(void);
bool sampler_stop(void); /* false: it still waits for the database */
void sampler_viewers(int change);
/* The newest one with a reference, if it is newer than `number`; else NULL. */
struct sample *sampler_newest(uint64_t number);
void sample_free(struct sample *s);
/* The body of a sample: totals, queues, workers, rates. */
int sample_read(struct out *j, nq_err *err);
/* What was seen last in the `step_us` from at_us: false: nothing. */
struct sample_depth {
    int64_t minute, due, running, oldest_due_us;
};
bool sampler_depth(int64_t at_us, int64_t step_us, struct sample_depth *out);

/* ---- stream.c: in the main thread. */
enum MHD_Result stream_answer(struct dash_request *r);
void stream_tick(void); /* let those go on that have something to send */
void stream_stop(void); /* end them all */

/* ---- actions.c */
void actions_add(const struct dash_request *r, const char *action, const char *result);
void actions_write(struct out *j, size_t limit);

/* ---- assets.c */
enum MHD_Result assets_answer(struct dash_request *r, const char *url, bool *found);

#endif
