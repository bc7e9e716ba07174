/* SPDX-License-Identifier: MIT */
/* The settings of queues as this worker knows them: read by its duties, looked at by all its threads. */
#include "worker.h"

NQ_PRIVATE nq_settings *nq_worker_settings(nq_worker *w)
{
    pthread_mutex_lock(&w->lock);
    nq_settings *s = w->settings;
    if (s)
        nq_settings_ref(s);
    pthread_mutex_unlock(&w->lock);
    return s;
}

/* With the lock held. */
static void settings_apply(nq_worker *w)
{
    /* The first reading is what the fetchers wait for. */
    pthread_cond_signal(&w->fetch_cond);
}

NQ_PRIVATE int nq_worker_read_settings(nq_worker *w, nq_err *err)
{
    /* Only this thread changes it. */
    nq_settings *const before = w->settings;
    nq_settings *now = NULL;
    const int rc = nq_settings_read(&now, w->store, before, err);
    if (rc != NQ_OK)
        return rc;
    if (now->ignored > 0 && (!before || before->ignored != now->ignored))
        nq_worker_log(
            w, NQ_LOG_WARN,
            "%zu rows of settings of queues are not heeded: their names are no queue's, or there are "
            "more than %d",
            now->ignored, NQ_SETTINGS_ROWS);
    pthread_mutex_lock(&w->lock);
    w->settings = now;
    if (!before || before->hash != now->hash)
        settings_apply(w);
    pthread_mutex_unlock(&w->lock);
    nq_settings_unref(before);
    return NQ_OK;
}

NQ_PRIVATE void nq_settings_wake(void *arg)
{
    nq_worker *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!(w->wanted & NQ_WANTED_SETTINGS)) {
        w->wanted |= NQ_WANTED_SETTINGS;
        pthread_cond_signal(&w->duties_cond);
    }
    pthread_mutex_unlock(&w->lock);
}
