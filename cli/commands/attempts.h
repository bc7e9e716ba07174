/* SPDX-License-Identifier: MIT */
/* The failed attempts of a task as nanoq attempts and show print them. */
#ifndef ATTEMPTS_H
#define ATTEMPTS_H

#include "../cli.h"
#include "../text/text.h"

/* As a table, JSON or TSV. quiet: nothing is printed where there are none, else a line before them. */
int attempts_print(nq *q, nq_id id, bool quiet, nq_err *err);
/* The same as a JSON member "failures" of the task's object. */
int attempts_member(nq *q, nq_id id, struct text *out, nq_err *err);

#endif
