/* SPDX-License-Identifier: MIT */
/* The addresses of the JSON API, and running what stands behind them. docs/api.md is its contract. */
#include <errno.h>

#include "dash.h"

/* "#" stands for a number. */
static const struct dash_route routes_all[] = {
    {"GET", "session", api_session, DASH_VIEWER, true, NULL, NULL},
    {"POST", "login", api_login, DASH_NOBODY, true, "login", "token"},
    {"POST", "logout", api_logout, DASH_NOBODY, true, NULL, NULL},
    {"GET", "log", api_log, DASH_VIEWER, true, NULL, NULL},
    {"GET", "events", api_events, DASH_VIEWER, true, NULL, NULL},
    {"GET", "overview", api_overview, DASH_VIEWER, false, NULL, NULL},
    {"GET", "minutes", api_minutes, DASH_VIEWER, false, NULL, NULL},
    {"GET", "types", api_types, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks", api_tasks, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks/count", api_tasks_count, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks/#", api_task, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks/#/attempts", api_task_attempts, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks/#/why", api_task_why, DASH_VIEWER, false, NULL, NULL},
    {"GET", "tasks/#/logs", api_task_logs, DASH_VIEWER, false, NULL, NULL},
    {"POST", "tasks/#/retry", api_task_retry, DASH_ADMIN, false, "task retry", NULL},
    {"POST", "tasks/#/cancel", api_task_cancel, DASH_ADMIN, false, "task cancel", NULL},
    {"POST", "tasks/#/delete", api_task_delete, DASH_ADMIN, false, "task delete", NULL},
    {"GET", "queues", api_queues, DASH_VIEWER, false, NULL, NULL},
    {"POST", "queues/pause", api_queue_pause, DASH_ADMIN, false, "queue pause", "queue group type why"},
    {"POST", "queues/resume", api_queue_resume, DASH_ADMIN, false, "queue resume", "queue group type"},
    {"POST", "queues/limit", api_queue_limit, DASH_ADMIN, false, "queue limit",
     "queue group type max_running rate_starts rate_time burst weight ordered dead_to keep_done keep_dead"},
    {"GET", "metrics", api_metrics, DASH_VIEWER, false, NULL, NULL},
    {"GET", "workers", api_workers, DASH_VIEWER, false, NULL, NULL},
    {"GET", "doctor", api_doctor, DASH_VIEWER, false, NULL, NULL},
    {"GET", "schedules", api_schedules, DASH_VIEWER, false, NULL, NULL},
    {"GET", "schedules/next", api_schedules_next, DASH_VIEWER, false, NULL, NULL},
    {"GET", "schedules/firings", api_schedules_firings, DASH_VIEWER, false, NULL, NULL},
    {"POST", "schedules/run", api_schedule_run, DASH_ADMIN, false, "schedule run", "name"},
    {"POST", "schedules/pause", api_schedule_pause, DASH_ADMIN, false, "schedule pause", "name why"},
    {"POST", "schedules/resume", api_schedule_resume, DASH_ADMIN, false, "schedule resume", "name"},
    {"GET", "bulk", api_bulk, DASH_VIEWER, true, NULL, NULL},
    {"POST", "bulk", api_bulk_start, DASH_ADMIN, false, "bulk",
     "action filter ids all dry_run limit rate to_queue priority"},
    {"POST", "bulk/#/stop", api_bulk_stop, DASH_ADMIN, true, "bulk stop", NULL},
};

static bool routes_match(const char *pattern, const char *path, int64_t *id)
{
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*path++ != *pattern)
                return false;
            continue;
        }
        const size_t n = strspn(path, "0123456789");
        errno = 0;
        *id = n > 0 ? strtoll(path, NULL, 10) : 0;
        if (n == 0 || errno != 0 || *id <= 0)
            return false;
        path += n;
    }
    return *path == '\0';
}

const struct dash_route *routes_find(const char *method, const char *path, int64_t *id, unsigned *status)
{
    *status = 404;
    for (size_t i = 0; i < sizeof routes_all / sizeof routes_all[0]; i++) {
        if (!routes_match(routes_all[i].path, path, id))
            continue;
        if (strcmp(routes_all[i].method, method) == 0)
            return &routes_all[i];
        *status = 405;
    }
    return NULL;
}

/* A member that is misspelt would be one that is not said: a pause of a group one of the whole queue. */
static int routes_body(const struct dash_request *r, nq_err *err)
{
    const char *allowed = r->route->body ? r->route->body : "", *name;
    json_t *value;
    json_object_foreach(r->body, name, value)
    {
        const size_t n = strlen(name);
        const char *at = strstr(allowed, name);
        while (at && !((at == allowed || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')))
            at = strstr(at + 1, name);
        if (n == 0 || !at)
            return api_invalid(err, "'%.40s' is no member of this body; allowed are: %s", name,
                               *allowed ? allowed : "none");
    }
    return NQ_OK;
}

void routes_run(struct dash_request *r)
{
    nq_err err = {0};
    char result[256] = "ok";
    out_open(&r->out, '{');
    int rc = routes_body(r, &err);
    rc = rc == NQ_OK ? r->route->run(r, &err) : rc;
    if (rc < 0) {
        r->type = NULL;
        err.code = rc;
        api_error(r, &err);
    } else if (!r->status && !r->type) {
        out_close(&r->out, '}');
    }
    if (rc < 0)
        snprintf(result, sizeof result, "%.250s", err.message[0] ? err.message : nq_strerror(rc));
    else if (r->status)
        snprintf(result, sizeof result, "refused: %u", r->status);
    if (r->route->action && !r->asks)
        actions_add(r, r->route->action, result);
}
