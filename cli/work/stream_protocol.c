/* SPDX-License-Identifier: MIT */
/* The lines of nanoq work --stream: what a child says, and what it is told. */
#include <inttypes.h>
#include <stdarg.h>

#include "../text/json_input.h"
#include "stream.h"

static const char *const protocol_verbs[] = {"done", "retry",    "discard", "snooze",
                                             "hold", "progress", "log",     NULL};
#define PROTOCOL_VERBS "done, retry, discard, snooze, hold, progress, log"

/* Members beside the verb, by verb. */
static const char *const protocol_members[][4] = {
    [STREAM_DONE] = {"result", NULL},         [STREAM_RETRY] = {"delay", "error", NULL},
    [STREAM_DISCARD] = {"error", NULL},       [STREAM_SNOOZE] = {"delay", NULL},
    [STREAM_HOLD] = {"delay", "scope", NULL}, [STREAM_PROGRESS] = {"count", "total", "note", NULL},
    [STREAM_LOG] = {"level", NULL},
};

static bool protocol_bad(char why[STREAM_WHY], const char *fmt, ...) NQ_PRINTF(2, 3);

static bool protocol_bad(char why[STREAM_WHY], const char *fmt, ...)
{
    char raw[STREAM_WHY];
    struct text safe = {0};
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    text_safe(&safe, raw, text_whole(raw, n < 0 ? 0 : strlen(raw)));
    snprintf(why, STREAM_WHY, "%s", safe.p ? safe.p : "");
    why[text_whole(why, strlen(why))] = '\0';
    text_free(&safe);
    return false;
}

/* A copy as C text; a NUL in it becomes a question mark. */
static char *protocol_text(const json_t *v)
{
    size_t n = json_string_length(v);
    char *out = cli_alloc(n + 1);
    memcpy(out, json_string_value(v), n);
    for (size_t i = 0; i < n; i++)
        out[i] = out[i] != '\0' ? out[i] : '?';
    return out;
}

static bool protocol_level(const json_t *v, int *out)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; json_is_string(v) && i < 4; i++) {
        if (strcmp(json_string_value(v), names[i]) == 0) {
            *out = LOG_ERROR + i;
            return true;
        }
    }
    return false;
}

static bool protocol_member(struct stream_answer *a, const char *key, const json_t *v, char why[STREAM_WHY])
{
    char what[160];
    if (strcmp(key, "delay") == 0) {
        return json_input_duration(v, 0, &a->delay_us, what, sizeof what) ||
               protocol_bad(why, "\"delay\": must be %s", what);
    }
    if (strcmp(key, "level") == 0) {
        return protocol_level(v, &a->level) ||
               protocol_bad(why, "\"level\": must be one of \"error\", \"warn\", \"info\", \"debug\"");
    }
    if (strcmp(key, "count") == 0 || strcmp(key, "total") == 0) {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return protocol_bad(why, "\"%s\": must be a whole number from 0", key);
        *(*key == 'c' ? &a->done : &a->total) = json_integer_value(v);
        return true;
    }
    if (strcmp(key, "scope") == 0) {
        const char *scope = json_is_string(v) ? json_string_value(v) : "";
        a->queue = strcmp(scope, "queue") == 0;
        return a->queue || strcmp(scope, "group") == 0 ||
               protocol_bad(why, "\"scope\": must be one of \"group\", \"queue\"");
    }
    if (strcmp(key, "result") == 0)
        return true;        /* protocol_result takes it from the line */
    if (!json_is_string(v)) /* error, note */
        return protocol_bad(why, "\"%s\": must be a string", key);
    a->text = protocol_text(v);
    return true;
}

/* Which of the verbs is a member; -1 unless it is one alone. */
static int protocol_verb(json_t *root, char why[STREAM_WHY])
{
    int verb = -1;
    for (int i = 0; protocol_verbs[i]; i++) {
        if (!json_object_get(root, protocol_verbs[i]))
            continue;
        if (verb >= 0) {
            protocol_bad(why, "\"%s\" and \"%s\" in one line: one of " PROTOCOL_VERBS " is allowed",
                         protocol_verbs[verb], protocol_verbs[i]);
            return -1;
        }
        verb = i;
    }
    if (verb < 0) {
        const char *first = json_object_iter_key(json_object_iter(root));
        const char *near = first ? cli_nearest(first, protocol_verbs) : NULL;
        protocol_bad(why, "no verb%s%.40s%s%s%s; one of " PROTOCOL_VERBS " must be a member",
                     first ? ": \"" : "", first ? first : "", first ? "\"" : "",
                     near ? ", did you mean " : "", near ? near : "");
    }
    return verb;
}

static bool protocol_subject(struct stream_answer *a, const json_t *v, char why[STREAM_WHY])
{
    const char *name = protocol_verbs[a->verb];
    if (a->verb == STREAM_LOG) {
        if (!json_is_string(v))
            return protocol_bad(why, "\"log\": must be a string, the text");
        a->text = protocol_text(v);
        return true;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1)
        return protocol_bad(why, "\"%s\": must be the task's id, a whole number from 1", name);
    a->id = json_integer_value(v);
    return true;
}

