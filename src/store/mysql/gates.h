/* SPDX-License-Identifier: MIT */
/* Parts of the statements about gates. */
#ifndef NQ_STORE_MYSQL_GATES_H
#define NQ_STORE_MYSQL_GATES_H

#include "mysql_driver.h"

#define NQ_MYSQL_GATES_OPEN "(not_before IS NULL OR not_before<=UTC_TIMESTAMP(6))"

NQ_PRIVATE void nq_mysql_gates_table(const nq_mysql_conn *c, nq_buf *b);
NQ_PRIVATE void nq_mysql_gates_name(nq_buf *b, const char *name);
/* Is there to be a gate of the queue? On Galera it stands for those of its groups. */
NQ_PRIVATE bool nq_mysql_gates_queue(const nq_mysql_conn *c, const nq_claim_args *a);
/* And one of this group? On Galera where it has a rate or an order. */
NQ_PRIVATE bool nq_mysql_gates_turn(const nq_mysql_conn *c, const nq_turn *t);
/* Is it limited in what may run? An ordered one is. */
NQ_PRIVATE bool nq_mysql_gates_counts(const nq_mysql_conn *c, const nq_turn *t);
/* "A,B" of the groups that have gates; NULL where there are none. */
NQ_PRIVATE void nq_mysql_gates_names(const nq_mysql_conn *c, nq_buf *b, const nq_claim_args *a);
/* (queue, n) of the limited ones of which some run: one statement costs the server far less than one for
 * each. */
NQ_PRIVATE void nq_mysql_gates_counts_of(const nq_mysql_conn *c, nq_buf *b, const nq_claim_args *a);
/* How many run in a queue and, jumping from one to the next, all its groups. */
NQ_PRIVATE void nq_mysql_gates_count_all(const nq_mysql_conn *c, const nq_gate *gate, nq_buf *b);

#endif
