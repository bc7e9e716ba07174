/* SPDX-License-Identifier: MIT */
/* The settings of queues: reading the rows that anybody may have written, and looking up what holds. */
#include "store.h"

/*
 * What is heeded of a row: a value that the setting cannot have counts as not set, whichever check let it
 * pass; a name that no queue or group can have leaves its row out. Numbers above a bound are that bound.
 */
#define SETTINGS_MAX_RUNNING INT32_MAX
#define SETTINGS_MAX_BURST   1000000
#define SETTINGS_MAX_WEIGHT  1000
#define SETTINGS_MAX_WHY     255
/* With more rows than this a fingerprint is taken first, and the rows are read when it has changed. */
#define SETTINGS_FEW 500

static const char settings_sql[] =
    "SELECT name, {bytes:type}, paused_at IS NOT NULL, {us:paused_at}, {bytes:paused_why}, "
    "max_running, "
    "rate, rate_us, burst, weight, ordered, {bytes:dead_to}, keep_done_us, keep_dead_us, "
    "{us:changed_at} FROM {queues} ORDER BY name "
    "LIMIT 10001";
enum settings_at {
    SETTINGS_NAME,
    SETTINGS_TYPE,
    SETTINGS_PAUSED,
    SETTINGS_PAUSED_AT,
    SETTINGS_WHY,
    SETTINGS_RUNNING,
    SETTINGS_RATE,
    SETTINGS_RATE_US,
    SETTINGS_BURST,
    SETTINGS_WEIGHT,
    SETTINGS_ORDERED,
    SETTINGS_DEAD_TO,
    SETTINGS_KEEP_DONE,
    SETTINGS_KEEP_DEAD,
    SETTINGS_CHANGED,
    SETTINGS_COUNT
};

struct settings_reading {
    nq_settings *s;
    size_t cap;
};

/* ---- One row ---- */

static bool settings_is_text(const nq_val *v)
{
    return v->type == NQ_VAL_TEXT || v->type == NQ_VAL_BLOB;
}

NQ_PRIVATE bool nq_setting_named(const char *name, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-";
    char text[NQ_MAX_QUEUE + 1];
    if (n == 0 || n > NQ_MAX_QUEUE)
        return false;
    memcpy(text, name, n);
    text[n] = '\0';
    if (strlen(text) != n)
        return false;
    const size_t base = nq_queue_base(text);
    const size_t plain = base < n && strcmp(text + base, "//*") == 0 ? base : n;
    return strspn(text, allowed) >= plain && (base == n || base + 2 < n);
}

/* A number from 1 up, at most `most`; 0: not set. */
static int64_t settings_number(const nq_val *v, int64_t most)
{
    return v->type != NQ_VAL_INT || v->i < 1 ? 0 : v->i < most ? v->i : most;
}

/* Of how long tasks are kept too much is for ever, not ten years: nothing is deleted by a mistake. */
static int64_t settings_keep(const nq_val *v)
{
    if (v->type != NQ_VAL_INT || v->i < -1)
        return 0;
    return v->i == 0 ? NQ_ZERO : v->i == -1 || v->i > NQ_MAX_DURATION ? NQ_FOREVER : v->i;
}

/* NULL where there is none, or (*failed) no memory. */
static char *settings_text(const nq_val *v, size_t most, bool *failed)
{
    if (!settings_is_text(v) || v->n == 0)
        return NULL;
    const size_t n = v->n < most ? v->n : most;
    char *copy = malloc(n + 1);
    if (!copy) {
        *failed = true;
        return NULL;
    }
    memcpy(copy, v->p, n);
    copy[n] = '\0';
    return copy;
}

