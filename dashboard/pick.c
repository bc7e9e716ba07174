/* SPDX-License-Identifier: MIT */
/* Which tasks are meant: the names of a query or of a body as a filter. */
#include <time.h>

#include "dash.h"

static bool pick_name(const char *name, const char *value, const char *all[], size_t *n, size_t most,
                      nq_err *err)
{
    if (*n == most) {
        api_invalid(err, "%s: at most %zu are allowed", name, most);
        return false;
    }
    all[(*n)++] = value;
    return true;
}

/* The parts of "a,b": commas become ends. */
static char *pick_part(char **rest)
{
    char *part = *rest, *comma = strchr(part, ',');
    *rest = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    return part;
}

static bool pick_queues(struct pick *f, char *value, nq_err *err)
{
    bool good = true;
    for (char *rest = value; good && rest;)
        good = pick_name("queue", pick_part(&rest), f->queues, &f->filter.nqueues, NQ_MAX_LIST_NAMES, err);
    return good;
}

static bool pick_states(struct pick *f, char *value, nq_err *err)
{
    for (char *rest = value; rest;) {
        const char *name = pick_part(&rest);
        const int state = nq_state_from_name(name);
        if (state < 0) {
            api_invalid(err, "state: '%.40s' is none of waiting, running, done, dead, cancelled", name);
            return false;
        }
        f->filter.states |= NQ_STATE_BIT(state);
    }
    return true;
}

/* "7,12" */
static bool pick_id(struct pick *f, char *value, nq_err *err)
{
    for (char *rest = value; rest;) {
        const char *part = pick_part(&rest);
        char *end = NULL;
        const long long id = part[0] >= '0' && part[0] <= '9' ? strtoll(part, &end, 10) : 0;
        if (f->filter.nids == NQ_MAX_FILTER_IDS || id <= 0 || id == INT64_MAX || *end) {
            api_invalid(err, "id: '%.40s' must be the id of a task, a number, one of at most %d", part,
                        NQ_MAX_FILTER_IDS);
            return false;
        }
        f->ids[f->filter.nids++] = id;
    }
    return true;
}

/* A time, or a duration: so long ago. */
static bool pick_time(const char *name, const char *value, int64_t *us, nq_err *err)
{
    int64_t ago = 0;
    nq_err why = {0};
    const bool date = strchr(value, '-') || value[0] == '@' || strchr(value, ':');
    const int rc = date ? cli_parse_time(value, us, &why) : nq_parse_duration(value, &ago, &why);
    if (rc != NQ_OK) {
        api_invalid(err, "%s: %.400s", name, why.message);
        return false;
    }
    if (!date)
        *us = cli_now_us(CLOCK_REALTIME) - ago;
    if (*us <= 0) {
        api_invalid(err, "%s: '%.40s' is before 1970", name, value);
        return false;
    }
    return true;
}

static bool pick_by(struct pick *f, const char *value, nq_err *err)
{
    static const char *const names[] = {
        [NQ_BY_CREATED] = "created", [NQ_BY_RUN_AT] = "run_at", [NQ_BY_FINISHED] = "finished"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(value, names[i]) == 0) {
            f->filter.time = (int)i;
            return true;
        }
    }
    api_invalid(err, "by: '%.40s' is none of created, run_at, finished", value);
    return false;
}

/* Whoever may search in a text can find out what is masked in it. */
static bool pick_searches(const struct dash_request *r, nq_err *err)
{
    if (!mask_any() || r->who.role == DASH_ADMIN)
        return true;
    api_invalid(err, "keys are masked here: a viewer may not search by text or error");
    return false;
}

