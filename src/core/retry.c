/* SPDX-License-Identifier: MIT */
/* The default retry policy. */
#include "core.h"

int64_t nq_default_retry_delay(unsigned attempt)
{
    int64_t n = (int64_t)attempt, base;

    /* 51^5 s is over ten years already: beyond it there is nothing to compute, and nothing to overflow. */
    if (n > 50)
        return NQ_MAX_DURATION;
    base = NQ_SECONDS(5 + n * n * n * n * n);
    base += (int64_t)nq_random((uint64_t)base / 2);
    return base < NQ_MAX_DURATION ? base : NQ_MAX_DURATION;
}