static void settings_fill(nq_setting *to, const nq_val cols[], bool *failed)
{
    const nq_val *dead_to = &cols[SETTINGS_DEAD_TO], *type = &cols[SETTINGS_TYPE];
    memset(to, 0, sizeof *to);
    memcpy(to->name, cols[SETTINGS_NAME].p, cols[SETTINGS_NAME].n);
    to->paused = cols[SETTINGS_PAUSED].i != 0;
    to->paused_at_us = cols[SETTINGS_PAUSED_AT].type == NQ_VAL_INT ? cols[SETTINGS_PAUSED_AT].i : 0;
    to->why = settings_text(&cols[SETTINGS_WHY], SETTINGS_MAX_WHY, failed);
    if (type->n <= NQ_MAX_TYPE)
        to->type = settings_text(type, NQ_MAX_TYPE, failed);
    if (to->type && strlen(to->type) != type->n) {
        free(to->type);
        to->type = NULL;
    }
    to->max_running = settings_number(&cols[SETTINGS_RUNNING], SETTINGS_MAX_RUNNING);
    to->rate = settings_number(&cols[SETTINGS_RATE], INT32_MAX);
    to->rate_us = settings_number(&cols[SETTINGS_RATE_US], NQ_MAX_DURATION);
    if (to->rate == 0 || to->rate_us == 0)
        to->rate = to->rate_us = 0;
    to->burst = (int)settings_number(&cols[SETTINGS_BURST], SETTINGS_MAX_BURST);
    to->weight = (int)settings_number(&cols[SETTINGS_WEIGHT], SETTINGS_MAX_WEIGHT);
    to->ordered = -1;
    if (cols[SETTINGS_ORDERED].type == NQ_VAL_INT && cols[SETTINGS_ORDERED].i >= NQ_ORDERED_NO &&
        cols[SETTINGS_ORDERED].i <= NQ_ORDERED_HALT)
        to->ordered = (int)cols[SETTINGS_ORDERED].i;
    if (settings_is_text(dead_to) && nq_setting_named(dead_to->p, dead_to->n) &&
        !memchr(dead_to->p, '*', dead_to->n))
        memcpy(to->dead_to, dead_to->p, dead_to->n);
    to->keep_done_us = settings_keep(&cols[SETTINGS_KEEP_DONE]);
    to->keep_dead_us = settings_keep(&cols[SETTINGS_KEEP_DEAD]);
    to->changed_at_us = cols[SETTINGS_CHANGED].type == NQ_VAL_INT ? cols[SETTINGS_CHANGED].i : 0;
}

static void settings_free_row(nq_setting *row)
{
    free(row->type);
    free(row->why);
}

static int settings_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct settings_reading *r = arg;
    bool failed = false;
    (void)ncols;
    const nq_val *name = &cols[SETTINGS_NAME];
    /* bytes in a SQLite file are not the text of a queue's name, though they may look so */
    if (name->type != NQ_VAL_TEXT || !nq_setting_named(name->p, name->n) || r->s->n == NQ_SETTINGS_ROWS) {
        r->s->ignored++;
        return 0;
    }
    if (r->s->n == r->cap) {
        nq_settings *more = realloc(r->s, sizeof *more + 2 * (r->cap + 8) * sizeof more->rows[0]);
        if (!more)
            return NQ_ENOMEM;
        r->s = more;
        r->cap = 2 * (r->cap + 8);
    }
    nq_setting *to = &r->s->rows[r->s->n++];
    settings_fill(to, cols, &failed);
    r->s->misled += cols[SETTINGS_DEAD_TO].type != NQ_VAL_NULL && !to->dead_to[0];
    r->s->types += to->type ? 1 : 0;
    r->s->keeps = r->s->keeps || to->keep_done_us || to->keep_dead_us;
    return failed ? NQ_ENOMEM : 0;
}

/* ---- The hash ---- */

static void settings_mix(uint64_t *h, const void *p, size_t n)
{
    for (const unsigned char *at = p; n > 0; n--, at++)
        *h = (*h ^ *at) * 1099511628211u;
}

static void settings_mix_number(uint64_t *h, int64_t v)
{
    for (int shift = 0; shift < 64; shift += 8) /* the same on hosts of either byte order */
        settings_mix(h, &(unsigned char){(unsigned char)((uint64_t)v >> shift)}, 1);
}

/* Libraries of different versions compare it: a setting that is added later is mixed in only where it is
 * set. Why and when something was paused changes nothing that a worker does. */
static uint64_t settings_hash(const nq_settings *s)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s->n; i++) {
        const nq_setting *row = &s->rows[i];
        const int64_t numbers[] = {row->paused, row->max_running, row->rate,   row->rate_us,
                                   row->burst,  row->weight,      row->ordered};
        settings_mix(&h, row->name, strlen(row->name) + 1);
        settings_mix(&h, row->dead_to, strlen(row->dead_to) + 1);
        settings_mix(&h, row->type ? row->type : "", row->type ? strlen(row->type) + 1 : 1);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            settings_mix_number(&h, numbers[k]);
        if (row->keep_done_us || row->keep_dead_us) {
            settings_mix(&h, "keep", 4);
            settings_mix_number(&h, row->keep_done_us);
            settings_mix_number(&h, row->keep_dead_us);
        }
    }
    h &= INT64_MAX; /* a signed column holds it */
    return h ? h : 1;
}

/* ---- Reading ---- */

static int settings_compare(const void *a, const void *b)
{
    return strcmp(((const nq_setting *)a)->name, ((const nq_setting *)b)->name);
}

static void settings_empty(nq_settings *s)
{
    for (size_t i = 0; i < s->n; i++)
        settings_free_row(&s->rows[i]);
    s->n = s->ignored = s->misled = s->types = 0;
    s->keeps = false;
}

