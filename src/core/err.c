/* SPDX-License-Identifier: MIT */
/* Errors: texts, and filling an nq_err; the version. */
#include "core.h"

#include <stdio.h>

#ifdef __clang_analyzer__
#undef nq_err_set
#undef nq_err_nomem
#undef nq_err_sys
#endif

const char *nq_strerror(int code)
{
    switch (code) {
    case NQ_OK:
        return "ok";
#define NQ_X(name, number, text)                                                                             \
    case number:                                                                                             \
        return text;
        NQ_CODES(NQ_X)
#undef NQ_X
    default:
        return "unknown error";
    }
}

const char *nq_code_name(int code)
{
    switch (code) {
    case NQ_OK:
        return "NQ_OK";
#define NQ_X(name, number, text)                                                                             \
    case number:                                                                                             \
        return #name;
        NQ_CODES(NQ_X)
#undef NQ_X
    default:
        return "NQ_UNKNOWN_CODE";
    }
}

/* Texts of databases and of callers may hold anything; what leaves here is one line a terminal can show. */
void nq_printable(char *out, size_t size, const char *text, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0, i = 0;

    if (size == 0)
        return;
    while (i < n) {
        uint32_t cp = 0;
        size_t len = nq_utf8(text + i, n - i, &cp);
        bool plain = len > 0 && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0);
        size_t take = len > 0 ? len : 1;
        size_t need = plain ? take : 4 * take;

        if (need > size - 1 - at)
            break;
        for (size_t k = 0; k < take; k++) {
            unsigned byte = (unsigned char)text[i + k];
            if (plain) {
                out[at++] = text[i + k];
            } else {
                out[at++] = '\\';
                out[at++] = 'x';
                out[at++] = hex[byte >> 4];
                out[at++] = hex[byte & 15];
            }
        }
        i += take;
    }
    out[at] = '\0';
}

static void err_fill(nq_err *err, int code, const char *text)
{
    /* text never lies in err: a message may quote the one it replaces. */
    memset(err, 0, sizeof *err);
    err->code = code;
    nq_printable(err->message, sizeof err->message, text, strlen(text));
}

int nq_err_set(nq_err *err, int code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    if (!err)
        return code;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    err_fill(err, code, text);
    return code;
}

int nq_err_nomem(nq_err *err)
{
    if (err)
        err_fill(err, NQ_ENOMEM, nq_strerror(NQ_ENOMEM));
    return NQ_ENOMEM;
}

/* glibc's strerror_r returns the text, everybody else's fills the buffer. */
static const char *err_describe(int errnum, char *out, size_t size)
{
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(errnum, out, size);
#else
    if (strerror_r(errnum, out, size) != 0)
        snprintf(out, size, "error %d", errnum);
    return out;
#endif
}

int nq_err_sys(nq_err *err, int code, int errnum, const char *fmt, ...)
{
    char text[1024], reason[128];
    va_list ap;
    int n;

    if (!err)
        return code;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    /* The reason must survive a long text in front of it. */
    if (n < 0)
        n = 0;
    if (n > 350)
        n = 350;
    snprintf(text + n, sizeof(text) - (size_t)n, ": %s", err_describe(errnum, reason, sizeof(reason)));
    err_fill(err, code, text);
    return code;
}

const char *nq_version(void)
{
    return NQ_STRING(NQ_VERSION_MAJOR) "." NQ_STRING(NQ_VERSION_MINOR) "." NQ_STRING(NQ_VERSION_PATCH);
}
