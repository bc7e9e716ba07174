/* SPDX-License-Identifier: MIT */
/* A person who retries and deletes tasks by their ids: load steer retry=1,2 delete=3 */
#include "load.h"

static void steer_each(nq *q, const char *what, int (*run)(nq *, nq_id, nq_err *))
{
    nq_err err = {0};
    char *end = NULL;
    for (const char *at = load_text(what, ""); *at; at = *end == ',' ? end + 1 : end) {
        const nq_id id = strtoll(at, &end, 10);
        if (end == at)
            return;
        load_note("STEER", "what=%s id=%lld", what, (long long)id);
        const int rc = run(q, id, &err);
        load_note("STEERED", "what=%s id=%lld code=%d %.200s", what, (long long)id, rc,
                  rc ? err.message : "");
    }
}

int load_steer(void)
{
    nq *q = load_open();
    steer_each(q, "retry", nq_retry);
    steer_each(q, "delete", nq_delete);
    nq_close(q);
    return 0;
}
