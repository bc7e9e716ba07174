/* SPDX-License-Identifier: MIT */
/* Checks of names, specs and options. */
#include "core.h"

/* Options structs grow by a few fields a release; a size far beyond ours was never set. */
#define VALIDATE_MAX_GROWTH 1024

static bool validate_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool validate_digit(char c)
{
    return c >= '0' && c <= '9';
}

int nq_check_queue(const char *queue, nq_err *err)
{
    size_t n;

    if (!queue)
        return nq_err_set(err, NQ_EINVAL, "the queue name is NULL");
    n = strlen(queue);
    if (n == 0)
        return nq_err_set(err, NQ_EINVAL, "the queue name is empty: 1 to %d bytes are allowed", NQ_MAX_QUEUE);
    if (n > NQ_MAX_QUEUE)
        return nq_err_set(err, NQ_EINVAL, "the queue name is %zu bytes long, at most %d are allowed", n,
                          NQ_MAX_QUEUE);
    for (size_t i = 0; i < n; i++)
        if (!validate_alpha(queue[i]) && !validate_digit(queue[i]) && !strchr(".:/-", queue[i]))
            return nq_err_set(err, NQ_EINVAL,
                              "queue name '%s': byte %zu is not one of the allowed A-Z a-z 0-9 _ . : / -",
                              queue, i + 1);
    return NQ_OK;
}

int nq_check_type(const char *type, nq_err *err)
{
    size_t n, len;

    if (!type)
        return nq_err_set(err, NQ_EINVAL, "type is missing: 1 to %d bytes are required", NQ_MAX_TYPE);
    n = strlen(type);
    if (n == 0)
        return nq_err_set(err, NQ_EINVAL, "type is empty: 1 to %d bytes are required", NQ_MAX_TYPE);
    if (n > NQ_MAX_TYPE)
        return nq_err_set(err, NQ_EINVAL, "type is %zu bytes long, at most %d are allowed", n, NQ_MAX_TYPE);
    for (size_t i = 0; i < n; i += len) {
        uint32_t cp = 0;
        len = nq_utf8(type + i, n - i, &cp);
        if (len == 0)
            return nq_err_set(err, NQ_EINVAL, "type '%s' is not valid UTF-8 at byte %zu", type, i + 1);
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            return nq_err_set(err, NQ_EINVAL,
                              "type '%s' has a control character at byte %zu: only printable text is allowed",
                              type, i + 1);
    }
    return NQ_OK;
}

int nq_check_words(const char *what, const char *text, size_t most, nq_err *err)
{
    const size_t n = strlen(text);
    uint32_t cp = 0;
    if (n > most)
        return nq_err_set(err, NQ_EINVAL, "%s has %zu bytes, at most %zu are allowed", what, n, most);
    for (size_t i = 0, len; i < n; i += len) {
        if ((len = nq_utf8(text + i, n - i, &cp)) == 0)
            return nq_err_set(err, NQ_EINVAL, "%s is not valid UTF-8 at byte %zu", what, i + 1);
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            return nq_err_set(err, NQ_EINVAL, "%s has a control character at byte %zu", what, i + 1);
    }
    return NQ_OK;
}

int nq_check_prefix(const char *prefix, nq_err *err)
{
    size_t n = prefix ? strlen(prefix) : 0;
    bool good = n >= 1 && n <= 48 && validate_alpha(prefix[0]);

    for (size_t i = 1; good && i < n; i++)
        good = validate_alpha(prefix[i]) || validate_digit(prefix[i]);
    if (good)
        return NQ_OK;
    return nq_err_set(err, NQ_EINVAL,
                      "table prefix '%.60s': allowed are 1 to 48 of A-Z a-z 0-9 _, the first no digit",
                      prefix ? prefix : "");
}

int nq_options_copy(void *out, size_t ours, const void *theirs, const char *what, nq_err *err)
{
    size_t size = 0;

    if (theirs) {
        const unsigned char *extra = theirs;
        memcpy(&size, theirs, sizeof(size));
        if (size < sizeof(size))
            return nq_err_set(err, NQ_EINVAL, "%s.size is %zu: set it to sizeof(%s)", what, size, what);
        if (size > ours + VALIDATE_MAX_GROWTH)
            return nq_err_set(err, NQ_EINVAL, "%s.size is %zu, this library's is %zu: set it to sizeof(%s)",
                              what, size, ours, what);
        for (size_t i = ours; i < size; i++)
            if (extra[i] != 0)
                return nq_err_set(err, NQ_EINVAL,
                                  "%s sets a field that this library (version %s) does not know: size %zu, "
                                  "known are %zu bytes",
                                  what, nq_version(), size, ours);
    }
    memset(out, 0, ours);
    if (theirs)
        memcpy(out, theirs, size < ours ? size : ours);
    memcpy(out, &ours, sizeof(ours));
    return NQ_OK;
}
