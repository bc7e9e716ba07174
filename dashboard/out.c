/* SPDX-License-Identifier: MIT */
/* Writing JSON. */
#include "out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct text *out_value(struct out *j)
{
    if (j->comma)
        text_str(&j->text, ",");
    j->comma = true;
    return &j->text;
}

void out_open(struct out *j, char bracket)
{
    text_add(out_value(j), &bracket, 1);
    j->comma = false;
}

void out_close(struct out *j, char bracket)
{
    text_add(&j->text, &bracket, 1);
    j->comma = true;
}

struct out *out_key(struct out *j, const char *name)
{
    out_str(j, name);
    text_str(&j->text, ":");
    j->comma = false;
    return j;
}

void out_null(struct out *j)
{
    text_str(out_value(j), "null");
}

void out_int(struct out *j, int64_t v)
{
    text_int(out_value(j), v);
}

void out_positive(struct out *j, int64_t v)
{
    if (v > 0)
        out_int(j, v);
    else
        out_null(j);
}

void out_bool(struct out *j, bool v)
{
    text_str(out_value(j), v ? "true" : "false");
}

void out_real(struct out *j, double v)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.3g", v);
    text_str(out_value(j), digits);
}

void out_text(struct out *j, const void *p, size_t n)
{
    text_json(out_value(j), p, n);
}

void out_str(struct out *j, const char *s)
{
    out_text(j, s, strlen(s));
}

void out_optional(struct out *j, const char *s)
{
    if (s && *s)
        out_str(j, s);
    else
        out_null(j);
}

void out_time(struct out *j, int64_t us)
{
    char when[28];
    if (us == 0) {
        out_null(j);
        return;
    }
    nq_format_time(us, when);
    out_str(j, when);
}

void out_duration(struct out *j, int64_t us)
{
    char out[40];
    if (us % 1000000 == 0)
        snprintf(out, sizeof out, "%" PRId64, us / 1000000);
    else
        snprintf(out, sizeof out, "%s%" PRId64 ".%06d", us < 0 && us > -1000000 ? "-" : "", us / 1000000,
                 (int)(us < 0 ? -(us % 1000000) : us % 1000000));
    text_str(out_value(j), out);
}

void out_words(struct out *j, const char *const all[], size_t n)
{
    out_open(j, '[');
    for (size_t i = 0; i < n; i++)
        out_str(j, all[i]);
    out_close(j, ']');
}

void out_raw(struct out *j, const char *p, size_t n)
{
    text_add(out_value(j), p, n);
}

void out_free(struct out *j)
{
    text_free(&j->text);
    j->comma = false;
}
