/* SPDX-License-Identifier: MIT */
/* said.c: what is logged of a transaction when that is over. */
#ifndef NQ_STORE_SAID_H
#define NQ_STORE_SAID_H

#include "store.h"

#define NQ_MAX_LOG 768 /* bytes of a line, with its end; more is cut */

/* Log a line of what the open transaction does: when it has been committed and c given back, so that nothing
 * is said of what was rolled back, nor twice of what is tried again, and the application's function may use
 * the queue. Where nobody knows whether it was committed it is said too. */
NQ_PRIVATE void nq_conn_log(nq_conn *c, enum nq_log_level level, const char *fmt, ...) NQ_PRINTF(3, 4);
/* tries.c: it was rolled back. */
NQ_PRIVATE void nq_conn_unsay(nq_conn *c);
/* pool.c: say the lines that a connection had, and free them. */
NQ_PRIVATE void nq_lines_say(const nq_store *s, struct nq_line *lines);

#endif
