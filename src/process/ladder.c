/* SPDX-License-Identifier: MIT */
/* The steps from asking a process to end to ending it. */
#include <signal.h>

#include "process.h"

NQ_PRIVATE void nq_ladder_begin(nq_ladder *l, int64_t term_us, int64_t kill_us, int64_t again_us)
{
    if (!l->began)
        *l = (nq_ladder){.began = true, .term_us = term_us, .kill_us = kill_us, .again_us = again_us};
}

NQ_PRIVATE int nq_ladder_step(nq_ladder *l, int64_t now_us)
{
    if (!l->began)
        return 0;
    if (l->term_us <= now_us) {
        l->term_us = INT64_MAX;
        return SIGTERM;
    }
    if (l->kill_us > now_us)
        return 0;
    l->kill_us = now_us + l->again_us;
    l->kills++;
    return SIGKILL;
}

NQ_PRIVATE int64_t nq_ladder_next(const nq_ladder *l)
{
    if (!l->began)
        return INT64_MAX;
    return l->term_us < l->kill_us ? l->term_us : l->kill_us;
}
