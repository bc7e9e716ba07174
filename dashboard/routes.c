/* SPDX-License-Identifier: MIT */
/* The addresses of the JSON API, and running what stands behind them. docs/api.md is its contract. */
#include <errno.h>

#include "dash.h"

/* "#" stands for a number. */
static const struct dash_route routes_all[] = {
    {"GET", "session", api_session, DASH_VIEWER, true, NULL},
    {"POST", "login", api_login, DASH_NOBODY, true, "login"},
    {"POST", "logout", api_logout, DASH_NOBODY, true, NULL},
    {"GET", "log", api_log, DASH_VIEWER, true, NULL},
    {"GET", "events", api_events, DASH_VIEWER, true, NULL},
    {"GET", "overview", api_overview, DASH_VIEWER, false, NULL},
    {"GET", "minutes", api_minutes, DASH_VIEWER, false, NULL},
    {"GET", "types", api_types, DASH_VIEWER, false, NULL},
    {"GET", "tasks", api_tasks, DASH_VIEWER, false, NULL},
    {"GET", "tasks/count", api_tasks_count, DASH_VIEWER, false, NULL},
    {"GET", "tasks/#", api_task, DASH_VIEWER, false, NULL},
    {"GET", "tasks/#/attempts", api_task_attempts, DASH_VIEWER, false, NULL},
    {"GET", "tasks/#/why", api_task_why, DASH_VIEWER, false, NULL},
    {"GET", "tasks/#/logs", api_task_logs, DASH_VIEWER, false, NULL},
    {"POST", "tasks/#/retry", api_task_retry, DASH_ADMIN, false, "task retry"},
    {"POST", "tasks/#/cancel", api_task_cancel, DASH_ADMIN, false, "task cancel"},
    {"POST", "tasks/#/delete", api_task_delete, DASH_ADMIN, false, "task delete"},
    {"GET", "queues", api_queues, DASH_VIEWER, false, NULL},
    {"POST", "queues/pause", api_queue_pause, DASH_ADMIN, false, "queue pause"},
    {"POST", "queues/resume", api_queue_resume, DASH_ADMIN, false, "queue resume"},
    {"POST", "queues/limit", api_queue_limit, DASH_ADMIN, false, "queue limit"},
    {"GET", "metrics", api_metrics, DASH_VIEWER, false, NULL},
    {"GET", "workers", api_workers, DASH_VIEWER, false, NULL},
    {"GET", "doctor", api_doctor, DASH_VIEWER, false, NULL},
    {"GET", "schedules", api_schedules, DASH_VIEWER, false, NULL},
    {"GET", "schedules/next", api_schedules_next, DASH_VIEWER, false, NULL},
    {"GET", "schedules/firings", api_schedules_firings, DASH_VIEWER, false, NULL},
    {"POST", "schedules/run", api_schedule_run, DASH_ADMIN, false, "schedule run"},
    {"POST", "schedules/pause", api_schedule_pause, DASH_ADMIN, false, "schedule pause"},
    {"POST", "schedules/resume", api_schedule_resume, DASH_ADMIN, false, "schedule resume"},
    {"GET", "bulk", api_bulk, DASH_VIEWER, true, NULL},
    {"POST", "bulk", api_bulk_start, DASH_ADMIN, false, "bulk"},
    {"POST", "bulk/#/stop", api_bulk_stop, DASH_ADMIN, true, "bulk stop"},
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

void routes_run(struct dash_request *r)
{
    nq_err err = {0};
    char result[256] = "ok";
    out_open(&r->out, '{');
    const int rc = r->route->run(r, &err);
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
