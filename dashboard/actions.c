/* SPDX-License-Identifier: MIT */
/* The action log: who changed what, the last of it in memory, and each as a line on stderr. */
#include <pthread.h>
#include <time.h>

#include "dash.h"

#define ACTIONS_KEPT 500

struct action {
    int64_t id, at_us;
    char who[DASH_WHO], action[32], what[256], result[256];
};

static struct {
    pthread_mutex_t mutex;
    struct action all[ACTIONS_KEPT];
    int64_t n;
} actions = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void actions_add(const struct dash_request *r, const char *action, const char *result)
{
    pthread_mutex_lock(&actions.mutex);
    struct action *a = &actions.all[actions.n % ACTIONS_KEPT];
    *a = (struct action){.id = ++actions.n, .at_us = cli_now_us(CLOCK_REALTIME)};
    snprintf(a->who, sizeof a->who, "%s", r->who.name);
    snprintf(a->action, sizeof a->action, "%s", action);
    snprintf(a->what, sizeof a->what, "%s", r->what);
    snprintf(a->result, sizeof a->result, "%s", result);
    pthread_mutex_unlock(&actions.mutex);
    cli_complain("%s: %s%s%s: %s", r->who.name, action, r->what[0] ? " " : "", r->what, result);
}

void actions_write(struct out *j, size_t limit)
{
    out_open(j, '[');
    pthread_mutex_lock(&actions.mutex);
    for (int64_t i = actions.n; i > 0 && actions.n - i < ACTIONS_KEPT && (size_t)(actions.n - i) < limit;
         i--) {
        const struct action *a = &actions.all[(i - 1) % ACTIONS_KEPT];
        out_open(j, '{');
        out_int(out_key(j, "id"), a->id);
        out_time(out_key(j, "at"), a->at_us);
        out_str(out_key(j, "who"), a->who);
        out_str(out_key(j, "action"), a->action);
        out_str(out_key(j, "what"), a->what);
        out_str(out_key(j, "result"), a->result);
        out_close(j, '}');
    }
    pthread_mutex_unlock(&actions.mutex);
    out_close(j, ']');
}
