/* SPDX-License-Identifier: MIT */
/* What the addresses of the API share: errors, parameters, members of a body. */
#include <errno.h>
#include <stdarg.h>

#include "dash.h"

/* ---- Errors ---- */

static void api_error_text(struct dash_request *r, unsigned status, const char *code, const char *message)
{
    out_free(&r->out);
    r->status = status;
    out_open(&r->out, '{');
    out_open(out_key(&r->out, "error"), '{');
    out_str(out_key(&r->out, "code"), code);
    out_str(out_key(&r->out, "message"), message);
    out_close(&r->out, '}');
    out_close(&r->out, '}');
}

int api_fail(struct dash_request *r, unsigned status, const char *code, const char *fmt, ...)
{
    char message[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    api_error_text(r, status, code, message);
    return NQ_OK;
}

int api_invalid(nq_err *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    *err = (nq_err){.code = NQ_EINVAL};
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return NQ_EINVAL;
}

static unsigned api_status(int code)
{
    switch (code) {
    case NQ_EINVAL:
        return 400;
    case NQ_ENOTFOUND:
        return 404;
    case NQ_ESTATE:
    case NQ_EDUPLICATE:
        return 409;
    case NQ_ETOOBIG:
        return 413;
    case NQ_EUNSUPPORTED:
        return 501;
    case NQ_EUNAVAILABLE:
    case NQ_EUNKNOWN:
    case NQ_ECONFLICT:
    case NQ_ETIMEOUT:
        return 503;
    default:
        return 500;
    }
}

void api_error(struct dash_request *r, const nq_err *err)
{
    const char *name = nq_code_name(err->code);
    api_error_text(r, api_status(err->code), strncmp(name, "NQ_", 3) == 0 ? name + 3 : name,
                   err->message[0] ? err->message : nq_strerror(err->code));
}

/* ---- Parameters ---- */

const char *api_param(const struct dash_request *r, const char *name)
{
    for (size_t i = 0; i < r->nparams; i++)
        if (strcmp(r->params[i].name, name) == 0 && r->params[i].value[0])
            return r->params[i].value;
    return NULL;
}

bool api_param_int(const struct dash_request *r, const char *name, int64_t low, int64_t high, int64_t *out,
                   nq_err *err)
{
    const char *text = api_param(r, name);
    char *end = NULL;
    if (!text)
        return true;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || strspn(text, "-0123456789") != strlen(text) || v < low || v > high) {
        api_invalid(err, "%s: '%.40s' is not a whole number from %lld to %lld", name, text, (long long)low,
                    (long long)high);
        return false;
    }
    *out = v;
    return true;
}

bool api_param_window(const struct dash_request *r, const char *const allowed[], int64_t *us, nq_err *err)
{
    const char *text = api_param(r, "window");
    for (size_t i = 0; allowed[i]; i++)
        if (strcmp(text ? text : allowed[0], allowed[i]) == 0)
            return nq_parse_duration(allowed[i], us, err) == NQ_OK;
    api_invalid(err, "window: '%.40s' is none of those that docs/api.md has: 15m, 1h, 24h", text);
    return false;
}

bool api_body_str(const struct dash_request *r, const char *name, const char **out, nq_err *err)
{
    const json_t *v = json_object_get(r->body, name);
    if (v && !json_is_null(v) && !json_is_string(v)) {
        api_invalid(err, "%s must be a string", name);
        return false;
    }
    const char *text = json_string_value(v);
    if (text && strlen(text) != json_string_length(v)) {
        api_invalid(err, "%s must have no zero byte", name);
        return false;
    }
    *out = text && *text ? text : NULL;
    return true;
}

bool api_body_bool(const struct dash_request *r, const char *name, bool *out, nq_err *err)
{
    const json_t *v = json_object_get(r->body, name);
    if (v && !json_is_null(v) && !json_is_boolean(v)) {
        api_invalid(err, "%s must be true or false", name);
        return false;
    }
    *out = json_is_true(v);
    return true;
}

bool api_body_int(const struct dash_request *r, const char *name, int64_t low, int64_t high, int64_t *out,
                  nq_err *err)
{
    const json_t *v = json_object_get(r->body, name);
    if (!v || json_is_null(v))
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high) {
        api_invalid(err, "%s must be a whole number from %lld to %lld", name, (long long)low,
                    (long long)high);
        return false;
    }
    *out = json_integer_value(v);
    return true;
}