static int settings_print_row(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    *(uint64_t *)arg = cols[0].type == NQ_VAL_INT ? (uint64_t)cols[0].i : 0;
    return 0;
}

struct settings_args {
    struct settings_reading reading;
    nq_settings *before; /* of which only the numbers are looked at */
    bool same;
};

static int settings_run(nq_conn *c, void *arg, nq_err *err)
{
    struct settings_args *a = arg;
    const bool many = a->before && a->before->n + a->before->ignored > SETTINGS_FEW;
    uint64_t print = 0;
    int rc = NQ_OK;
    if (many)
        rc = nq_sql(c, "SELECT {settings_print} FROM {queues}", NULL, 0, settings_print_row, &print, NULL,
                    err);
    if (rc != NQ_OK)
        return rc;
    rc = nq_holds_read(c, a->reading.s, err);
    if (rc != NQ_OK)
        return rc;
    a->same = print != 0 && print == a->before->print && a->before->nholds == 0 && a->reading.s->nholds == 0;
    if (a->same)
        return NQ_OK;
    settings_empty(a->reading.s); /* it may be the second try */
    a->reading.s->print = print;
    return nq_sql(c, settings_sql, NULL, 0, settings_row, &a->reading, NULL, err);
}

/* ---- Those that the store keeps ---- */

static pthread_mutex_t settings_lock = PTHREAD_MUTEX_INITIALIZER; /* of every store's */

static bool settings_letters(const nq_settings *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->rows[i].dead_to[0])
            return true;
    return false;
}

NQ_PRIVATE void nq_settings_keep(nq_store *s, nq_settings *settings)
{
    nq_settings *const now = settings && settings_letters(settings) ? settings : NULL;
    if (now)
        nq_settings_ref(now);
    pthread_mutex_lock(&settings_lock);
    nq_settings *const before = s->letters;
    s->letters = now;
    atomic_store(&s->letters_are, now ? NQ_LETTERS_SOME : settings ? NQ_LETTERS_NONE : NQ_LETTERS_UNKNOWN);
    pthread_mutex_unlock(&settings_lock);
    nq_settings_unref(before);
}

NQ_PRIVATE nq_settings *nq_settings_kept(nq_store *s)
{
    pthread_mutex_lock(&settings_lock);
    nq_settings *const settings = s->letters;
    if (settings)
        nq_settings_ref(settings);
    pthread_mutex_unlock(&settings_lock);
    return settings;
}

/* the database's order need not be ours: SQLite has names of any type */
static void settings_end(nq_store *s, nq_settings *got)
{
    qsort(got->rows, got->n, sizeof got->rows[0], settings_compare);
    got->hash = settings_hash(got);
    nq_settings_keep(s, got);
}

NQ_PRIVATE int nq_settings_read_in(nq_conn *c, nq_err *err)
{
    struct settings_args a = {.before = NULL};
    if (!(a.reading.s = calloc(1, sizeof *a.reading.s)))
        return nq_err_nomem(err);
    const int rc = settings_run(c, &a, err);
    atomic_init(&a.reading.s->refs, 1);
    if (rc == NQ_OK)
        settings_end(c->store, a.reading.s);
    nq_settings_unref(a.reading.s);
    return rc;
}

NQ_PRIVATE int nq_settings_read(nq_settings **out, nq_store *s, nq_settings *before, nq_err *err)
{
    struct settings_args a = {.before = before};
    if (!(a.reading.s = calloc(1, sizeof *a.reading.s)))
        return nq_err_nomem(err);
    const int rc = nq_store_do(s, settings_run, &a, err);
    nq_settings *got = a.reading.s;
    atomic_init(&got->refs, 1);
    if (rc == NQ_OK && !a.same) {
        settings_end(s, got);
        *out = got;
        return NQ_OK;
    }
    if (rc == NQ_OK) {
        nq_settings_ref(before);
        *out = before;
    }
    nq_settings_unref(got);
    return rc;
}

NQ_PRIVATE void nq_settings_ref(nq_settings *s)
{
    atomic_fetch_add(&s->refs, 1);
}

NQ_PRIVATE void nq_settings_unref(nq_settings *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    settings_empty(s);
    free(s->holds);
    free(s);
}

/* ---- Looking up ---- */

