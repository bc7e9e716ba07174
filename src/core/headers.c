/* SPDX-License-Identifier: MIT */
/* The headers of a task: the text of the column, "name: value" lines, and what is read of it. */
#include <stdio.h>

#include "core.h"

/*
 * Whoever may write to the tables may write any bytes into the column, and none of them may stop a queue:
 * what is no line of a header is passed over, as is a text above the limit; of two with one name the first
 * counts. Names that begin with "nq-" are the library's; who reads a task's headers does not see them.
 */

#define HEADERS_OURS     "nq-"
#define HEADERS_EXPIRES  "nq-expires"
#define HEADERS_GROUP    "nq-group"
#define HEADERS_DEAD     "nq-dead"     /* the dead task whose letter this is */
#define HEADERS_SCHEDULE "nq-schedule" /* the schedule that it comes of, and for which time */
#define HEADERS_UNIQUE   "nq-unique"   /* start: the key goes with the claim; others are for follow-ups */
#define HEADERS_KEEP     "nq-keep"     /* how long it is kept when it is done, in microseconds */
#define HEADERS_TAG      "nq-tag"      /* one of its tags; repeated */
#define HEADERS_NAME     40
#define HEADERS_RESERVE  32 /* of the text, for nq-expires and its time */

static bool headers_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* The length of the name that text begins with; 0: it is none. */
static size_t headers_name(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && headers_letter(text[i]))
        i++;
    return i <= HEADERS_NAME ? i : 0;
}

/* Where a value ceases to be one: n, or the place of a control character or of what is not UTF-8. */
static size_t headers_value(const char *text, size_t n)
{
    size_t i = 0;
    uint32_t cp = 0;
    for (size_t len; i < n && (len = nq_utf8(text + i, n - i, &cp)) > 0; i += len)
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            break;
    return i;
}

static bool headers_is(const char *p, size_t n, const char *name)
{
    return n == strlen(name) && memcmp(p, name, n) == 0;
}

static bool headers_ours(const char *p, size_t n)
{
    return n >= sizeof HEADERS_OURS - 1 && memcmp(p, HEADERS_OURS, sizeof HEADERS_OURS - 1) == 0;
}

/* One line; value NULL: it is no header. */
struct headers_line {
    char *name, *value;
    size_t name_size, value_size;
};

static struct headers_line headers_line(char *p, size_t n)
{
    struct headers_line l = {.name = p, .name_size = headers_name(p, n)};
    if (l.name_size == 0 || l.name_size == n || p[l.name_size] != ':')
        return l;
    size_t at = l.name_size + 1;
    at += at < n && p[at] == ' ';
    if (headers_value(p + at, n - at) < n - at)
        return l;
    l.value = p + at;
    l.value_size = n - at;
    return l;
}

/* A time in microseconds, or an id; 0: it is none. */
static int64_t headers_number(const char *p, size_t n)
{
    int64_t us = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        us = us > (INT64_MAX - 9) / 10 ? INT64_MAX - 9 : us * 10 + (p[i] - '0');
    }
    return us;
}

static size_t headers_length(const char *p, size_t n)
{
    const char *end = memchr(p, '\n', n);
    return end ? (size_t)(end - p) : n;
}

NQ_PLUG_IN size_t nq_headers_room(const void *text, size_t n)
{
    const char *p = text;
    size_t lines = 1;
    if (n == 0 || n > NQ_MAX_HEADERS_SIZE)
        return 0;
    for (size_t i = 0; i < n && lines < NQ_MAX_HEADERS + NQ_MAX_TAGS; i++)
        lines += p[i] == '\n';
    return lines * sizeof(nq_header) + n + 1;
}

static bool headers_known(const nq_header all[], size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0)
            return true;
    return false;
}

/* "NAME 1790000000000000": the name ends at the last space. */
static void headers_read_schedule(nq_headers *out, const struct headers_line *l)
{
    size_t at = l->value_size;
    while (at > 0 && l->value[at - 1] != ' ')
        at--;
    const int64_t due = headers_number(l->value + at, l->value_size - at);
    if (at < 2 || due == 0)
        return;
    l->value[at - 1] = '\0';
    out->schedule = l->value;
    out->due_at_us = due;
}

/* A value that may be a tag. */
static bool headers_is_tag(const char *p, size_t n)
{
    return n > 0 && n <= NQ_MAX_TAG && !memchr(p, ',', n) && p[0] != ' ' && p[n - 1] != ' ' &&
           headers_value(p, n) == n;
}

/* One more, unless it is there already. */
static void headers_read_tag(const char *tags[NQ_MAX_TAGS], size_t *n, const struct headers_line *l)
{
    if (*n == NQ_MAX_TAGS || !headers_is_tag(l->value, l->value_size))
        return;
    l->value[l->value_size] = '\0';
    for (size_t i = 0; i < *n && tags[i]; i++)
        if (strcmp(tags[i], l->value) == 0)
            return;
    tags[(*n)++] = l->value;
}

