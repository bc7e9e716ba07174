/* SPDX-License-Identifier: MIT */
/* JSON from outside: validation with a position, and the raw bytes of an object's members. */
#include "json_input.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nanoq_admin.h"

json_t *json_input_load(const char *p, size_t n, size_t flags, json_error_t *error)
{
    const char *nul = n > 0 ? memchr(p, '\0', n) : NULL;
    if (!nul)
        return json_loadb(p, n, flags, error);
    *error =
        (json_error_t){.line = 1, .column = json_input_column(p, (size_t)(nul - p)), .text = "a NUL byte"};
    for (const char *c = p; c < nul; c++)
        error->line += *c == '\n';
    return NULL;
}

/* The end of a number as RFC 8259 has it, or NULL. */
static char *json_input_number(char *p)
{
    p += *p == '-';
    if (*p == '0')
        p++;
    else if (*p >= '1' && *p <= '9')
        p += strspn(p, "0123456789");
    else
        return NULL;
    if (*p == '.') {
        size_t n = strspn(p + 1, "0123456789");
        p = n > 0 ? p + 1 + n : NULL;
    }
    if (p && (*p == 'e' || *p == 'E')) {
        p += 1 + (p[1] == '-' || p[1] == '+');
        size_t n = strspn(p, "0123456789");
        p = n > 0 ? p + n : NULL;
    }
    return p;
}

/* Is this number, which ends there, beyond a double, or a whole one beyond jansson's? Of what is no JSON
 * strtod reads more, as of 02e961. */
static bool json_input_beyond(const char *p, char *end)
{
    const char next = *end;
    *end = '\0';
    bool beyond = isinf(strtod(p, NULL));
    errno = 0;
    if (!strpbrk(p, ".eE"))
        beyond = beyond || ((void)strtoll(p, NULL, 10), errno == ERANGE);
    *end = next;
    return beyond;
}

/* The half of a character of two that is escaped at p, in its first 0xd800 or its second 0xdc00; 0: none is.
 */
static unsigned json_input_half(const char *p)
{
    unsigned c = 0;
    return p[0] == '\\' && p[1] == 'u' && strspn(p + 2, "0123456789abcdefABCDEF") >= 4 &&
                   sscanf(p + 2, "%4x", &c) == 1 && (c & 0xf800) == 0xd800
               ? c & 0xfc00
               : 0;
}

/* Behind what a backslash begins at p. A half alone, which the grammar has and jansson not, becomes U+FFFD.
 */
static char *json_input_escape(char *p)
{
    const unsigned half = json_input_half(p);
    if (half == 0xd800 && json_input_half(p + 6) == 0xdc00)
        return p + 12;
    for (int i = 2; half && i < 6; i++)
        p[i] = "..fffd"[i];
    return p + 2;
}

/* JSON sets no limit to a number, a double has one. Put 9e99 in the place of each number beyond it, of the
 * same length: no member that we read ourselves takes such a one, and of payloads the text is kept, not this
 * copy. */
static void json_input_tame(char *p, bool halves)
{
    for (bool string = false; *p; p++) {
        if (string && *p == '\\' && p[1])
            p = (halves ? json_input_escape(p) : p + 2) - 1;
        else if (*p == '"')
            string = !string;
        char *end = !string && (*p == '-' || (*p >= '0' && *p <= '9')) ? json_input_number(p) : NULL;
        if (!end)
            continue;
        if (json_input_beyond(p, end)) {
            char *at = p + (*p == '-');
            *at++ = '9';
            *at++ = 'e';
            memset(at, '0', (size_t)(end - at));
            end[-1] = end[-2] = '9';
        }
        p = end - 1;
    }
}

