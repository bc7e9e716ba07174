/* SPDX-License-Identifier: MIT */
/* Finding tasks by filters, against a plain reading of the same filters in C. */
#include "search.h"

enum { SEARCH_ROUNDS = 150, SEARCH_MOST = 4 };

/* ---- Tasks of all kinds ---- */

struct search_bytes {
    const char *p;
    size_t n;
};
#define SEARCH_BYTES(text)                                                                                   \
    {                                                                                                        \
        text, sizeof(text) - 1                                                                               \
    }

static const char *const search_queues[] = {"mail", "main", "m", "x.y"};
static const char *const search_groups[] = {NULL, NULL, "42", "4", "a b%_\\"};
static const char *const search_types[] = {"mail.send", "mail.receive", "mail",        "Mail", "m%il",
                                           "m_il",      "x'\"\\",       "m\xc3\xa4il", "mail*"};
static const struct search_bytes search_errors[] = {{NULL, 0},
                                                    SEARCH_BYTES("HTTP 502"),
                                                    SEARCH_BYTES("100% \\ _ '\""),
                                                    SEARCH_BYTES("bin\x01\xff\xfe"),
                                                    SEARCH_BYTES("http 502 ")};
static const struct search_bytes search_payloads[] = {
    SEARCH_BYTES(""), SEARCH_BYTES("{\"to\":1}"), SEARCH_BYTES("a\0b%_\\'"), SEARCH_BYTES("\xff\xfe\0\x80"),
    SEARCH_BYTES("A\0B lang")};
static const char *const search_tags[] = {"customer:42", "\xc3\xbc nice one", "100%"};
static const char *const search_langs[] = {NULL, "de", "100%_\\ '"};
static const char *const search_workers[] = {"web-1:10", "web-1:11", "web-2:10", "we%:1"};

#define SEARCH_OF(array)   (sizeof(array) / sizeof *(array))
#define SEARCH_PICK(array) (array)[t_rand(&search_seed) % SEARCH_OF(array)]
#define SEARCH_ONE_IN(n)   (t_rand(&search_seed) % (n) == 0)
#define SEARCH_START       INT64_C(1700000000000000)

struct search_task {
    nq_id id;
    int state;
    char queue[NQ_MAX_QUEUE + 1], headers[512];
    const char *base, *group, *type, *lang, *worker;
    struct search_bytes error, payload;
    const char *tags[3];
    size_t ntags;
    int64_t times[3]; /* by enum nq_filter_time */
};
static struct search_task search_all[SEARCH_N];

static void search_hex(char *out, struct search_bytes b)
{
    strcpy(out, b.p ? "X'" : "NULL");
    for (size_t i = 0; i < b.n; i++)
        sprintf(out + 2 + 2 * i, "%02x", (unsigned char)b.p[i]);
    if (b.p)
        strcat(out, "'");
}

static const char *search_time(char out[80], int64_t us)
{
    snprintf(out, 80, T_MYSQL ? "(TIMESTAMP'1970-01-01 00:00:00' + INTERVAL %lld MICROSECOND)" : "%lld",
             (long long)us);
    return out;
}

static void search_end(const struct search_task *t)
{
    char at[80];
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, "
          "timeout_ms, created_at, finished_at, type, payload, unique_key, error, headers) SELECT id, queue, "
          "%d, priority, "
          "run_at, generation, attempts, crashes, max_retries, timeout_ms, created_at, %s, type, payload, "
          "NULL, error, "
          "headers FROM nanoq_tasks WHERE id = %lld",
          t->state, search_time(at, t->times[NQ_BY_FINISHED]), (long long)t->id);
    t_sql("DELETE FROM nanoq_tasks WHERE id = %lld", (long long)t->id);
}

/* What the library enqueued becomes what it might be some time later. */
static void search_age(struct search_task *t)
{
    char created[80], run[80], error[64];
    search_hex(error, t->error);
    t_sql("UPDATE nanoq_tasks SET created_at = %s, run_at = %s, error = %s WHERE id = %lld",
          search_time(created, t->times[NQ_BY_CREATED]), search_time(run, t->times[NQ_BY_RUN_AT]), error,
          (long long)t->id);
    if (t->state == NQ_STATE_RUNNING) {
        const size_t w = t_rand(&search_seed) % SEARCH_OF(search_workers);
        t->worker = search_workers[w];
        t_sql("UPDATE nanoq_tasks SET state = 1, lease = %lld WHERE id = %lld",
              (long long)NQ_LEASE(w + 1, t->id), (long long)t->id);
    } else if (t->state != NQ_STATE_WAITING) {
        t->times[NQ_BY_FINISHED] = SEARCH_START + (int64_t)(t_rand(&search_seed) % 1000);
        search_end(t);
    }
}

