/* SPDX-License-Identifier: MIT */
/* Task specs: everything about a task is checked here, before anything is sent. */
#include "api.h"

#define SPEC_DEFAULT_TIMEOUT NQ_SECONDS(60)
#define SPEC_DEFAULT_RETRIES 10
#define SPEC_MAX_TIME        ((int64_t)253402300799999999) /* 9999-12-31T23:59:59.999999Z */

static int spec_check_sizes(const nq_task_spec *s, size_t allowed, size_t possible, nq_err *err)
{
    if (!s->payload && s->payload_size > 0)
        return nq_err_set(err, NQ_EINVAL, "payload is NULL but payload_size is %zu", s->payload_size);
    if (s->payload_size > allowed)
        return nq_err_set(err, NQ_ETOOBIG, "payload is %zu bytes long, at most %zu are allowed (max_payload)",
                          s->payload_size, allowed);
    if (s->payload_size > possible)
        return nq_err_set(err, NQ_ETOOBIG, "payload is %zu bytes long, the database takes at most %zu",
                          s->payload_size, possible);
    if (s->unique == NQ_UNIQUE_DATA) {
        if (!s->unique_data || s->unique_size == 0)
            return nq_err_set(err, NQ_EINVAL, "unique is NQ_UNIQUE_DATA but unique_data is empty");
        if (s->unique_size > allowed || s->unique_size > possible)
            return nq_err_set(err, NQ_ETOOBIG, "unique_data is %zu bytes long, at most %zu are allowed",
                              s->unique_size, allowed < possible ? allowed : possible);
    } else if (s->unique_data || s->unique_size > 0) {
        return nq_err_set(err, NQ_EINVAL, "unique_data is given but unique is not NQ_UNIQUE_DATA");
    }
    return NQ_OK;
}

static const char *spec_wrong_until(const nq_task_spec *s)
{
    const bool window = s->until == NQ_UNTIL_WINDOW;
    if (s->unique == NQ_UNIQUE_NONE && (s->until != NQ_UNTIL_DONE || s->duplicate != NQ_REFUSE))
        return "until or duplicate is given but unique is NQ_UNIQUE_NONE: there is no key";
    if (window && (s->window_us < 1 || s->window_us > NQ_MAX_DURATION))
        return "until is NQ_UNTIL_WINDOW: window_us must be 1 us to 3650 days";
    if (!window && s->window_us != 0)
        return "window_us is given but until is not NQ_UNTIL_WINDOW";
    if (window && s->duplicate != NQ_REFUSE)
        return "until is NQ_UNTIL_WINDOW: duplicate must be NQ_REFUSE, a task that ran cannot be changed";
    return NULL;
}

static const char *spec_wrong_duplicate(const nq_task_spec *s)
{
    const bool debounce = s->duplicate == NQ_DEBOUNCE;
    if (debounce && s->delay_us < 1)
        return "duplicate is NQ_DEBOUNCE: delay_us must say by how much each puts the start off";
    if (!debounce && s->max_wait_us != 0)
        return "max_wait_us is given but duplicate is not NQ_DEBOUNCE";
    if (debounce && s->max_wait_us != 0 && s->max_wait_us < s->delay_us)
        return "max_wait_us is below delay_us";
    if (s->max_wait_us > NQ_MAX_DURATION)
        return "max_wait_us is above 3650 days";
    if (s->duplicate == NQ_APPEND && s->unique != NQ_UNIQUE_DATA)
        return "duplicate is NQ_APPEND: unique must be NQ_UNIQUE_DATA, the payload changes and cannot be the "
               "key";
    return NULL;
}

static int spec_check_key(const nq_task_spec *s, nq_err *err)
{
    if (s->until < NQ_UNTIL_DONE || s->until > NQ_UNTIL_WINDOW)
        return nq_err_set(err, NQ_EINVAL, "until is %d, allowed are the values of enum nq_until", s->until);
    if (s->duplicate < NQ_REFUSE || s->duplicate > NQ_APPEND)
        return nq_err_set(err, NQ_EINVAL, "duplicate is %d, allowed are the values of enum nq_duplicate",
                          s->duplicate);
    const char *wrong = spec_wrong_until(s);
    wrong = wrong ? wrong : spec_wrong_duplicate(s);
    return wrong ? nq_err_set(err, NQ_EINVAL, "%s", wrong) : NQ_OK;
}

