/* SPDX-License-Identifier: MIT */
/* Bulk jobs: one action for many tasks. */
#include "dash.h"

int api_bulk(struct dash_request *r, nq_err *err)
{
    (void)err;
    out_open(out_key(&r->out, "jobs"), '[');
    out_close(&r->out, ']');
    return NQ_OK;
}

int api_bulk_start(struct dash_request *r, nq_err *err)
{
    (void)r;
    *err = (nq_err){.code = NQ_EUNSUPPORTED, .message = "bulk jobs are not to be had in this version"};
    return NQ_EUNSUPPORTED;
}

int api_bulk_stop(struct dash_request *r, nq_err *err)
{
    (void)r;
    *err = (nq_err){.code = NQ_ENOTFOUND, .message = "there is no such job"};
    return NQ_ENOTFOUND;
}
