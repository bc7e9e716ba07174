/* SPDX-License-Identifier: MIT */
/* nanoq add --stdin: what one line of JSON says about a task, and in which column it goes wrong. */
#include <math.h>
#include <stdarg.h>

#include "add.h"

bool line_bad(struct line_fault *f, const char *text, const char *member, const char *fmt, ...)
{
    size_t start = 0, size;
    va_list args;
    if (member)
        json_input_member(text, strlen(text), member, &start, &size);
    f->column = json_input_column(text, start);
    va_start(args, fmt);
    vsnprintf(f->message, sizeof f->message, fmt, args);
    va_end(args);
    return false;
}

bool line_time(const json_t *v, int64_t *out, char *why, size_t size)
{
    nq_err err = {0};
    if (json_is_number(v) && fabs(json_number_value(v)) < 1e11) {
        *out = (int64_t)round(json_number_value(v) * 1e6);
    } else if (!json_is_string(v)) {
        snprintf(why, size, "a time like \"2026-01-31T12:00:00Z\", or seconds since 1970");
        return false;
    } else if (cli_parse_time(json_string_value(v), out, &err) != NQ_OK) {
        snprintf(why, size, "%.200s", err.message);
        return false;
    }
    *out = *out < 1 ? 1 : *out;
    return true;
}

static bool line_number(const json_t *v, int low, int high, int *out, char *why, size_t size)
{
    double d = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(d >= low && d <= high) || d != floor(d)) {
        snprintf(why, size, "a whole number from %d to %d", low, high);
        return false;
    }
    *out = (int)d;
    return true;
}