/* Ten delays, or what there is at most. */
static int64_t spec_max_wait(const nq_task_spec *s)
{
    return s->max_wait_us                       ? s->max_wait_us
           : s->delay_us > NQ_MAX_DURATION / 10 ? NQ_MAX_DURATION
                                                : s->delay_us * 10;
}

/* The word for whoever claims the task; and a follow-up has to have place for one. */
static int spec_key_headers(nq_buf *headers, const nq_task_spec *s, nq_err *err)
{
    nq_buf longer = {0};
    int rc = s->until == NQ_UNTIL_START ? nq_headers_unique(headers, "start", err) : NQ_OK;
    if (rc != NQ_OK || s->duplicate == NQ_REFUSE)
        return rc;
    nq_buf_add(&longer, headers->n ? headers->p : "", headers->n);
    rc = longer.failed ? nq_err_nomem(err) : nq_headers_unique(&longer, "replace", err);
    nq_buf_free(&longer);
    return rc;
}

static int spec_check_times(const nq_task_spec *s, nq_err *err)
{
    char latest[28];

    if (s->delay_us < 0 || s->delay_us > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "delay_us is %lld, allowed are 0 to %lld (3650 days)",
                          (long long)s->delay_us, (long long)NQ_MAX_DURATION);
    if (s->run_at_us < 0 || s->run_at_us > SPEC_MAX_TIME) {
        nq_format_time(SPEC_MAX_TIME, latest);
        return nq_err_set(err, NQ_EINVAL, "run_at_us is %lld, allowed are 0 to %lld (%s)",
                          (long long)s->run_at_us, (long long)SPEC_MAX_TIME, latest);
    }
    if (s->delay_us != 0 && s->run_at_us != 0)
        return nq_err_set(err, NQ_EINVAL, "both delay_us and run_at_us are given: one is allowed");
    if (s->expires_us < 0 || s->expires_us > NQ_MAX_DURATION)
        return nq_err_set(err, NQ_EINVAL, "expires_us is %lld, allowed are 0 (any time) to %lld (3650 days)",
                          (long long)s->expires_us, (long long)NQ_MAX_DURATION);
    if (s->expires_us != 0 && s->expires_us <= s->delay_us)
        return nq_err_set(err, NQ_EINVAL, "expires_us is %lld: it must be above delay_us, which is %lld",
                          (long long)s->expires_us, (long long)s->delay_us);
    if (s->keep_us != NQ_FOREVER && (s->keep_us < 0 || s->keep_us > NQ_MAX_DURATION))
        return nq_err_set(
            err, NQ_EINVAL,
            "keep_us is %lld, allowed are 0 (as the worker's options say), up to %lld (3650 days) "
            "and NQ_FOREVER",
            (long long)s->keep_us, (long long)NQ_MAX_DURATION);
    if (s->timeout_us != 0 && (s->timeout_us < NQ_SECONDS(1) || s->timeout_us > NQ_MAX_DURATION))
        return nq_err_set(err, NQ_EINVAL,
                          "timeout_us is %lld, allowed are 0 (60 s) and %lld (1 s) to %lld "
                          "(3650 days)",
                          (long long)s->timeout_us, (long long)NQ_SECONDS(1), (long long)NQ_MAX_DURATION);
    return NQ_OK;
}

static int spec_check_names(const nq_task_spec *s, nq_err *err)
{
    int rc = nq_check_type(s->type, err);

    if (rc == NQ_OK && s->queue)
        rc = nq_check_queue(s->queue, err);
    if (rc != NQ_OK)
        return rc;
    if (s->unique < NQ_UNIQUE_PAYLOAD || s->unique > NQ_UNIQUE_NONE)
        return nq_err_set(err, NQ_EINVAL, "unique is %d, allowed are the values of enum nq_unique",
                          s->unique);
    if (s->priority < NQ_MIN_PRIORITY || s->priority > NQ_MAX_PRIORITY)
        return nq_err_set(err, NQ_EINVAL, "priority is %d, allowed are %d to %d", s->priority,
                          NQ_MIN_PRIORITY, NQ_MAX_PRIORITY);
    if ((s->max_retries < 0 && s->max_retries != NQ_ZERO) || s->max_retries > NQ_MAX_RETRIES)
        return nq_err_set(err, NQ_EINVAL,
                          "max_retries is %d, allowed are 0 (%d retries), NQ_ZERO (none) and 1 to %d",
                          s->max_retries, SPEC_DEFAULT_RETRIES, NQ_MAX_RETRIES);
    return NQ_OK;
}