NQ_PLUG_IN char *nq_headers_read(nq_headers *out, char *room, const void *text, size_t n)
{
    nq_header *const all = (nq_header *)(void *)room;
    const size_t size = nq_headers_room(text, n);
    const char *tags[NQ_MAX_TAGS] = {0};
    bool expires = false;
    *out = (nq_headers){0};
    if (size == 0)
        return room;
    char *p = room + (size - n - 1);
    memcpy(p, text, n);
    p[n] = '\0';
    for (size_t at = 0, len; at < n; at += len + 1) {
        len = headers_length(p + at, n - at);
        const struct headers_line l = headers_line(p + at, len);
        if (!l.value)
            continue;
        if (headers_is(l.name, l.name_size, HEADERS_EXPIRES) && !expires) {
            out->expires_at_us = headers_number(l.value, l.value_size);
            expires = true;
        }
        if (headers_is(l.name, l.name_size, HEADERS_GROUP) && !out->group && l.value_size > 0) {
            l.value[l.value_size] = '\0';
            out->group = l.value;
        }
        if (headers_is(l.name, l.name_size, HEADERS_DEAD) && out->dead_id == 0)
            out->dead_id = headers_number(l.value, l.value_size);
        if (headers_is(l.name, l.name_size, HEADERS_UNIQUE) && headers_is(l.value, l.value_size, "start"))
            out->until_start = true;
        if (headers_is(l.name, l.name_size, HEADERS_KEEP) && out->keep_us == 0)
            out->keep_us = headers_number(l.value, l.value_size);
        if (headers_is(l.name, l.name_size, HEADERS_SCHEDULE) && !out->schedule)
            headers_read_schedule(out, &l);
        if (headers_is(l.name, l.name_size, HEADERS_TAG))
            headers_read_tag(tags, &out->ntags, &l);
        if (headers_ours(l.name, l.name_size) || out->n == NQ_MAX_HEADERS)
            continue;
        l.name[l.name_size] = '\0';   /* where the colon was, */
        l.value[l.value_size] = '\0'; /* and the end of the line */
        if (!headers_known(all, out->n, l.name))
            all[out->n++] = (nq_header){l.name, l.value};
    }
    out->all = out->n ? all : NULL;
    if (out->keep_us > NQ_MAX_DURATION)
        out->keep_us = NQ_FOREVER;
    if (out->ntags) /* each took a line that no header has */
        out->tags = memcpy(all + out->n, tags, out->ntags * sizeof *tags);
    return room + size;
}

NQ_PRIVATE const char *nq_headers_next_tag(const void *text, size_t n, size_t *at, size_t *size)
{
    const char *p = text;
    while (*at < n) {
        const char *line = p + *at;
        const size_t len = headers_length(line, n - *at), name = sizeof HEADERS_TAG - 1;
        *at += len + 1;
        if (len < name + 2 || memcmp(line, HEADERS_TAG ": ", name + 2) != 0 ||
            !headers_is_tag(line + name + 2, len - name - 2))
            continue;
        *size = len - name - 2;
        return line + name + 2;
    }
    return NULL;
}

NQ_PRIVATE bool nq_headers_dead(const void *text, size_t n)
{
    const char *p = text;
    for (size_t at = 0, len; at < n; at += len + 1) {
        len = headers_length(p + at, n - at);
        if (headers_is(p + at, headers_name(p + at, len), HEADERS_DEAD))
            return true;
    }
    return false;
}

/* Append the lines but those of these names; false: there are none of them. */
static bool headers_without(nq_buf *out, const void *text, size_t n, const char *const names[], size_t nnames)
{
    const char *p = text;
    bool found = false;
    for (size_t at = 0, len; at < n; at += len + 1) {
        bool one = false;
        len = headers_length(p + at, n - at);
        for (size_t i = 0; i < nnames; i++)
            one = one || headers_is(p + at, headers_name(p + at, len), names[i]);
        found = found || one;
        if (one)
            continue;
        nq_buf_add(out, p + at, len);
        if (at + len < n)
            nq_buf_add(out, "\n", 1);
    }
    return found;
}

NQ_PRIVATE bool nq_headers_without_expiry(nq_buf *out, const void *text, size_t n)
{
    return headers_without(out, text, n, (const char *const[]){HEADERS_EXPIRES}, 1);
}

NQ_PRIVATE void nq_headers_of_letter(nq_buf *out, const void *text, size_t n)
{
    (void)headers_without(out, text, n, (const char *const[]){HEADERS_EXPIRES, HEADERS_GROUP}, 2);
}

static int headers_check_one(const nq_header all[], size_t i, nq_err *err)
{
    const char *name = all[i].name, *value = all[i].value;
    char shown[64];
    if (!name || !value)
        return nq_err_set(err, NQ_EINVAL, "the %s of header %zu is NULL", name ? "value" : "name", i);
    const size_t size = strlen(name);
    nq_printable(shown, sizeof shown, name, size);
    if (size == 0 || headers_name(name, size) != size)
        return nq_err_set(err, NQ_EINVAL, "header name '%s': allowed are 1 to %d of a-z 0-9 -", shown,
                          HEADERS_NAME);
    if (headers_ours(name, size))
        return nq_err_set(err, NQ_EINVAL, "header '%s': names that begin with nq- are the library's", shown);
    if (headers_known(all, i, name))
        return nq_err_set(err, NQ_EINVAL, "header '%s' is given twice", shown);
    const size_t good = headers_value(value, strlen(value));
    if (value[good])
        return nq_err_set(err, NQ_EINVAL,
                          "header '%s': byte %zu of its value is a control character or not UTF-8", shown,
                          good + 1);
    return NQ_OK;
}

