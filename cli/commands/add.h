/* SPDX-License-Identifier: MIT */
/* nanoq add: one task from the arguments, or many from lines of JSON. */
#ifndef ADD_H
#define ADD_H

#include "../cli.h"
#include "../text/json_input.h"
#include "../text/text.h"

#define ADD_MAX_PAYLOAD NQ_DEFAULT_MAX_PAYLOAD

enum {
    ADD_RAW = 256,
    ADD_STDIN,
    ADD_UNTIL,
    ADD_WINDOW,
    ADD_MAX_WAIT,
    ADD_REPLACE,
    ADD_DEBOUNCE,
    ADD_APPEND,
    ADD_KEEP,
    ADD_TIMEOUT
};

/* What a command that adds one task was told. */
struct add_request {
    nq_task_spec spec;
    struct text input; /* payload from stdin */
    bool raw, lines, once;
    nq_header headers[NQ_MAX_HEADERS];
    const char *tags[NQ_MAX_TAGS];
};
/* Take an option of add's; false after a message. */
bool add_option(struct add_request *r, int key, const char *value);
/* The spec's type and payload from the arguments from optind on. CLI_OK, or an exit code after a message. */
int add_payload(struct add_request *r, int argc, char **argv);
/* The same, and enqueue it. Answers the exit code: that of a duplicate
 * is CLI_OK where once is set. r->input is to be freed. */
int add_task(struct add_request *r, int argc, char **argv);

/* Read tasks from stdin, one JSON object a line, and enqueue them in chunks; defaults: what the options said,
 * for lines that do not say. Answers the exit code. */
int add_lines(const nq_task_spec *defaults);

/* ---- line_task.c */
struct line_fault {
    int column;
    char message[256];
};
/* Fill spec, which holds the defaults, from the object root that text was parsed to; it points into both;
 * headers and tags of its own are to be freed, by line_forget. others: members that are somebody else's, ends
 * at NULL; NULL: none. */
bool line_task(nq_task_spec *spec, const char *text, json_t *root, const char *const *others,
               struct line_fault *fault);
/* Free what it has that the defaults have not; NULL: there are none. */
void line_forget(const nq_task_spec *spec, const nq_task_spec *defaults);
/* Say what is wrong with a member, or (NULL) with the whole; false. */
bool line_bad(struct line_fault *f, const char *text, const char *member, const char *fmt, ...)
    NQ_PRINTF(4, 5);
/* A time, seconds since 1970 or text. False: why says what it must be. */
bool line_time(const json_t *v, int64_t *out, char *why, size_t size);

/* ---- add_key.c: how long a key is taken, and what a duplicate does */
/* "done", "start", "window"; "refuse", "replace", "debounce", "append". False: it is none. */
bool add_until(const char *name, nq_task_spec *spec);
bool add_duplicate(const char *name, nq_task_spec *spec);
/* What is wrong with them together, in why; p: before each name of an option or member. */
bool add_key_good(const nq_task_spec *spec, const char *p, char *why, size_t size);

#endif
