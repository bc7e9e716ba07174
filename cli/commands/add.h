/* SPDX-License-Identifier: MIT */
/* nanoq add: one task from the arguments, or many from lines of JSON. */
#ifndef ADD_H
#define ADD_H

#include "../cli.h"
#include "../text/json_input.h"

#define ADD_MAX_PAYLOAD NQ_DEFAULT_MAX_PAYLOAD

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

#endif