static void search_fill(nq *q)
{
    static const int states[] = {0, 0, 0, 1, 2, 3, 3, 4};
    char at[80];
    search_time(at, SEARCH_START);
    for (size_t w = 0; w < SEARCH_OF(search_workers); w++)
        t_sql("INSERT INTO nanoq_workers (id, name, started_at, beat_at) VALUES (%zu, '%s', %s, %s)", w + 1,
              search_workers[w], at, at);
    search_one_goes(q);
    for (int i = 0; i < SEARCH_N; i++) {
        struct search_task *t = &search_all[i];
        nq_header lang = {"lang", NULL};
        *t = (struct search_task){.state = SEARCH_PICK(states),
                                  .base = SEARCH_PICK(search_queues),
                                  .group = SEARCH_PICK(search_groups),
                                  .type = SEARCH_PICK(search_types),
                                  .lang = SEARCH_PICK(search_langs),
                                  .error = SEARCH_PICK(search_errors),
                                  .payload = SEARCH_PICK(search_payloads)};
        lang.value = t->lang;
        for (size_t k = 0; k < SEARCH_OF(search_tags); k++)
            if (SEARCH_ONE_IN(3))
                t->tags[t->ntags++] = search_tags[k];
        for (int k = 0; k < 2; k++)
            t->times[k] = SEARCH_START + (int64_t)(t_rand(&search_seed) % 1000);
        t->id = T_ADD(q, .queue = t->base, .group = t->group, .type = t->type, .payload = t->payload.p,
                      .payload_size = t->payload.n, .unique = NQ_UNIQUE_NONE, .tags = t->tags,
                      .ntags = t->ntags, .headers = &lang, .nheaders = t->lang ? 1 : 0);
        char *queue = t_text(t_side(), "SELECT queue FROM nanoq_tasks WHERE id = %lld", (long long)t->id);
        strcpy(t->queue, queue);
        free(queue);
        char *headers = t_text(t_side(), "SELECT COALESCE(headers, '') FROM nanoq_tasks WHERE id = %lld",
                               (long long)t->id);
        strcpy(t->headers, headers);
        free(headers);
    }
    t_begin(t_side());
    for (int i = 0; i < SEARCH_N; i++)
        search_age(&search_all[i]);
    t_sql("COMMIT");
}

/* ---- The same in C ---- */

static bool search_begins(const char *text, const char *star)
{
    return strncmp(text, star, strlen(star) - 1) == 0;
}

static bool search_star(const char *text)
{
    return text[0] != '\0' && text[strlen(text) - 1] == '*';
}

static bool search_is(const char *text, const char *name)
{
    return search_star(name) ? search_begins(text, name) : strcmp(text, name) == 0;
}

static bool search_queue_is(const struct search_task *t, const nq_filter *f)
{
    bool is = f->nqueues == 0;
    for (size_t i = 0; i < f->nqueues; i++) {
        const size_t n = strlen(f->queues[i]);
        if (f->ngroups == 0)
            is = is || search_is(t->queue, f->queues[i]) ||
                 (strncmp(t->queue, f->queues[i], n) == 0 && strncmp(t->queue + n, "//", 2) == 0);
        for (size_t k = 0; k < f->ngroups; k++)
            is =
                is || (strcmp(t->base, f->queues[i]) == 0 && t->group && strcmp(t->group, f->groups[k]) == 0);
    }
    return is;
}

static bool search_has_tags(const struct search_task *t, const nq_filter *f)
{
    size_t has = 0;
    for (size_t i = 0; i < f->ntags; i++)
        for (size_t k = 0; k < t->ntags; k++)
            has += strcmp(f->tags[i], t->tags[k]) == 0;
    return has == f->ntags;
}

static bool search_text_is(const struct search_task *t, const nq_filter *f)
{
    const char *p = f->text;
    const size_t n = f->text_size ? f->text_size : p ? strlen(p) : 0;
    if (!p)
        return true;
    return memmem(t->payload.p, t->payload.n, p, n) || memmem(t->headers, strlen(t->headers), p, n);
}

