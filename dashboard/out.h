/* SPDX-License-Identifier: MIT */
/* Writing JSON: commas come by themselves, whatever comes from the database is escaped. */
#ifndef OUT_H
#define OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../cli/text/text.h"
#include "nanoq.h"
#include "nanoq_admin.h"

struct out {
    struct text text;
    bool comma; /* something stands before, on this level */
};

void out_open(struct out *j, char bracket);
void out_close(struct out *j, char bracket);
/* A member's name; answers j, so that its value can be written in one line. */
struct out *out_key(struct out *j, const char *name);
void out_null(struct out *j);
void out_int(struct out *j, int64_t v);
void out_positive(struct out *j, int64_t v); /* null unless above 0 */
void out_bool(struct out *j, bool v);
void out_real(struct out *j, double v); /* three digits */
void out_text(struct out *j, const void *p, size_t n);
void out_str(struct out *j, const char *s);
void out_optional(struct out *j, const char *s); /* NULL or "": null */
void out_time(struct out *j, int64_t us);        /* 0: null */
void out_duration(struct out *j, int64_t us);    /* in seconds */
void out_words(struct out *j, const char *const all[], size_t n);
/* What is JSON already. */
void out_raw(struct out *j, const char *p, size_t n);
void out_free(struct out *j);

#endif
