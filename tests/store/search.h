/* SPDX-License-Identifier: MIT */
/* What the suites of finding tasks share. */
#ifndef NQ_TEST_STORE_SEARCH_H
#define NQ_TEST_STORE_SEARCH_H

#include "suites.h"

enum { SEARCH_N = 360 };

#define SEARCH_NAMES(...) ((const char *const[]){__VA_ARGS__})

extern uint64_t search_seed;

struct search_seen {
    nq_id ids[SEARCH_N + 1];
    size_t n;
};
int search_see(const nq_info *info, void *udata);
/* Page by page, forwards or backwards, going on where an answer was bounded. */
void search_pages(nq *q, const nq_filter *f, int order, bool back, struct search_seen *all);
/* Between two pages, where it is set. */
extern void (*search_between)(nq *q);
/* So that there is an id before all others, to go back from in the order of the newest. */
void search_one_goes(nq *q);

#endif