/* The first row whose name is not before this one. */
static size_t settings_from(const nq_settings *s, const char *name)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (strcmp(s->rows[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

NQ_PRIVATE const nq_setting *nq_settings_find(const nq_settings *s, const char *name)
{
    const size_t at = settings_from(s, name);
    return at < s->n && strcmp(s->rows[at].name, name) == 0 ? &s->rows[at] : NULL;
}

/* The row of the queue's name with this behind it. */
static const nq_setting *settings_find_behind(const nq_settings *s, const char *name, const char *behind)
{
    char full[NQ_MAX_QUEUE + 8];
    const size_t base = nq_queue_base(name);
    if (base > NQ_MAX_QUEUE)
        return NULL;
    memcpy(full, name, base);
    memcpy(full + base, behind, strlen(behind) + 1);
    return nq_settings_find(s, full);
}

NQ_PRIVATE const nq_setting *nq_settings_group_each(const nq_settings *s, const char *queue)
{
    return settings_find_behind(s, queue, "//*");
}

NQ_PRIVATE bool nq_settings_group(const nq_settings *s, const char *name, nq_setting *out)
{
    if (s->n == 0 || name[nq_queue_base(name)] == '\0')
        return false;
    const nq_setting *own = nq_settings_find(s, name), *each = settings_find_behind(s, name, "//*");
    if (!own && !each)
        return false;
    *out = own ? *own : *each;
    if (!own || !each || own == each)
        return true;
    if (!own->paused && each->paused) {
        out->paused = true;
        out->paused_at_us = each->paused_at_us;
        out->why = each->why;
    }
    out->max_running = own->max_running ? own->max_running : each->max_running;
    out->rate = own->rate ? own->rate : each->rate;
    out->rate_us = own->rate ? own->rate_us : each->rate_us;
    out->burst = own->burst ? own->burst : each->burst;
    out->weight = own->weight ? own->weight : each->weight;
    out->ordered = own->ordered >= 0 ? own->ordered : each->ordered;
    if (!own->dead_to[0])
        memcpy(out->dead_to, each->dead_to, sizeof out->dead_to);
    return true;
}

NQ_PRIVATE bool nq_settings_dead_to(const nq_settings *s, const char *name, char to[NQ_MAX_QUEUE + 1])
{
    nq_setting group;
    const nq_setting *queue =
        nq_settings_group(s, name, &group) && group.dead_to[0] ? &group : settings_find_behind(s, name, "");
    if (queue)
        memcpy(to, queue->dead_to, sizeof queue->dead_to);
    return queue && to[0];
}

NQ_PRIVATE const nq_setting *nq_settings_paused(const nq_settings *s, const char *name)
{
    if (s->n == 0)
        return NULL;
    const nq_setting *row = nq_settings_find(s, name);
    if (row && row->paused)
        return row;
    if (name[nq_queue_base(name)] == '\0')
        return NULL;
    row = settings_find_behind(s, name, "//*");
    if (!row || !row->paused)
        row = settings_find_behind(s, name, "");
    return row && row->paused ? row : NULL;
}

NQ_PRIVATE const nq_setting *nq_settings_groups(const nq_settings *s, const char *queue, size_t *n)
{
    char first[NQ_MAX_QUEUE + 8];
    const size_t size = strlen(queue);
    *n = 0;
    if (size == 0 || size > NQ_MAX_QUEUE)
        return NULL;
    memcpy(first, queue, size);
    memcpy(first + size, "//", 3);
    const size_t at = settings_from(s, first);
    while (at + *n < s->n && strncmp(s->rows[at + *n].name, first, size + 2) == 0)
        ++*n;
    return *n ? &s->rows[at] : NULL;
}

/* A row that sets tasks of its type apart: where nothing holds for them, they may stay where they are. */
static bool settings_apart(const nq_setting *row)
{
    return row->type && nq_group_is_type(row->name) &&
           (row->paused || row->max_running || row->rate || row->weight || row->ordered > NQ_ORDERED_NO ||
            row->dead_to[0] || row->keep_done_us || row->keep_dead_us);
}

NQ_PRIVATE size_t nq_settings_types(const nq_settings *s, const char *queue, const nq_setting *rows[],
                                    size_t most)
{
    size_t n, found = 0;
    const size_t base = nq_queue_base(queue);
    char name[NQ_MAX_QUEUE + 1];
    if (s->types == 0 || base > NQ_MAX_QUEUE)
        return 0;
    memcpy(name, queue, base);
    name[base] = '\0';
    const nq_setting *all = nq_settings_groups(s, name, &n);
    for (size_t i = 0; i < n && found < most; i++)
        if (settings_apart(&all[i]))
            rows[found++] = &all[i];
    return found;
}

NQ_PRIVATE const nq_setting *nq_settings_type(const nq_settings *s, const char *queue, const char *type)
{
    const nq_setting *rows[NQ_SETTINGS_TYPES];
    const size_t n = nq_settings_types(s, queue, rows, NQ_SETTINGS_TYPES);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i]->type, type) == 0)
            return rows[i];
    return NULL;
}