static bool protocol_object(struct stream_answer *a, json_t *root, char why[STREAM_WHY])
{
    const char *key;
    json_t *v;
    int verb = protocol_verb(root, why);
    if (verb < 0)
        return false;
    a->verb = (enum stream_verb)verb;
    json_object_foreach(root, key, v)
    {
        const char *const *allowed = protocol_members[verb];
        bool known = strcmp(key, protocol_verbs[verb]) == 0;
        if (known) {
            if (!protocol_subject(a, v, why))
                return false;
            continue;
        }
        for (size_t i = 0; allowed[i]; i++)
            known = known || strcmp(key, allowed[i]) == 0;
        if (!known) {
            return protocol_bad(why, "unknown member \"%.40s\" beside \"%s\"; allowed: %s%s%s%s%s", key,
                                protocol_verbs[verb], allowed[0] ? allowed[0] : "none",
                                allowed[0] && allowed[1] ? ", " : "",
                                allowed[0] && allowed[1] ? allowed[1] : "",
                                verb == STREAM_PROGRESS ? ", " : "", verb == STREAM_PROGRESS ? "note" : "");
        }
        if (!protocol_member(a, key, v, why))
            return false;
    }
    if (verb == STREAM_HOLD && a->delay_us < 0)
        return protocol_bad(why, "\"hold\" needs a \"delay\", and may have a \"scope\"");
    return (verb != STREAM_PROGRESS || json_object_get(root, "count")) ||
           protocol_bad(why, "\"progress\" needs a \"count\", and may have a \"total\" and a \"note\"");
}

/* What is behind a JSON string whose first quote is at p. */
static const char *protocol_skip_string(const char *p)
{
    for (p++; *p != '"'; p++)
        p += *p == '\\';
    return p + 1;
}

/* What is behind the value at p: the comma or brace of the object that it is in. */
static const char *protocol_skip_value(const char *p)
{
    for (int depth = 0; depth > 0 || (*p != ',' && *p != '}');) {
        depth += *p == '{' || *p == '[';
        depth -= *p == '}' || *p == ']';
        p = *p == '"' ? protocol_skip_string(p) : p + 1;
    }
    return p;
}

static const char *protocol_skip_space(const char *p)
{
    return p + strspn(p, " \t\n\r");
}

/* The text of the member as it stands in a line that is known to be a JSON object; so numbers and the order
 * of members stay as they were written. A name that is written with escapes is found by the parser alone. */
static char *protocol_result(const char *line, size_t n, const json_t *v, size_t *size)
{
    char *copy = cli_format("%.*s", (int)n, line), *out = NULL; /* a NUL is no part of JSON */
    const char *p = protocol_skip_space(copy) + 1;
    while (!out && *(p = protocol_skip_space(p)) == '"') {
        const char *name = p;
        p = protocol_skip_string(p);
        const bool ours = p - name == sizeof "\"result\"" - 1 && strncmp(name, "\"result\"", 8) == 0;
        const char *value = protocol_skip_space(protocol_skip_space(p) + 1),
                   *end = protocol_skip_value(value);
        while (ours && end > value && strchr(" \t\n\r", end[-1]))
            end--;
        if (ours)
            out = cli_format("%.*s", (int)(end - value), value);
        p = protocol_skip_value(value);
        p += *p == ',';
    }
    free(copy);
    out = out ? out : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    *size = out ? strlen(out) : 0;
    return out;
}

bool stream_parse(const char *line, size_t n, struct stream_answer *a, char why[STREAM_WHY])
{
    json_error_t error;
    struct stream_answer found = {.delay_us = -1, .level = LOG_INFO};
    json_t *root = json_input_any(line, n, &error);
    bool good = false;
    size_t at;
    if (!root) {
        struct text safe = {0};
        text_safe(&safe, line, n <= 80 ? n : text_whole(line, 80));
        protocol_bad(why, "not a JSON object (%.120s): %.160s%s", error.text,
                     n > 0 ? safe.p : "(an empty line)", n > 80 ? " ..." : "");
        text_free(&safe);
    } else if (!json_is_object(root)) {
        protocol_bad(why, "not a JSON object but an array; answer like {\"done\": ID}");
    } else if (json_input_repeats(line, n, root, &at)) {
        protocol_bad(why, "a member is there twice: %.*s",
                     (int)(n - at < 60 ? n - at : text_whole(line + at, 60)), line + at);
    } else {
        good = protocol_object(&found, root, why);
        const json_t *result = json_object_get(root, "result");
        if (good && found.verb == STREAM_DONE && result)
            found.text = protocol_result(line, n, result, &found.text_size);
    }
    json_decref(root);
    if (!good) {
        stream_answer_free(&found);
        return false;
    }
    *a = found;
    return true;
}

