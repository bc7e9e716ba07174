/* SPDX-License-Identifier: MIT */
/* nanoq add: one task from the arguments, or many from lines of JSON. */
#ifndef ADD_H
#define ADD_H

#include "../cli.h"
#include "../text/json_input.h"
#include "../text/text.h"

#define ADD_MAX_PAYLOAD NQ_DEFAULT_MAX_PAYLOAD

/* What a command that adds one task was told. */
struct add_request {
    nq_task_spec spec;
    struct text input; /* payload from stdin */
    bool raw, lines, once;
    nq_header headers[NQ_MAX_HEADERS];
};
/* The spec's type and payload from the arguments, and enqueue it. Answers the exit code: that of a duplicate
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
 * headers of its own are to be freed. */
bool line_task(nq_task_spec *spec, const char *text, json_t *root, struct line_fault *fault);

/* ---- add_key.c: how long a key is taken, and what a duplicate does */
/* "done", "start", "window"; "refuse", "replace", "debounce", "append". False: it is none. */
bool add_until(const char *name, nq_task_spec *spec);
bool add_duplicate(const char *name, nq_task_spec *spec);
/* What is wrong with them together, in why; p: before each name of an option or member. */
bool add_key_good(const nq_task_spec *spec, const char *p, char *why, size_t size);

#endif
