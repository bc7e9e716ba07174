/* SPDX-License-Identifier: MIT */
/* why.c: the statement that says why a task does not run. */
#ifndef NQ_STORE_WHY_H
#define NQ_STORE_WHY_H

#include "store.h"

/* The columns of its rows, which come in the order in which reasons are shown; none has a parameter. */
enum nq_why_at { NQ_WHY_REASON, NQ_WHY_NAME, NQ_WHY_N, NQ_WHY_MOST, NQ_WHY_CLOCK, NQ_WHY_NOTE, NQ_WHY_AT_US };

/*
 * Append it, as a template. Any program may run it, so it has no function of ours. Its own tokens:
 *   {clock}      the database's time, as stored
 *   {clock_of:COLUMN}  a stored time as text; {moment:N} microseconds since 1970, as stored
 *   {words:COLUMN}  its first characters as text, whatever bytes they are; {number:TEXT} its leading digits
 *   {base:NAME} {each:QUEUE}  the queue of a queue's or a group's name; "QUEUE//" and a star
 *   {behind:QUEUE} {beyond:QUEUE}  between them are the names of its groups
 *   {listed:COLUMN} {lines:COLUMN}  with a comma, a line feed at both ends
 */
NQ_PRIVATE void nq_why_template(nq_buf *out, nq_id id);

#endif