json_t *json_input(const char *p, size_t n, char message[256], int *line, int *column)
{
    json_error_t error;
    /* As reals: JSON sets no limit to a whole number, jansson's integers have one. */
    json_t *root = json_input_load(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (!root && strstr(error.text, "overflow") && !memchr(p, '\0', n)) {
        char *copy = strndup(p, n);
        if (copy) {
            json_input_tame(copy, false);
            root =
                json_input_load(copy, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
        }
        free(copy);
    }
    if (!root) {
        snprintf(message, 256, "%s", error.text);
        *line = error.line < 1 ? 1 : error.line;
        *column = error.column < 1 ? 1 : error.column;
    }
    return root;
}

json_t *json_input_any(const char *p, size_t n, json_error_t *error)
{
    json_t *root = json_input_load(p, n, JSON_ALLOW_NUL, error);
    char *copy = root || memchr(p, '\0', n) ? NULL : strndup(p, n);
    if (copy) {
        json_input_tame(copy, true);
        root = json_loads(copy, JSON_ALLOW_NUL, NULL);
    }
    free(copy);
    return root;
}

int json_input_column(const char *p, size_t at)
{
    int column = 1;
    for (size_t i = at; i > 0 && p[i - 1] != '\n'; i--)
        column += ((unsigned char)p[i - 1] & 0xC0) != 0x80;
    return column;
}

static size_t json_input_space(const char *p, size_t n, size_t i)
{
    while (i < n && strchr(" \t\r\n", p[i]) && p[i] != '\0')
        i++;
    return i;
}

/* Behind the value that starts at i; the text is known to be valid. */
static size_t json_input_skip(const char *p, size_t n, size_t i)
{
    size_t depth = 0;
    bool string = false;
    for (; i < n; i++) {
        char c = p[i];
        if (string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                string = false;
                if (depth == 0)
                    return i + 1;
            }
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return i; /* the end of the object around a number or literal */
            if (--depth == 0)
                return i + 1;
        } else if (depth == 0 && (c == ',' || c == ':' || strchr(" \t\r\n", c))) {
            return i;
        }
    }
    return i;
}

bool json_input_member(const char *p, size_t n, const char *name, size_t *start, size_t *size)
{
    size_t i = json_input_space(p, n, 0) + 1, len = strlen(name);
    bool found = false;
    while ((i = json_input_space(p, n, i)) < n && p[i] == '"') {
        size_t key = i;
        i = json_input_skip(p, n, i);
        bool same = i - key == len + 2 && memcmp(p + key + 1, name, len) == 0;
        i = json_input_space(p, n, i) + 1; /* the colon */
        i = json_input_space(p, n, i);
        size_t value = i;
        i = json_input_skip(p, n, i);
        if (same) { /* a repeated member: the last one counts, as it does to jansson; see json_input_repeats
                     */
            *start = value;
            *size = i - value;
            found = true;
        }
        i = json_input_space(p, n, i) + 1; /* the comma, or the closing brace */
    }
    return found;
}

/* Walk the members of an object's text. Its names are decoded and collected in seen, unless that is NULL:
 * then they are only counted. True: one came twice, at *at. */
static bool json_input_walk(const char *p, size_t n, json_t *seen, size_t *count, size_t *at)
{
    size_t i = json_input_space(p, n, 0) + 1;
    bool twice = false;
    for (*count = 0; !twice && (i = json_input_space(p, n, i)) < n && p[i] == '"'; ++*count) {
        const size_t key = i;
        i = json_input_skip(p, n, i);
        json_t *name = seen ? json_loadb(p + key, i - key, JSON_DECODE_ANY, NULL) : NULL;
        if (name) {
            twice = !!json_object_get(seen, json_string_value(name));
            json_object_set_new(seen, json_string_value(name), json_true());
            json_decref(name);
            *at = key;
        }
        i = json_input_space(p, n, i) + 1; /* the colon */
        i = json_input_skip(p, n, json_input_space(p, n, i));
        i = json_input_space(p, n, i) + 1; /* the comma, or the closing brace */
    }
    return twice;
}

bool json_input_repeats(const char *p, size_t n, const json_t *object, size_t *at)
{
    size_t count;
    json_input_walk(p, n, NULL, &count, at);
    if (count == json_object_size(object)) {
        return false;
    }
    json_t *seen = json_object();
    *at = 0;
    json_input_walk(p, n, seen, &count, at);
    json_decref(seen);
    return true;
}

bool json_input_duration(const json_t *v, int64_t least, int64_t *out, char *why, size_t size)
{
    nq_err err = {0};
    if (json_is_number(v)) {
        double us = round(json_number_value(v) * 1e6);
        if (us >= (double)least && us <= (double)NQ_MAX_DURATION) {
            *out = (int64_t)us;
            return true;
        }
    } else if (json_is_string(v)) {
        if (nq_parse_duration(json_string_value(v), out, &err) != NQ_OK) {
            snprintf(why, size, "%.200s", err.message);
            return false;
        }
        if (*out >= least)
            return true;
    }
    snprintf(why, size, "a duration like \"5m\" or a number of seconds, at least %g and at most ten years",
             (double)least / 1e6);
    return false;
}
