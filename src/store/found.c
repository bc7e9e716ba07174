/* SPDX-License-Identifier: MIT */
/* What the checks of nanoq doctor say, and what is said of variables. */
#include <stdio.h>
#include <strings.h>

#include "checks.h"

/* ---- Words ---- */

NQ_PRINTF(3, 0) static void found_add(nq_found *f, size_t at, const char *fmt, va_list ap)
{
    if (at < sizeof f->text - 1)
        vsnprintf(f->text + at, sizeof f->text - at, fmt, ap);
}

NQ_PLUG_IN void nq_found_say(nq_found *f, int level, const char *todo, const char *fmt, ...)
{
    va_list ap;
    f->level = level;
    f->todo = todo;
    f->text[0] = '\0';
    va_start(ap, fmt);
    found_add(f, 0, fmt, ap);
    va_end(ap);
}

NQ_PLUG_IN void nq_found_more(nq_found *f, int level, const char *todo, const char *fmt, ...)
{
    va_list ap;
    if (level > f->level) {
        f->level = level;
        f->todo = todo;
    }
    const size_t n = strlen(f->text);
    if (n > 0 && n + 3 < sizeof f->text)
        memcpy(f->text + n, "; ", 3);
    va_start(ap, fmt);
    found_add(f, strlen(f->text), fmt, ap);
    va_end(ap);
}

NQ_PLUG_IN const char *nq_checks_ago(int64_t us, char out[32])
{
    const long long s = us < 0 ? 0 : (long long)(us / NQ_SECONDS(1));
    if (s < 60)
        snprintf(out, 32, "%lld s", s);
    else if (s < 3600)
        snprintf(out, 32, "%lld min", s / 60);
    else if (s < 172800)
        snprintf(out, 32, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, 32, "%lld d", s / 86400);
    return out;
}

NQ_PLUG_IN void nq_checks_text(char *out, size_t size, const nq_val *v)
{
    const bool text = (v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB) && v->n > 0;
    const char *nul = text ? memchr(v->p, '\0', v->n) : NULL;
    const size_t n = !text ? 0 : nul ? (size_t)(nul - (const char *)v->p) : v->n;
    nq_printable(out, size, text ? v->p : "", n < size ? n : size);
}

NQ_PLUG_IN int64_t nq_checks_int(const nq_val *v)
{
    char text[32];
    if (v->type == NQ_VAL_INT)
        return v->i;
    nq_checks_text(text, sizeof text, v); /* a sum of MySQL's is a decimal number */
    return strtoll(text, NULL, 10);
}

NQ_PLUG_IN int nq_checks_int_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(int64_t *)arg = nq_checks_int(&cols[0]);
    return 0;
}

/* ---- What is said of variables ---- */

NQ_PLUG_IN int nq_checks_var_row(const nq_val cols[], size_t ncols, void *arg)
{
    nq_checks *k = arg;
    for (size_t i = 0; i < 2; i++) {
        char text[256] = "";
        if (i < ncols && cols[i].type == NQ_VAL_INT)
            snprintf(text, sizeof text, "%lld", (long long)cols[i].i);
        else if (i < ncols)
            nq_checks_text(text, sizeof text, &cols[i]);
        nq_buf_add(&k->vars, text, strlen(text) + 1);
    }
    return k->vars.failed ? NQ_ENOMEM : 0;
}

NQ_PLUG_IN const char *nq_checks_said(const nq_checks *k, const char *name)
{
    for (const char *const *p = k->pretend; p && *p; p += 2)
        if (strcasecmp(*p, name) == 0)
            return p[1];
    const char *end = k->vars.n ? k->vars.p + k->vars.n : NULL;
    for (const char *p = k->vars.p; end && p < end;) {
        const char *value = p + strlen(p) + 1;
        if (strcasecmp(p, name) == 0)
            return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

NQ_PLUG_IN int64_t nq_checks_number(const nq_checks *k, const char *name, int64_t fallback)
{
    const char *text = nq_checks_said(k, name);
    return text && *text ? strtoll(text, NULL, 10) : fallback;
}

NQ_PLUG_IN bool nq_checks_is(const nq_checks *k, const char *name, const char *value)
{
    const char *text = nq_checks_said(k, name);
    return text && strcasecmp(text, value) == 0;
}
