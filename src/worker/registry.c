/* SPDX-License-Identifier: MIT */
/* Handlers by type, and middleware. */
#include "isolate/isolate.h"

NQ_PRIVATE struct nq_handler_entry *nq_handler_find(const nq_worker *w, const char *type)
{
    for (size_t i = 0; i < w->nhandlers; i++) {
        const char *t = w->handlers[i].type;
        if (t == type || (t && type && strcmp(t, type) == 0))
            return &w->handlers[i];
    }
    return NULL;
}

NQ_PRIVATE int nq_worker_may_register(const nq_worker *w, nq_err *err)
{
    if (!w)
        return nq_err_set(err, NQ_EINVAL, "the worker is NULL");
    if (w->zygote)
        return nq_err_set(
            err, NQ_EINVAL,
            "nq_worker_fork was called: what is registered now would be unknown to the children");
    if (atomic_load(&w->started))
        return nq_err_set(err, NQ_EINVAL, "handlers and middleware are registered before nq_worker_run");
    return nq_usable(w->q, err);
}

static int registry_middleware(struct nq_handler_entry *r, const nq_handle_options *o, nq_err *err)
{
    if (o->nmiddleware == 0)
        return NQ_OK;
    for (size_t i = 0; i < o->nmiddleware; i++)
        if (!o->middleware || !o->middleware[i].fn)
            return nq_err_set(err, NQ_EINVAL, "middleware[%zu] is NULL", i);
    r->middleware = calloc(o->nmiddleware, sizeof *r->middleware);
    if (!r->middleware)
        return nq_err_nomem(err);
    memcpy(r->middleware, o->middleware, o->nmiddleware * sizeof *r->middleware);
    r->nmiddleware = o->nmiddleware;
    return NQ_OK;
}

/* r: what there is to be called, and how. */
static int registry_add(nq_worker *w, const char *type, struct nq_handler_entry r, nq_handle_options o,
                        nq_err *err)
{
    nq_isolation_options iso;
    struct nq_handler_entry *grown;
    int rc;
    if (!r.fn && !r.many)
        return nq_err_set(err, NQ_EINVAL, "the handler is NULL");
    if (type && (rc = nq_check_type(type, err)) != NQ_OK)
        return rc;
    if (nq_handler_find(w, type))
        return type ? nq_err_set(err, NQ_EINVAL, "type '%s' has a handler already", type)
                    : nq_err_set(err, NQ_EINVAL, "there is a handler of every other type already");
    const int crashes = (int)nq_option(o.max_crashes, w->opts.max_crashes);
    if (crashes < 0)
        return nq_err_set(err, NQ_EINVAL, "max_crashes is %d; allowed are NQ_ZERO (none) and 1 and more",
                          crashes);
    r.max_crashes = (unsigned)crashes;
    r.retry_policy = o.retry_policy ? o.retry_policy : w->opts.retry_policy;
    r.retry_udata = o.retry_policy ? o.retry_udata : w->opts.retry_udata;
    if ((rc = nq_options_copy(&iso, sizeof iso, o.isolation, "nq_isolation_options", err)) != NQ_OK)
        return rc;
    r.isolated = iso.kind == NQ_PROCESS;
    if ((rc = nq_limits_read(&r.limits, &iso, err)) != NQ_OK ||
        (rc = registry_middleware(&r, &o, err)) != NQ_OK)
        goto out;
    if (type && !(r.type = strdup(type)))
        goto nomem;
    grown = nq_grow(w->handlers, w->nhandlers, &w->handlers_cap, sizeof *grown);
    if (!grown)
        goto nomem;
    w->handlers = grown;
    w->handlers[w->nhandlers++] = r;
    return NQ_OK;
nomem:
    rc = nq_err_nomem(err);
out:
    free(r.type);
    free(r.middleware);
    nq_limits_free(&r.limits);
    return rc;
}

int nq_worker_handle(nq_worker *w, const char *type, nq_handler_fn handler, void *udata,
                     const nq_handle_options *opts, nq_err *err)
{
    const struct nq_handler_entry r = {.fn = handler, .udata = udata};
    nq_handle_options o;
    int rc = nq_worker_may_register(w, err);
    if (rc == NQ_OK)
        rc = nq_options_copy(&o, sizeof o, opts, "nq_handle_options", err);
    return rc == NQ_OK ? registry_add(w, type, r, o, err) : rc;
}

int nq_worker_handle_many(nq_worker *w, const char *type, nq_many_fn handler, void *udata,
                          const nq_many_options *opts, nq_err *err)
{
    struct nq_handler_entry r = {.many = handler, .udata = udata};
    nq_many_options m;
    int rc = nq_worker_may_register(w, err);
    if (rc == NQ_OK)
        rc = nq_options_copy(&m, sizeof m, opts, "nq_many_options", err);
    if (rc != NQ_OK)
        return rc;
    r.most = m.max ? m.max : NQ_DEFAULT_MANY;
    r.wait_us = m.wait_us;
    r.by_group = m.by_group;
    if (r.most > NQ_MAX_MANY)
        return nq_err_set(err, NQ_EINVAL, "max is %u tasks a call; allowed are 1 to %d", m.max, NQ_MAX_MANY);
    if (r.wait_us < 0 || r.wait_us > NQ_HOLD_MAX_US)
        return nq_err_set(err, NQ_EINVAL, "wait_us is %lld; allowed are 0 to 1000000, a second",
                          (long long)r.wait_us);
    const nq_handle_options o = {.size = sizeof o,
                                 .max_crashes = m.max_crashes,
                                 .retry_policy = m.retry_policy,
                                 .retry_udata = m.retry_udata};
    return registry_add(w, type, r, o, err);
}

int nq_worker_use(nq_worker *w, nq_middleware_fn middleware, void *udata, nq_err *err)
{
    int rc = nq_worker_may_register(w, err);
    if (rc != NQ_OK)
        return rc;
    if (!middleware)
        return nq_err_set(err, NQ_EINVAL, "the middleware is NULL");
    nq_middleware *grown = nq_grow(w->middleware, w->nmiddleware, &w->middleware_cap, sizeof *grown);
    if (!grown)
        return nq_err_nomem(err);
    w->middleware = grown;
    w->middleware[w->nmiddleware].fn = middleware;
    w->middleware[w->nmiddleware++].udata = udata;
    return NQ_OK;
}
