/* SPDX-License-Identifier: MIT */
/* Text that comes from the database is hostile: escape it before a terminal or a parser sees it. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nanoq.h"

/* Growing text; p is NUL-terminated once anything was added. Out of memory ends the program. */
struct text {
    char *p;
    size_t n, cap;
};
void text_add(struct text *t, const void *p, size_t n);
void text_str(struct text *t, const char *s);
void text_int(struct text *t, int64_t v);
void text_free(struct text *t);

/* Decode one character: bytes used, or 0 when they are no valid UTF-8. */
size_t text_decode(const void *p, size_t n, uint32_t *c);
bool text_is_utf8(const void *p, size_t n);
/* UTF-8 in which, but for tabs and line feeds, nothing moves a cursor, turns text or cannot be seen? */
bool text_is_plain(const char *p, size_t n);
/* The length of p[0..n) without a character cut off at its end. */
size_t text_whole(const void *p, size_t n);
/* One line for people: control bytes, bidi and other invisible characters, invalid UTF-8 as \n, \xNN, \u{N}.
 */
void text_safe(struct text *t, const void *p, size_t n);
/* The same with the backslash doubled, so that it can be undone: for TSV. */
void text_tsv(struct text *t, const void *p, size_t n);
/* A JSON string with its quotes; invalid bytes become U+FFFD. */
/* Headers as a JSON object. */
void text_headers(struct text *out, const nq_header *all, size_t n);
/* ["a", "b"] */
void text_array(struct text *out, const char *const all[], size_t n);
void text_json(struct text *t, const void *p, size_t n);
void text_base64(struct text *t, const void *p, size_t n);
/* Columns on a terminal, of text that text_safe made. */
size_t text_width(const char *p, size_t n);
/* The length of the part of it that fits into width columns. */
size_t text_cut(const char *p, size_t n, size_t width);

#endif