void stream_answer_free(struct stream_answer *a)
{
    free(a->text);
    a->text = NULL;
}

/* ---- to the child */

static void protocol_string(struct text *out, const char *name, const char *value)
{
    text_str(out, ",\"");
    text_str(out, name);
    text_str(out, "\":");
    text_json(out, value, strlen(value));
}

static void protocol_number(struct text *out, const char *name, int64_t value)
{
    text_str(out, ",\"");
    text_str(out, name);
    text_str(out, "\":");
    text_int(out, value);
}

/* JSON stands as it is, on one line: outside of strings an end of line is white space, inside there is none.
 * But what Unicode calls line and paragraph separators (E2 80 A8 and A9) may be in strings, and some readers
 * of lines heed them. */
static void protocol_one_line(struct text *out, const char *p, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        const bool separator = n - i >= 3 && memcmp(p + i, "\xE2\x80", 2) == 0 && (p[i + 2] & 0xFE) == 0xA8;
        if (separator || p[i] == '\n' || p[i] == '\r') {
            text_add(out, p + from, i - from);
            text_str(out, !separator ? " " : (p[i + 2] & 1) != 0 ? "\\u2029" : "\\u2028");
            i += separator ? 2 : 0;
            from = i + 1;
        }
    }
    text_add(out, p + from, n - from);
}

static void protocol_payload(struct text *out, const nq_task *task)
{
    char message[256];
    int line, column;
    if (task->payload_size == 0) {
        text_str(out, ",\"payload\":null}");
        return;
    }
    json_t *root = json_input(task->payload, task->payload_size, message, &line, &column);
    if (!root) {
        text_str(out, ",\"payload_base64\":\"");
        text_base64(out, task->payload, task->payload_size);
        text_str(out, "\"}");
        return;
    }
    json_decref(root);
    text_str(out, ",\"payload\":");
    protocol_one_line(out, task->payload, task->payload_size);
    text_str(out, "}");
}

/* Its members, and the brace behind them. */
static void protocol_task(struct text *out, const nq_task *task, int64_t deadline_us)
{
    char deadline[64];
    snprintf(deadline, sizeof deadline, ",\"deadline\":%" PRId64 ".%06d", deadline_us / 1000000,
             (int)(deadline_us % 1000000));
    text_str(out, "\"id\":");
    text_int(out, task->id);
    protocol_string(out, "type", task->type);
    protocol_string(out, "queue", task->queue);
    if (task->group)
        protocol_string(out, "group", task->group);
    protocol_number(out, "priority", task->priority);
    protocol_number(out, "attempt", task->attempt);
    protocol_number(out, "max_retries", task->max_retries);
    text_str(out, deadline);
    if (task->last_error)
        protocol_string(out, "last_error", task->last_error);
    else
        text_str(out, ",\"last_error\":null");
    if (task->dead_id)
        protocol_number(out, "dead_id", task->dead_id);
    if (task->schedule) {
        char due[64];
        snprintf(due, sizeof due, ",\"due_at\":%" PRId64 ".%06d", task->due_at_us / 1000000,
                 (int)(task->due_at_us % 1000000));
        protocol_string(out, "schedule", task->schedule);
        text_str(out, due);
    }
    if (task->nheaders) {
        text_str(out, ",\"headers\":");
        text_headers(out, task->headers, task->nheaders);
    }
    if (task->ntags) {
        text_str(out, ",\"tags\":");
        text_array(out, task->tags, task->ntags);
    }
    protocol_payload(out, task);
}

static void protocol_version(struct text *out)
{
    text_str(out, "{\"nanoq\":");
    text_int(out, STREAM_VERSION);
    text_str(out, ",");
}

void stream_task(struct text *out, const nq_task *task, int64_t deadline_us)
{
    protocol_version(out);
    protocol_task(out, task, deadline_us);
    text_str(out, "\n");
}

void stream_tasks_begin(struct text *out)
{
    protocol_version(out);
    text_str(out, "\"tasks\":[");
}

void stream_tasks_add(struct text *out, const nq_task *task, int64_t deadline_us, bool first)
{
    text_str(out, first ? "{" : ",{");
    protocol_task(out, task, deadline_us);
}

void stream_tasks_end(struct text *out)
{
    text_str(out, "]}\n");
}

void stream_cancel(struct text *out, nq_id id, enum nq_cause cause)
{
    static const char *const names[] = {[NQ_CAUSE_NONE] = "none",
                                        [NQ_CAUSE_TIMEOUT] = "timeout",
                                        [NQ_CAUSE_SHUTDOWN] = "shutdown",
                                        [NQ_CAUSE_LEASE_LOST] = "lease_lost",
                                        [NQ_CAUSE_CANCEL] = "cancel"};
    text_str(out, "{\"cancel\":");
    text_int(out, id);
    protocol_string(out, "cause", names[cause]);
    text_str(out, "}\n");
}