static bool search_matches(const struct search_task *t, const nq_filter *f)
{
    bool type = f->ntypes == 0;
    const int64_t at = t->times[f->time];
    for (size_t i = 0; i < f->ntypes; i++)
        type = type || search_is(t->type, f->types[i]);
    if (!type || !search_queue_is(t, f) || !search_has_tags(t, f) || !search_text_is(t, f))
        return false;
    if (f->states && !(f->states & NQ_STATE_BIT(t->state)))
        return false;
    bool named = f->nids == 0;
    for (size_t i = 0; i < f->nids; i++)
        named = named || f->ids[i] == t->id;
    if (!named)
        return false;
    if (f->error && (!t->error.p || !memmem(t->error.p, t->error.n, f->error, strlen(f->error))))
        return false;
    if (f->worker && (!t->worker || !search_is(t->worker, f->worker)))
        return false;
    return (!f->since_us || (at && at >= f->since_us)) && (!f->until_us || (at && at < f->until_us));
}

/* ---- Filters ---- */

struct search_filter {
    nq_filter f;
    const char *queues[SEARCH_MOST], *groups[SEARCH_MOST], *types[SEARCH_MOST], *tags[SEARCH_MOST];
    nq_id ids[200];
};

static void search_filter_rest(struct search_filter *s)
{
    static const char *const errors[] = {"502", "%", "_", "\\", "'\"", "\xff", "HTTP 502", "ttp"};
    static const struct search_bytes texts[] = {
        SEARCH_BYTES("\0"),     SEARCH_BYTES("%"),    SEARCH_BYTES("\\"),
        SEARCH_BYTES("\xfe"),   SEARCH_BYTES("lang"), SEARCH_BYTES("_\\ '"),
        SEARCH_BYTES("\"to\""), SEARCH_BYTES("b"),    SEARCH_BYTES("\xff\xfe\0")};
    static const char *const workers[] = {"web-1:10", "web-1:*", "we%:1", "we%*", "*", "nobody"};
    nq_filter *f = &s->f;
    if (SEARCH_ONE_IN(2))
        f->states = (unsigned)(t_rand(&search_seed) % 32);
    if (SEARCH_ONE_IN(6))
        f->error = SEARCH_PICK(errors);
    if (SEARCH_ONE_IN(6)) {
        const struct search_bytes text = SEARCH_PICK(texts);
        f->text = text.p;
        f->text_size = text.n;
    }
    /* In no order, some twice, some of no task. */
    if (SEARCH_ONE_IN(5)) {
        f->ids = s->ids;
        f->nids = 1 + t_rand(&search_seed) % SEARCH_OF(s->ids);
        for (size_t i = 0; i < f->nids; i++)
            s->ids[i] = 1 + (nq_id)(t_rand(&search_seed) % (SEARCH_N + 9));
    }
    if (SEARCH_ONE_IN(10))
        f->worker = SEARCH_PICK(workers);
    if (SEARCH_ONE_IN(4)) {
        f->time = (int)(t_rand(&search_seed) % 3);
        if (SEARCH_ONE_IN(2))
            f->since_us = SEARCH_START + (int64_t)(t_rand(&search_seed) % 1000);
        if (SEARCH_ONE_IN(2))
            f->until_us = SEARCH_START + (int64_t)(t_rand(&search_seed) % 1000);
    }
}

static void search_filter_make(struct search_filter *s)
{
    static const char *const queues[] = {"mail",    "main",     "m",   "x.y", "m*",  "ma*",
                                         "mail//*", "mail//42", "x.*", "*",   "none"};
    static const char *const groups[] = {"42", "4", "a b%_\\", "none"};
    static const char *const types[] = {"mail",  "mail*", "m%il", "m*",   "m\xc3\xa4*", "*",
                                        "x'\"*", "M*",    "m%*",  "m_il", "none"};
    *s = (struct search_filter){.f = {.size = sizeof s->f}};
    nq_filter *f = &s->f;
    f->queues = s->queues;
    f->groups = s->groups;
    f->types = s->types;
    f->tags = s->tags;
    if (SEARCH_ONE_IN(3))
        for (f->nqueues = 0; f->nqueues < SEARCH_MOST && !(f->nqueues && SEARCH_ONE_IN(2)); f->nqueues++)
            s->queues[f->nqueues] = SEARCH_PICK(queues);
    bool plain = f->nqueues > 0;
    for (size_t i = 0; i < f->nqueues; i++)
        plain = plain && !search_star(s->queues[i]) && !strstr(s->queues[i], "//");
    if (plain && SEARCH_ONE_IN(2))
        for (f->ngroups = 0; f->ngroups < SEARCH_MOST && !(f->ngroups && SEARCH_ONE_IN(2)); f->ngroups++)
            s->groups[f->ngroups] = SEARCH_PICK(groups);
    if (SEARCH_ONE_IN(3))
        for (f->ntypes = 0; f->ntypes < SEARCH_MOST && !(f->ntypes && SEARCH_ONE_IN(2)); f->ntypes++)
            s->types[f->ntypes] = SEARCH_PICK(types);
    if (SEARCH_ONE_IN(4))
        for (f->ntags = 0; f->ntags < 2 && !(f->ntags && SEARCH_ONE_IN(2)); f->ntags++)
            s->tags[f->ntags] = SEARCH_PICK(search_tags);
    if (f->ntags == 2 && s->tags[0] == s->tags[1])
        f->ntags = 1;
    search_filter_rest(s);
}

