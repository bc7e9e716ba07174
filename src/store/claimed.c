/* SPDX-License-Identifier: MIT */
/* Claimed tasks, from the rows that a claim read. */
#include <limits.h>

#include "store.h"

static char *claimed_put(char **at, const nq_val *v)
{
    char *start = *at;
    if (v->n)
        memcpy(start, v->p, v->n);
    start[v->n] = '\0';
    *at = start + v->n + 1;
    return start;
}

static unsigned claimed_count(const nq_val *v)
{
    return v->i < 0 ? 0 : v->i > INT_MAX ? INT_MAX : (unsigned)v->i;
}

NQ_PRIVATE int nq_claimed_add(const nq_val cols[], size_t ncols, void *arg)
{
    nq_claimed_list *list = arg;
    nq_claimed *made = malloc(sizeof(*made) + cols[2].n + cols[3].n + cols[4].n + cols[5].n + 4);
    (void)ncols;
    if (!made)
        return NQ_ENOMEM;
    char *at = (char *)(made + 1);
    made->next = NULL;
    made->lease = (uint64_t)cols[1].i;
    made->task = (nq_task){
        .id = cols[0].i,
        .queue = claimed_put(&at, &cols[2]),
        .type = claimed_put(&at, &cols[3]),
        .payload = claimed_put(&at, &cols[4]),
        .payload_size = cols[4].n,
        .last_error = cols[5].type == NQ_VAL_NULL ? NULL : claimed_put(&at, &cols[5]),
        .priority = (int)cols[6].i,
        .attempt = claimed_count(&cols[7]) + 1,
        .crashes = claimed_count(&cols[8]),
        .max_retries = claimed_count(&cols[9]),
        .generation = claimed_count(&cols[10]),
        .timeout_us = nq_us_of_ms(cols[11].i),
        .created_at_us = cols[12].i,
        .run_at_us = cols[13].i,
    };
    if (list->tail)
        list->tail->next = made;
    else
        list->head = made;
    list->tail = made;
    list->n++;
    return 0;
}

NQ_PRIVATE void nq_claimed_free(nq_claimed *list)
{
    while (list) {
        nq_claimed *next = list->next;
        free(list);
        list = next;
    }
}