NQ_PRIVATE int nq_headers_write(nq_buf *out, const nq_header all[], size_t n, nq_err *err)
{
    int rc = NQ_OK;
    if (n > 0 && !all)
        return nq_err_set(err, NQ_EINVAL, "headers is NULL but nheaders is %zu", n);
    if (n > NQ_MAX_HEADERS)
        return nq_err_set(err, NQ_EINVAL, "nheaders is %zu, at most %d are allowed", n, NQ_MAX_HEADERS);
    for (size_t i = 0; i < n && rc == NQ_OK; i++) {
        if ((rc = headers_check_one(all, i, err)) != NQ_OK)
            return rc;
        if (strlen(all[i].value) > NQ_MAX_HEADERS_SIZE)
            return nq_err_set(err, NQ_ETOOBIG, "header '%s' is %zu bytes long, all together have at most %d",
                              all[i].name, strlen(all[i].value), NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE);
        nq_buf_fmt(out, "%s: %s\n", all[i].name, all[i].value);
    }
    if (out->n > NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE)
        return nq_err_set(err, NQ_ETOOBIG, "the headers are %zu bytes long, at most %d are allowed", out->n,
                          NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE);
    return out->failed ? nq_err_nomem(err) : NQ_OK;
}

/* what: that is too long with them. */
static int headers_before(nq_buf *headers, const char *name, const char *value, const char *what, nq_err *err)
{
    nq_buf all = {0};
    nq_buf_fmt(&all, "%s: %s\n", name, value);
    nq_buf_add(&all, headers->n ? headers->p : "", headers->n);
    if (!all.failed && all.n <= NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE) {
        nq_buf_free(headers);
        *headers = all;
        return NQ_OK;
    }
    const int rc = all.failed ? nq_err_nomem(err)
                              : nq_err_set(err, NQ_ETOOBIG,
                                           "the headers and %s are %zu bytes long, at most %d are allowed",
                                           what, all.n, NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE);
    nq_buf_free(&all);
    return rc;
}

NQ_PRIVATE int nq_headers_group(nq_buf *headers, const char *group, nq_err *err)
{
    return headers_before(headers, HEADERS_GROUP, group, "the group", err);
}

NQ_PRIVATE int nq_headers_unique(nq_buf *headers, const char *how, nq_err *err)
{
    return headers_before(headers, HEADERS_UNIQUE, how, "what is said of the key", err);
}

NQ_PRIVATE int nq_headers_keep(nq_buf *headers, int64_t us, nq_err *err)
{
    char value[24];
    snprintf(value, sizeof value, "%lld", (long long)us);
    return headers_before(headers, HEADERS_KEEP, value, "how long it is kept", err);
}

NQ_PRIVATE int nq_headers_tags(nq_buf *headers, const char *const tags[], size_t n, nq_err *err)
{
    if (n > 0 && !tags)
        return nq_err_set(err, NQ_EINVAL, "tags is NULL but ntags is %zu", n);
    if (n > NQ_MAX_TAGS)
        return nq_err_set(err, NQ_EINVAL, "ntags is %zu, at most %d are allowed", n, NQ_MAX_TAGS);
    for (size_t i = 0; i < n; i++) {
        char shown[160];
        bool again = false;
        if (!tags[i])
            return nq_err_set(err, NQ_EINVAL, "tag %zu is NULL", i);
        nq_printable(shown, sizeof shown, tags[i], strlen(tags[i]));
        if (!headers_is_tag(tags[i], strlen(tags[i])))
            return nq_err_set(err, NQ_EINVAL,
                              "tag '%s': allowed are 1 to %d bytes of UTF-8 without control characters and "
                              "commas, not beginning or ending with a space",
                              shown, NQ_MAX_TAG);
        for (size_t k = 0; k < i; k++)
            again = again || strcmp(tags[k], tags[i]) == 0;
        if (!again)
            nq_buf_fmt(headers, HEADERS_TAG ": %s\n", tags[i]);
    }
    if (headers->failed)
        return nq_err_nomem(err);
    if (headers->n > NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE)
        return nq_err_set(err, NQ_ETOOBIG, "the headers and tags are %zu bytes long, at most %d are allowed",
                          headers->n, NQ_MAX_HEADERS_SIZE - HEADERS_RESERVE);
    return NQ_OK;
}

NQ_API const char *nq_task_header(const nq_task *task, const char *name)
{
    for (size_t i = 0; i < task->nheaders; i++)
        if (strcmp(task->headers[i].name, name) == 0)
            return task->headers[i].value;
    return NULL;
}