/* ---- Comparing ---- */

/* As who changes many finds them. */
static void search_hits(nq *q, const nq_filter *f, int order, struct search_seen *all)
{
    nq_where w;
    nq_hit hits[50];
    nq_id after = 0;
    bool end = false;
    all->n = 0;
    T_OK(nq_where_init(&w, f, true, &t_last));
    while (!end) {
        size_t n = 0;
        T_OK(nq_store_find(nq_store_of(q), &w, order == NQ_NEWEST_FIRST, after, hits,
                           1 + t_rand(&search_seed) % SEARCH_OF(hits), &n, &after, &end, &t_last));
        for (size_t i = 0; i < n; i++) {
            const struct search_task *t = search_all;
            while (t->id != hits[i].id)
                t++;
            ck_assert_int_eq(t->state, hits[i].state);
            all->ids[all->n++] = hits[i].id;
        }
    }
    nq_where_free(&w);
}

static void search_show(const nq_filter *f)
{
    fprintf(stderr, "states %u", f->states);
    for (size_t i = 0; i < f->nqueues; i++)
        fprintf(stderr, " queue %s", f->queues[i]);
    for (size_t i = 0; i < f->ngroups; i++)
        fprintf(stderr, " group %s", f->groups[i]);
    for (size_t i = 0; i < f->ntypes; i++)
        fprintf(stderr, " type %s", f->types[i]);
    for (size_t i = 0; i < f->ntags; i++)
        fprintf(stderr, " tag %s", f->tags[i]);
    for (size_t i = 0; i < f->nids; i++)
        fprintf(stderr, " id %lld", (long long)f->ids[i]);
    fprintf(stderr, " error %s text %s (%zu) worker %s time %d since %lld until %lld\n",
            f->error ? f->error : "-", f->text ? (const char *)f->text : "-", f->text_size,
            f->worker ? f->worker : "-", f->time, (long long)f->since_us, (long long)f->until_us);
}

static void search_same(const struct search_seen *seen, const nq_filter *f, int order, const char *how)
{
    size_t n = 0;
    for (int i = 0; i < SEARCH_N; i++) {
        const struct search_task *t = &search_all[order == NQ_OLDEST_FIRST ? i : SEARCH_N - 1 - i];
        if (!search_matches(t, f))
            continue;
        if (n >= seen->n || seen->ids[n] != t->id)
            search_show(f);
        ck_assert_msg(n < seen->n && seen->ids[n] == t->id, "%s: task %lld is not at %zu of %zu", how,
                      (long long)t->id, n, seen->n);
        n++;
    }
    if (n != seen->n)
        search_show(f);
    ck_assert_msg(n == seen->n, "%s: %zu are found, %zu match", how, seen->n, n);
}

START_TEST(each_filter_finds_what_it_says)
{
    t_ids_in_a_row();
    nq *q = t_open();
    size_t most = 0;
    search_seed = t_seed();
    search_fill(q);
    for (int i = 0; i < SEARCH_ROUNDS; i++) {
        static struct search_seen seen;
        struct search_filter s;
        const int order = SEARCH_ONE_IN(2) ? NQ_OLDEST_FIRST : NQ_NEWEST_FIRST;
        search_filter_make(&s);
        search_pages(q, &s.f, order, false, &seen);
        search_same(&seen, &s.f, order, "forwards");
        search_pages(q, &s.f, order, true, &seen);
        search_same(&seen, &s.f, order, "backwards");
        search_hits(q, &s.f, order, &seen);
        search_same(&seen, &s.f, order, "hits");
        most = seen.n > most ? seen.n : most;
    }
    ck_assert_uint_gt(most, 20);
    nq_close(q);
}
END_TEST

Suite *suite_search(void)
{
    Suite *s = suite_create("search");
    TCase *c = t_case(s, "search", 60);
    tcase_add_test(c, each_filter_finds_what_it_says);
    return s;
}