static bool pick_one(struct pick *f, const struct dash_request *r, const char *name, char *value, nq_err *err)
{
    nq_filter *const o = &f->filter;
    f->any = f->any || strcmp(name, "by") != 0;
    if (strcmp(name, "queue") == 0)
        return pick_queues(f, value, err);
    if (strcmp(name, "group") == 0)
        return pick_name(name, value, f->groups, &o->ngroups, NQ_MAX_LIST_NAMES, err);
    if (strcmp(name, "type") == 0)
        return pick_name(name, value, f->types, &o->ntypes, NQ_MAX_LIST_NAMES, err);
    if (strcmp(name, "tag") == 0)
        return pick_name(name, value, f->tags, &o->ntags, NQ_MAX_TAGS, err);
    if (strcmp(name, "state") == 0)
        return pick_states(f, value, err);
    if (strcmp(name, "since") == 0)
        return pick_time(name, value, &o->since_us, err);
    if (strcmp(name, "until") == 0)
        return pick_time(name, value, &o->until_us, err);
    if (strcmp(name, "by") == 0)
        return pick_by(f, value, err);
    if (strcmp(name, "error") == 0) {
        o->error = value;
        return pick_searches(r, err);
    }
    if (strcmp(name, "text") == 0 || strcmp(name, "payload") == 0) {
        o->text = value;
        return pick_searches(r, err);
    }
    if (strcmp(name, "id") == 0)
        return pick_id(f, value, err);
    if (strcmp(name, "worker") == 0) {
        o->worker = value;
        return true;
    }
    api_invalid(err,
                "'%.40s' is no filter; allowed are queue, group, type, state, tag, error, text, since, "
                "until, by, worker, id",
                name);
    return false;
}

static bool pick_end(struct pick *f, nq_err *err)
{
    nq_filter *const o = &f->filter;
    o->size = sizeof *o;
    o->queues = f->queues;
    o->groups = f->groups;
    o->types = f->types;
    o->tags = f->tags;
    o->ids = f->ids;
    if (o->ngroups > 0 && o->nqueues == 0) {
        api_invalid(err, "group is of a queue: give queue too");
        return false;
    }
    return true;
}

bool pick_params(struct pick *f, struct dash_request *r, const char *const others[], nq_err *err)
{
    for (size_t i = 0; i < r->nparams; i++) {
        size_t k = 0;
        while (others[k] && strcmp(others[k], r->params[i].name) != 0)
            k++;
        if (!others[k] && r->params[i].value[0] &&
            !pick_one(f, r, r->params[i].name, r->params[i].value, err))
            return false;
    }
    return pick_end(f, err);
}

void pick_words_free(struct pick_words *words)
{
    for (size_t i = 0; i < words->n; i++)
        free(words->all[i]);
    words->n = 0;
}

/* One string of a filter in JSON. */
static bool pick_word(struct pick *f, struct pick_words *words, struct dash_request *r, const char *name,
                      const json_t *value, nq_err *err)
{
    const char *text = json_string_value(value);
    if (!text || strlen(text) != json_string_length(value) || words->n == PICK_WORDS) {
        api_invalid(err, "filter: %.40s must be a string without zero bytes, or a list of such strings",
                    name);
        return false;
    }
    if (!*text) { /* what was to be put there is missing: many more would be meant */
        api_invalid(err, "filter: %.40s is empty", name);
        return false;
    }
    words->all[words->n] = cli_format("%s", text);
    return pick_one(f, r, name, words->all[words->n++], err);
}

bool pick_body(struct pick *f, struct pick_words *words, struct dash_request *r, const json_t *filter,
               nq_err *err)
{
    const char *name;
    json_t *value;
    bool good = true;
    json_object_foreach((json_t *)(uintptr_t)filter, name, value)
    {
        if (good && json_is_array(value) && json_array_size(value) == 0) {
            api_invalid(err, "filter: %.40s is an empty list", name);
            good = false;
        }
        for (size_t i = 0; good && i < json_array_size(value); i++)
            good = pick_word(f, words, r, name, json_array_get(value, i), err);
        if (good && !json_is_array(value) && !json_is_null(value))
            good = pick_word(f, words, r, name, value, err);
    }
    return good && pick_end(f, err);
}

bool pick_ids(struct pick *f, const json_t *ids, nq_err *err)
{
    const size_t n = json_array_size(ids);
    if (n == 0 || n > NQ_MAX_FILTER_IDS) {
        api_invalid(err, "ids has %zu of them: 1 to %d are allowed", n, NQ_MAX_FILTER_IDS);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        f->ids[i] = json_integer_value(json_array_get(ids, i));
        if (f->ids[i] <= 0) {
            api_invalid(err, "ids must be a list of ids of tasks: positive whole numbers");
            return false;
        }
    }
    f->filter.nids = n;
    f->any = true;
    return pick_end(f, err);
}
