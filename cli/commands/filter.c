/* SPDX-License-Identifier: MIT */
/* Reading the options by which commands say which tasks they mean. */
#include "filter.h"

#include <time.h>

static bool filter_name(const char *option, const char *value, const char *names[], size_t *n, size_t most)
{
    if (*n == most) {
        cli_complain("%s: at most %zu are allowed", option, most);
        return false;
    }
    names[(*n)++] = value;
    return true;
}

/* The parts of "a,b" one by one: commas become ends. */
static char *filter_part(char **rest)
{
    char *part = *rest, *comma = strchr(part, ',');
    *rest = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    return part;
}

static bool filter_names(const char *option, char *value, const char *names[], size_t *n, size_t most)
{
    bool good = true;
    for (char *rest = value; good && rest;)
        good = filter_name(option, filter_part(&rest), names, n, most);
    return good;
}

static bool filter_states(char *value, nq_filter *f)
{
    for (char *rest = value; rest;) {
        const char *name = filter_part(&rest);
        const int state = nq_state_from_name(name);
        if (state < 0) {
            cli_complain("--state: '%s' is none of waiting, running, done, dead, cancelled", name);
            return false;
        }
        f->states |= NQ_STATE_BIT(state);
    }
    return true;
}

static bool filter_ids(char *value, struct filter *r)
{
    for (char *rest = value; rest;) {
        if (r->f.nids == NQ_MAX_FILTER_IDS) {
            cli_complain("--id: at most %d are allowed", NQ_MAX_FILTER_IDS);
            return false;
        }
        if (!cli_take_id(filter_part(&rest), &r->ids[r->f.nids]))
            return false;
        r->f.nids++;
    }
    return true;
}

static bool filter_by(struct filter *r, const char *value)
{
    static const char *const names[] = {
        [NQ_BY_CREATED] = "created", [NQ_BY_RUN_AT] = "run_at", [NQ_BY_FINISHED] = "finished"};
    r->by = true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(value, names[i]) == 0) {
            r->f.time = (int)i;
            return true;
        }
    }
    cli_complain("--by: '%s' is none of created, run_at, finished", value);
    return false;
}

bool filter_is(int key)
{
    return key == FILTER_STATE || key == FILTER_QUEUE || key == FILTER_TYPE ||
           (key >= FILTER_GROUP && key <= FILTER_ID);
}

static bool filter_text(const char *option, const char *value, const char **out)
{
    if (value[0] == '\0') {
        cli_complain("%s: the text is empty", option);
        return false;
    }
    *out = value;
    return true;
}

bool filter_take(struct filter *r, int key, char *value)
{
    const char *text = NULL;
    r->said = true;
    switch (key) {
    case FILTER_STATE:
        return filter_states(value, &r->f);
    case FILTER_QUEUE:
        return filter_names("--queue", value, r->queues, &r->f.nqueues, NQ_MAX_LIST_NAMES);
    case FILTER_GROUP:
        return filter_name("--group", value, r->groups, &r->f.ngroups, NQ_MAX_LIST_NAMES);
    case FILTER_TYPE:
        return filter_name("--type", value, r->types, &r->f.ntypes, NQ_MAX_LIST_NAMES);
    case FILTER_TAG:
        return filter_name("--tag", value, r->tags, &r->f.ntags, NQ_MAX_TAGS);
    case FILTER_ERROR:
        return filter_text("--error", value, &r->f.error);
    case FILTER_TEXT:
        if (!filter_text("--text", value, &text))
            return false;
        r->f.text = text;
        return true;
    case FILTER_SINCE:
        return cli_take_moment("--since", value, &r->f.since_us);
    case FILTER_UNTIL:
        return cli_take_moment("--until", value, &r->f.until_us);
    case FILTER_BY:
        return filter_by(r, value);
    case FILTER_ID:
        return filter_ids(value, r);
    default:
        return filter_text("--worker", value, &r->f.worker);
    }
}

bool filter_end(struct filter *r)
{
    nq_filter *f = &r->f;
    f->size = sizeof *f;
    f->queues = r->queues;
    f->groups = r->groups;
    f->types = r->types;
    f->tags = r->tags;
    f->ids = r->ids;
    if (f->ngroups > 0 && f->nqueues == 0) {
        cli_complain("--group is of a queue: give --queue too");
        return false;
    }
    if (r->by && f->since_us == 0 && f->until_us == 0) {
        cli_complain("--by is of --since and --until: give one of them too");
        return false;
    }
    return true;
}
