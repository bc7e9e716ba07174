/* SPDX-License-Identifier: MIT */
/* Who enqueues a few tasks, waits for them by nq_wait, and notes what it is told and when. */
#include "load.h"

#define WAIT_MOST 5

struct wait_run {
    nq *q;
    int64_t n; /* keys so far */
    nq_id ids[WAIT_MOST];
    size_t nids;
};

/* The answer of an enqueue that is not known leaves no id to wait for. */
static void wait_enqueue(struct wait_run *w)
{
    const char *modes = load_text("modes", "ddddrsx");
    struct load_task t = {.mode = modes[load_random(strlen(modes))]};
    size_t size = 0;
    nq_id id = 0;
    nq_err err = {0};
    snprintf(t.key, sizeof t.key, "w%ld-%lld", (long)getpid(), (long long)w->n++);
    t.work_ms = (int)load_random((uint64_t)load_number("work_ms", 15) + 1);
    t.delay_ms = (int)load_random(300);
    t.fill = (size_t)load_random(50);
    void *payload = load_payload(&t, &size);
    load_note("INVOKE", "key=%s op=own delay=0", t.key);
    const int rc = nq_enqueue(w->q, NQ_OWN_TX,
                              NQ_TASK(.type = "fault", .payload = payload, .payload_size = size,
                                      .max_retries = 20, .keep_us = NQ_HOURS(1)),
                              &id, &err);
    load_note(rc == NQ_OK         ? "OK"
              : rc == NQ_EUNKNOWN ? "UNKNOWN"
                                  : "FAIL",
              "key=%s id=%lld code=%d db=%d %.300s", t.key, (long long)id, rc, rc ? err.db_code : 0,
              rc ? err.message : "");
    free(payload);
    if (rc == NQ_OK)
        w->ids[w->nids++] = id;
}

/* Which run's result it is, and whether every byte is right. */
static int wait_see(const nq_info *info, void *udata)
{
    struct load_task t = {.mode = 0};
    const int good = !info->result || load_parse(info->result, info->result_size, &t);
    (void)udata;
    load_note("SAW", "id=%lld state=%d gen=%u result=%d good=%d of=%s", (long long)info->id, info->state,
              info->generation, info->result ? 1 : 0, good, good && info->result ? t.key : "-");
    return 0;
}

static void wait_once(struct wait_run *w)
{
    static const int64_t timeouts[] = {NQ_MS(1), NQ_MS(300), NQ_SECONDS(2), NQ_SECONDS(5), NQ_SECONDS(20)};
    const int64_t timeout = timeouts[load_random(sizeof timeouts / sizeof *timeouts)];
    const int any = load_random(3) == 0;
    char list[WAIT_MOST * 24] = "";
    nq_err err = {0};
    w->nids = 0;
    for (size_t n = 1 + (size_t)load_random(WAIT_MOST); n > 0; n--)
        wait_enqueue(w);
    if (w->nids == 0) {
        load_sleep(NQ_MS(50));
        return;
    }
    for (size_t i = 0; i < w->nids; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%lld", i ? "," : "i",
                 (long long)w->ids[i]);
    load_note("WAIT", "any=%d timeout=%lld ids=%s", any, (long long)timeout, list);
    const int64_t start = load_mono();
    const int rc =
        nq_wait(w->q, w->ids, w->nids, any ? NQ_WAIT_ANY : NQ_WAIT_ALL, timeout, wait_see, NULL, &err);
    load_note("WAITED", "code=%s took=%lld away=%d %.300s", nq_code_name(rc),
              (long long)(load_mono() - start), rc == NQ_ETIMEOUT && strchr(err.message, ';') ? 1 : 0,
              rc ? err.message : "");
}

int load_wait(void)
{
    struct wait_run w = {.q = load_open()};
    signal(SIGTERM, load_on_term);
    while (!load_stop)
        wait_once(&w);
    nq_close(w.q);
    load_note("EXIT", "role=wait keys=%lld", (long long)w.n);
    return 0;
}