/* Where 0 is the default, or "not given", it may be said as NQ_ZERO too. */
static void spec_zeros(nq_task_spec *s)
{
    s->priority = (int)nq_option(s->priority, 0);
    s->delay_us = nq_option(s->delay_us, 0);
    if (s->run_at_us == NQ_ZERO)
        s->run_at_us = 1; /* 1970, and 0 says that none is given */
}

int nq_spec_expire(nq_new *task, int64_t now_us, nq_err *err)
{
    nq_buf text = {0};
    const int64_t at = now_us + task->expires_us;
    nq_buf_fmt(&text, "%snq-expires: %lld\n", task->headers ? task->headers : "", (long long)at);
    if (text.failed)
        return nq_err_nomem(err);
    free(task->headers);
    task->headers = text.p;
    task->expires_us = 0;
    return NQ_OK;
}

void nq_spec_free(nq_new tasks[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(tasks[i].headers);
}

int nq_spec_check(const void *spec, size_t allowed, size_t possible, nq_new *out, nq_err *err)
{
    nq_task_spec s = {0}; /* gcc at -O3 does not see that the copy fills it */
    int rc = nq_options_copy(&s, sizeof(s), spec, "nq_task_spec", err);

    if (rc == NQ_OK)
        spec_zeros(&s);
    if (rc != NQ_OK || (rc = spec_check_names(&s, err)) != NQ_OK ||
        (rc = spec_check_times(&s, err)) != NQ_OK || (rc = spec_check_key(&s, err)) != NQ_OK ||
        (rc = spec_check_sizes(&s, allowed, possible, err)) != NQ_OK)
        return rc;
    nq_buf headers = {0};
    memset(out, 0, sizeof *out);
    out->queue = s.queue ? s.queue : "default";
    if (s.headers || s.nheaders)
        rc = nq_headers_write(&headers, s.headers, s.nheaders, err);
    if (rc == NQ_OK && (s.tags || s.ntags))
        rc = nq_headers_tags(&headers, s.tags, s.ntags, err);
    if (rc == NQ_OK && s.group)
        rc = nq_group_name(out->name, out->queue, s.group, err);
    if (rc == NQ_OK && s.group && nq_group_hashed(out->name))
        rc = nq_headers_group(&headers, s.group, err);
    if (rc == NQ_OK && s.keep_us)
        rc = nq_headers_keep(&headers, s.keep_us, err);
    if (rc == NQ_OK)
        rc = spec_key_headers(&headers, &s, err);
    if (rc != NQ_OK) {
        nq_buf_free(&headers);
        return rc;
    }
    out->headers = headers.p;
    out->tags = s.tags;
    out->ntags = s.ntags;
    out->expires_us = s.expires_us;
    out->queue = s.group ? out->name : out->queue;
    out->type = s.type;
    out->payload = s.payload_size > 0 ? s.payload : "";
    out->payload_size = s.payload_size;
    out->priority = s.priority;
    out->delay_us = s.delay_us;
    out->run_at_us = s.run_at_us;
    out->timeout_ms = ((s.timeout_us ? s.timeout_us : SPEC_DEFAULT_TIMEOUT) + 999) / 1000;
    out->max_retries = (int)nq_option(s.max_retries, SPEC_DEFAULT_RETRIES);
    out->unique = (enum nq_unique)s.unique;
    out->until = (enum nq_until)s.until;
    out->window_us = s.window_us;
    out->duplicate = (enum nq_duplicate)s.duplicate;
    out->max_wait_us = s.duplicate == NQ_DEBOUNCE ? spec_max_wait(&s) : 0;
    if (s.unique == NQ_UNIQUE_DATA) {
        out->data = s.unique_data;
        out->data_size = s.unique_size;
    } else {
        out->data = out->payload;
        out->data_size = out->payload_size;
    }
    return NQ_OK;
}
