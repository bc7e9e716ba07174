/* SPDX-License-Identifier: MIT */
/* What a worker logs, and how it bears trouble with the database: growing pauses, few lines. */
#include "worker.h"

NQ_PRIVATE void nq_worker_log(const nq_worker *w, enum nq_log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    nq_store_vlog(w->store, level, fmt, ap);
    va_end(ap);
}

NQ_PRIVATE int64_t nq_outage_failed(const nq_worker *w, struct nq_outage *a, const char *what,
                                    const nq_err *err)
{
    int64_t now = nq_mono_us();
    bool first = a->pause_us == 0;
    if (first)
        a->since_us = now;
    if (first || now - a->logged_us >= NQ_SECONDS(30)) {
        nq_worker_log(w, NQ_LOG_WARN, "%s: %s", what, err->message);
        a->logged_us = now;
    }
    a->pause_us = first ? NQ_MS(100) : a->pause_us * 2;
    if (a->pause_us > NQ_SECONDS(5))
        a->pause_us = NQ_SECONDS(5);
    return a->pause_us;
}

NQ_PRIVATE void nq_outage_ended(const nq_worker *w, struct nq_outage *a, const char *what)
{
    if (a->pause_us == 0)
        return;
    nq_worker_log(w, NQ_LOG_INFO, "%s: works again after %.1f s", what,
                  (double)(nq_mono_us() - a->since_us) / 1e6);
    a->pause_us = 0;
}
