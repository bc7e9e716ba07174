/* SPDX-License-Identifier: MIT */
/* nq_doctor: the checks of the store, told one by one. */
#include "api.h"

NQ_API const char *nq_check_level_name(int level)
{
    static const char *const names[] = {"ok", "warning", "error", "unknown", "not applicable"};
    return level >= 0 && level < (int)(sizeof names / sizeof *names) ? names[level] : NULL;
}

NQ_API int nq_doctor(nq *q, nq_check_fn fn, void *udata, nq_err *err)
{
    int rc = nq_usable(q, err);
    if (rc != NQ_OK)
        return rc;
    if (!fn)
        return nq_err_set(err, NQ_EINVAL, "no function to tell the checks to was given");
    nq_checks *k = calloc(1, sizeof *k);
    if (!k)
        return nq_err_nomem(err);
    rc = nq_store_checks(nq_store_of(q), k, err);
    for (unsigned i = 0; rc == NQ_OK && i < NQ_CHECKS; i++) {
        const nq_found *f = &k->found[i];
        const nq_check check = {.number = i + 1,
                                .name = nq_checks_name(i + 1),
                                .level = f->level,
                                .found = f->text,
                                .todo = f->todo ? f->todo : ""};
        if (fn(&check, udata))
            break;
    }
    nq_checks_free(k);
    free(k);
    return rc;
}
