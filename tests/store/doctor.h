/* SPDX-License-Identifier: MIT */
/* What the suites of nanoq doctor share. */
#ifndef NQ_TEST_STORE_DOCTOR_H
#define NQ_TEST_STORE_DOCTOR_H

#include "suites.h"

/* By number: what was found last. */
extern nq_check doctor_all[NQ_CHECKS + 1];
extern char doctor_texts[NQ_CHECKS + 1][NQ_MAX_FOUND];

int doctor_note(const nq_check *c, void *udata);
/* Of a check: the level, with what it said in a failure's message. */
int doctor_level(nq *q, unsigned number);

#define DOCTOR_IS(q, number, expected)                                                                       \
    do {                                                                                                     \
        int d_level = doctor_level(q, number);                                                               \
        ck_assert_msg(d_level == (expected), "check %d: %s, not %s: %s", number,                             \
                      nq_check_level_name(d_level), nq_check_level_name(expected), doctor_texts[number]);    \
    } while (0)
#define DOCTOR_SAYS(number, text)                                                                            \
    ck_assert_msg(strstr(doctor_texts[number], text), "check %d: no '%s': %s", number, text,                 \
                  doctor_texts[number])

#endif
