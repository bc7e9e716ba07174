/* SPDX-License-Identifier: MIT */
/* How many tasks a filter means. */
#include "api.h"

#define COUNT_MOST 1000000

static int count_check(const nq_count_options *o, const nq_counted *out, nq_err *err)
{
    if (!out)
        return nq_err_set(err, NQ_EINVAL, "there is no place for the count");
    if (out->size < sizeof *out)
        return nq_err_set(err, NQ_EINVAL, "nq_counted.size is %zu: set it to sizeof(nq_counted)", out->size);
    if (o->most > COUNT_MOST)
        return nq_err_set(err, NQ_EINVAL, "most is %llu, must be at most %d", (unsigned long long)o->most,
                          COUNT_MOST);
    if (o->exact && o->most)
        return nq_err_set(err, NQ_EINVAL,
                          "most is given for an exact count, which has no end before the last task");
    return NQ_OK;
}

/* What was not counted soon is counted to the end, a range of ids after the other. */
static int count_exactly(nq *q, nq_where *w, const nq_count_options *o, nq_counted *out, nq_err *err)
{
    bool end = false;
    nq_counted k = {.size = sizeof k};
    int rc = nq_store_last_id(nq_store_of(q), &k.last, err);
    while (rc == NQ_OK && !end) {
        rc = nq_store_count_on(nq_store_of(q), w, &k, &end, err);
        if (rc == NQ_OK && !end && o->progress && o->progress(&k, o->udata)) {
            k.more = true;
            break;
        }
    }
    if (rc == NQ_OK)
        *out = k;
    return rc;
}

NQ_API int nq_count(nq *q, const nq_filter *filter, const nq_count_options *opts, nq_counted *out,
                    nq_err *err)
{
    nq_count_options o;
    nq_where w;
    nq_counted k = {.size = sizeof k};
    int rc;
    if ((rc = nq_usable(q, err)) < 0 ||
        (rc = nq_options_copy(&o, sizeof o, opts, "nq_count_options", err)) < 0 ||
        (rc = count_check(&o, out, err)) < 0 || (rc = nq_where_init(&w, filter, true, err)) < 0)
        return rc;
    rc = nq_ready(q, err);
    if (rc == NQ_OK)
        rc = nq_store_count(nq_store_of(q), &w, o.most ? o.most : NQ_DEFAULT_COUNT, o.look, &k, err);
    if (rc == NQ_OK && o.exact && k.more)
        rc = count_exactly(q, &w, &o, &k, err);
    nq_where_free(&w);
    if (rc == NQ_OK) {
        k.size = out->size;
        *out = k;
    }
    return rc;
}