/* A type or queue name: here, so that the message can name the line. */
static bool line_name(const json_t *v, size_t most, bool queue, char *why, size_t size)
{
    const char *s = json_is_string(v) ? json_string_value(v) : "";
    size_t n = strlen(s);
    bool good = n > 0 && n <= most && (!json_is_string(v) || json_string_length(v) == n);
    for (size_t i = 0; good && i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        good = c >= 0x20 && c != 0x7F &&
               (!queue || strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-", c));
    }
    if (!good) {
        snprintf(why, size,
                 queue ? "a string of 1 to %zu of A-Z a-z 0-9 _ . : / -"
                       : "a string of 1 to %zu bytes without control characters",
                 most);
    }
    return good;
}

static bool line_payload(nq_task_spec *spec, const char *text, const char *key, const json_t *v, char *why,
                         size_t size)
{
    size_t start, n;
    if (spec->payload) {
        snprintf(why, size, "given once, as payload or as payload_text");
        return false;
    }
    if (strcmp(key, "payload") == 0) {
        if (!json_input_member(text, strlen(text), key, &start, &n)) {
            snprintf(why, size, "a member whose name is written without escapes");
            return false;
        }
        spec->payload = text + start;
        spec->payload_size = n;
    } else if (json_is_string(v)) {
        spec->payload = json_string_value(v);
        spec->payload_size = json_string_length(v);
    } else {
        snprintf(why, size, "a string");
        return false;
    }
    if (spec->payload_size > ADD_MAX_PAYLOAD) {
        snprintf(why, size, "at most %zu bytes", ADD_MAX_PAYLOAD);
        return false;
    }
    return true;
}

static bool line_unique(nq_task_spec *spec, const char *key, const json_t *v, char *why, size_t size)
{
    if (strcmp(key, "unique") == 0) {
        if (json_is_boolean(v) && (json_is_true(v) || spec->unique != NQ_UNIQUE_DATA)) {
            spec->unique = json_is_false(v)                 ? NQ_UNIQUE_NONE
                           : spec->unique == NQ_UNIQUE_NONE ? NQ_UNIQUE_PAYLOAD
                                                            : spec->unique;
            return true;
        }
        snprintf(why, size, "true or false, and not false beside a unique_key");
        return false;
    }
    if (json_is_string(v) && json_string_length(v) > 0) {
        spec->unique = NQ_UNIQUE_DATA;
        spec->unique_data = json_string_value(v);
        spec->unique_size = json_string_length(v);
        return true;
    }
    snprintf(why, size, "a string of at least one byte");
    return false;
}

static bool line_header(const char *name, const json_t *v)
{
    const char *value = json_is_string(v) ? json_string_value(v) : "\n";
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
    bool good = n > 0 && n <= 40 && name[n] == '\0' && strncmp(name, "nq-", 3) != 0 &&
                strlen(value) == (json_is_string(v) ? json_string_length(v) : 0);
    for (const char *c = value; good && *c != '\0'; c++)
        good = (unsigned char)*c >= 0x20 && *c != 0x7F &&
               ((unsigned char)c[0] != 0xC2 || (unsigned char)c[1] >= 0xA0);
    return good;
}

static bool line_headers(nq_task_spec *spec, json_t *v, char *why, size_t size)
{
    const size_t n = json_is_object(v) ? json_object_size(v) : NQ_MAX_HEADERS + 1;
    nq_header *all = n <= NQ_MAX_HEADERS ? cli_alloc((n + 1) * sizeof *all) : NULL;
    const char *name;
    json_t *value;
    size_t i = 0, bytes = 0;
    bool good = all;
    if (good) {
        json_object_foreach(v, name, value)
        {
            good = good && line_header(name, value);
            all[i++] = (nq_header){name, json_string_value(value)};
            bytes += strlen(name) + 3 + (good ? json_string_length(value) : 0);
        }
    }
    if (!good || bytes > NQ_MAX_HEADERS_SIZE - 32) {
        snprintf(
            why, size,
            "an object of at most %d strings without control characters, of %d bytes in all, with names of "
            "1 to 40 of a-z 0-9 - that do not begin with nq-",
            NQ_MAX_HEADERS, NQ_MAX_HEADERS_SIZE - 32);
        free(all);
        return false;
    }
    spec->headers = all;
    spec->nheaders = n;
    return true;
}

static bool line_tag(const json_t *v)
{
    const char *s = json_is_string(v) ? json_string_value(v) : "";
    const size_t n = strlen(s);
    bool good = n > 0 && n <= NQ_MAX_TAG && n == json_string_length(v) && !strchr(s, ',') && s[0] != ' ' &&
                s[n - 1] != ' ';
    for (const char *c = s; good && *c != '\0'; c++)
        good = (unsigned char)*c >= 0x20 && *c != 0x7F &&
               ((unsigned char)c[0] != 0xC2 || (unsigned char)c[1] >= 0xA0);
    return good;
}

static bool line_tags(nq_task_spec *spec, const json_t *v, char *why, size_t size)
{
    const size_t n = json_is_array(v) ? json_array_size(v) : NQ_MAX_TAGS + 1;
    const char **all = n <= NQ_MAX_TAGS ? cli_alloc((n + 1) * sizeof *all) : NULL;
    bool good = all;
    for (size_t i = 0; good && i < n; i++) {
        good = line_tag(json_array_get(v, i));
        all[i] = json_string_value(json_array_get(v, i));
    }
    if (!good) {
        snprintf(why, size,
                 "an array of at most %d strings of 1 to %d bytes without control characters and commas, not "
                 "beginning or ending with a space",
                 NQ_MAX_TAGS, NQ_MAX_TAG);
        free(all);
        return false;
    }
    spec->tags = all;
    spec->ntags = n;
    return true;
}

void line_forget(const nq_task_spec *spec, const nq_task_spec *defaults)
{
    if (!defaults || spec->headers != defaults->headers)
        free((void *)(uintptr_t)spec->headers);
    if (!defaults || spec->tags != defaults->tags)
        free((void *)(uintptr_t)spec->tags);
}

static bool line_key(nq_task_spec *spec, const char *key, const json_t *v, char *why, size_t size)
{
    const bool until = strcmp(key, "until") == 0;
    const char *name = json_is_string(v) ? json_string_value(v) : "";
    if (until ? add_until(name, spec) : add_duplicate(name, spec))
        return true;
    snprintf(why, size,
             until ? "\"done\", \"start\" or \"window\""
                   : "\"refuse\", \"replace\", \"debounce\" or \"append\"");
    return false;
}

static const char *const line_members[] = {
    "type",  "payload", "payload_text", "queue",      "group",  "priority", "in",
    "at",    "timeout", "max_retries",  "unique_key", "unique", "expires",  "headers",
    "until", "window",  "duplicate",    "max_wait",   "keep",   "tags",     NULL};

static bool line_member(nq_task_spec *spec, const char *text, const char *key, json_t *v, char *why,
                        size_t size)
{
    if (strcmp(key, "headers") == 0)
        return line_headers(spec, v, why, size);
    if (strcmp(key, "tags") == 0)
        return line_tags(spec, v, why, size);
    if (strcmp(key, "expires") == 0)
        return json_input_duration(v, NQ_MS(1), &spec->expires_us, why, size);
    if (strcmp(key, "keep") == 0) {
        const bool forever = json_is_string(v) && strcmp(json_string_value(v), "forever") == 0;
        spec->keep_us = NQ_FOREVER;
        return forever || json_input_duration(v, 0, &spec->keep_us, why, size);
    }
    if (strcmp(key, "window") == 0)
        return json_input_duration(v, NQ_MS(1), &spec->window_us, why, size);
    if (strcmp(key, "max_wait") == 0)
        return json_input_duration(v, NQ_MS(1), &spec->max_wait_us, why, size);
    if (strcmp(key, "until") == 0 || strcmp(key, "duplicate") == 0)
        return line_key(spec, key, v, why, size);
    if (strcmp(key, "type") == 0) {
        spec->type = json_string_value(v);
        return line_name(v, NQ_MAX_TYPE, false, why, size);
    }
    if (strcmp(key, "queue") == 0) {
        spec->queue = json_string_value(v);
        return line_name(v, NQ_MAX_QUEUE, true, why, size);
    }
    if (strcmp(key, "group") == 0) {
        spec->group = json_string_value(v);
        return line_name(v, 255, false, why, size);
    }
    if (strncmp(key, "payload", 7) == 0)
        return line_payload(spec, text, key, v, why, size);
    if (strcmp(key, "priority") == 0)
        return line_number(v, NQ_MIN_PRIORITY, NQ_MAX_PRIORITY, &spec->priority, why, size);
    if (strcmp(key, "max_retries") == 0) {
        bool good = line_number(v, 0, NQ_MAX_RETRIES, &spec->max_retries, why, size);
        spec->max_retries = good && spec->max_retries == 0 ? NQ_ZERO : spec->max_retries;
        return good;
    }
    if (strcmp(key, "in") == 0) {
        spec->run_at_us = 0;
        return json_input_duration(v, 0, &spec->delay_us, why, size);
    }
    if (strcmp(key, "at") == 0) {
        spec->delay_us = 0;
        return line_time(v, &spec->run_at_us, why, size);
    }
    if (strcmp(key, "timeout") == 0)
        return json_input_duration(v, NQ_SECONDS(1), &spec->timeout_us, why, size);
    return line_unique(spec, key, v, why, size);
}

static bool line_known(const char *key, const char *const *members)
{
    for (size_t i = 0; members && members[i]; i++)
        if (strcmp(key, members[i]) == 0)
            return true;
    return false;
}

bool line_task(nq_task_spec *spec, const char *text, json_t *root, const char *const *others,
               struct line_fault *f)
{
    const char *key;
    json_t *v;
    char why[220];
    if (!json_is_object(root))
        return line_bad(f, text, NULL, "a task is a JSON object: {\"type\": \"...\", \"payload\": ...}");
    size_t at;
    if (json_input_repeats(text, strlen(text), root, &at)) { /* which of them is meant cannot be known */
        line_bad(f, text, NULL, "this member was given before");
        f->column = json_input_column(text, at);
        return false;
    }
    json_object_foreach(root, key, v)
    {
        if (line_known(key, others))
            continue;
        if (!line_known(key, line_members)) {
            const char *near = cli_nearest(key, line_members);
            return line_bad(f, text, key, "unknown member \"%.40s\"%s%s", key, near ? "; did you mean " : "",
                            near ? near
                                 : "; allowed: type, payload, payload_text, queue, group, priority, in, at, "
                                   "timeout, max_retries, unique_key, unique, expires, headers, keep, tags, "
                                   "until, window, "
                                   "duplicate, max_wait");
        }
        if (!line_member(spec, text, key, v, why, sizeof why))
            return line_bad(f, text, key, "%s: must be %s", key, why);
    }
    if (json_object_get(root, "in") && json_object_get(root, "at"))
        return line_bad(f, text, "at", "in and at exclude each other");
    if (spec->expires_us && spec->expires_us <= spec->delay_us)
        return line_bad(f, text, json_object_get(root, "expires") ? "expires" : "in",
                        "expires must be later than in");
    if (!spec->type)
        return line_bad(f, text, NULL, "the member \"type\" is missing");
    if (!add_key_good(spec, "", why, sizeof why))
        return line_bad(f, text, NULL, "%s", why);
    return true;
}
