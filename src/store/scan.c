/* SPDX-License-Identifier: MIT */
/* Going once through the queues that a table has, whatever was stored as one. */
#include "retention.h"

struct scan_next {
    nq_scan *scan;
    bool more;
};

/* With a shorter one as it is, or as if it had spaces behind it: so a server orders names. */
static bool scan_behind(const nq_val *v, const nq_buf *before, bool padded)
{
    const unsigned char *a = v->p, *b = (const unsigned char *)before->p;
    const size_t n = v->n > before->n ? v->n : before->n;
    for (size_t i = 0; i < n; i++) {
        const int x = i < v->n ? a[i] : padded ? ' ' : -1, y = i < before->n ? b[i] : padded ? ' ' : -1;
        if (x != y)
            return x > y;
    }
    return false;
}

/* In order of the index, so that a look at them all has an end: a name that is not behind the one before ends
 * it, whatever was stored as one. */
static int scan_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct scan_next *s = arg;
    nq_scan *at = s->scan;
    (void)ncols;
    if (cols[0].type != NQ_VAL_TEXT && cols[0].type != NQ_VAL_BLOB)
        return 0;
    s->more = cols[0].type != at->type
                  ? cols[0].type == NQ_VAL_BLOB
                  : scan_behind(&cols[0], &at->queue, false) || scan_behind(&cols[0], &at->queue, true);
    if (!s->more)
        return 0;
    at->type = cols[0].type;
    nq_buf_clear(&at->queue);
    nq_buf_add(&at->queue, cols[0].p, cols[0].n);
    return at->queue.failed ? NQ_ENOMEM : 0;
}

NQ_PRIVATE nq_val nq_scan_queue(const nq_scan *at)
{
    return (nq_val){at->type, 0, at->queue.n ? at->queue.p : "", at->queue.n};
}

NQ_PRIVATE void nq_scan_start(nq_scan *at)
{
    nq_buf_clear(&at->queue);
    at->type = NQ_VAL_TEXT;
    at->more = false;
}

NQ_PRIVATE int nq_scan_next(nq_conn *c, nq_scan *at, const char *sql, bool once, bool *more, nq_err *err)
{
    struct scan_next s = {at, false};
    const nq_val arg = nq_scan_queue(at);
    const int rc = once ? nq_sql_once(c, sql, &arg, 1, scan_row, &s, err)
                        : nq_sql(c, sql, &arg, 1, scan_row, &s, NULL, err);
    *more = rc == NQ_OK && s.more;
    return rc;
}
