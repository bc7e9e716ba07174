/* SPDX-License-Identifier: MIT */
/* A clock that stands, for tests. */
#include "api.h"

NQ_API int nq_test_clock(nq *q, int64_t us, nq_err *err)
{
    const int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (us != 0 && (us < NQ_SECONDS(INT64_C(1000000000)) || us > INT64_C(253402300799999999)))
        return nq_err_set(err, NQ_EINVAL,
                          "the time is %lld us; allowed are 0 and times from 2001-09-09 to 9999",
                          (long long)us);
    nq_store_set_clock(nq_store_of(q), us);
    return NQ_OK;
}
