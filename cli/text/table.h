/* SPDX-License-Identifier: MIT */
/* Records on stdout as an aligned table, JSON or TSV; one description serves all three. */
#ifndef TABLE_H
#define TABLE_H

#include "../cli.h"
#include "text.h"

struct table_column {
    const char *name; /* of the JSON member and the TSV column; the table shows it in capitals */
    bool right;       /* aligned right in a table */
    bool machine;     /* only in JSON and TSV */
    bool people;      /* only in a table; not the first column */
    bool wide;        /* last in a table: cut to the terminal's width */
};

struct table {
    const struct table_column *columns;
    size_t ncolumns;
    bool single;      /* one record: a list of name and value, a JSON object */
    const char *more; /* single, JSON: further members, as they are to be written; NULL: none */
    const char *of;   /* what the records are, where they are not tasks: "queues" */
    size_t at, rows;  /* the next cell's column; records so far */
    struct text out;  /* the record being made (JSON, TSV) */
    struct text *cells;
    size_t ncells, capcells;
};

void table_start(struct table *t, const struct table_column *columns, size_t ncolumns, bool single);
/* One cell after the other, in the order of the columns. */
void table_text(struct table *t, const char *s);
void table_chars(struct table *t, const char *p, size_t n); /* the same, which may have NUL in it */
void table_optional(struct table *t, const char *s);        /* NULL or "": there is none; JSON: null */
/* "name=value, name=value", in JSON an object; nothing when there are none. */
void table_headers(struct table *t, const nq_header *all, size_t n);
void table_words(struct table *t, const char *const all[], size_t n);
void table_none(struct table *t); /* there is no such value; JSON: null */
void table_int(struct table *t, int64_t v);
void table_bool(struct table *t, bool v);
void table_time(struct table *t, int64_t us);     /* 0: none */
void table_duration(struct table *t, int64_t us); /* JSON, TSV: in seconds */
/* A payload of which `here` bytes are at hand. JSON: with members payload_encoding and payload_truncated. */
void table_payload(struct table *t, const void *p, size_t here, size_t size);
/* What a task left, NULL: nothing. JSON: with a member NAME_encoding. */
void table_result(struct table *t, const void *p, size_t n);
void table_row(struct table *t); /* the record is complete */
/* ok false: an error is told elsewhere; then nothing is written for no records. */
void table_finish(struct table *t, bool ok);
/* "2.5s", "10m", "3h05m": short, for people. */
void table_short_duration(int64_t us, char out[32]);

#endif
