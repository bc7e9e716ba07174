/* SPDX-License-Identifier: MIT */
/* One queue's view of one claiming thread: which priorities have due tasks, and where to go on. */
#include "apart.h"

#define CLAIMER_LEVELS (NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 1)
/* How long levels and cursors may go without a fresh look: what was committed late, behind a cursor, and a
 * more urgent priority that came into use wait no longer than this. */
#define CLAIMER_FRESH_US NQ_MS(100)

struct claimer_level {
    nq_level known;
    int64_t cursor;  /* no waiting task that was there at the last look is due before it, */
    nq_id cursor_id; /* or just then with an id up to this */
};

struct nq_claimer {
    nq_store *store;
    char *queue;
    const char *const *types;
    size_t ntypes;
    struct claimer_level levels[CLAIMER_LEVELS];
    size_t nlevels;
    uint64_t bytes;     /* of the payloads of one claim */
    size_t most;        /* at a time, to find one that is refused; 0: as many as are wanted */
    bool stale;         /* look before the next claim */
    nq_id told;         /* or, once, claim this one if it is due (0: none), */
    bool hinted;        /* or, once, look and claim together, */
    int guess;          /* at the priority of the last task that was claimed, */
    int64_t guess_from; /* from where it was due */
    int64_t looked_us;  /* our clock at the last look */
    int64_t now_us;     /* and the database's */
    nq_groups *groups;
    nq_apart *apart;
    const nq_settings *settings; /* NULL: nothing is set */
    nq_exchange exchange;        /* where the queue is limited */
    nq_claimer_left left;
    bool thorough; /* see nq_claimer_thorough */
};

NQ_PRIVATE int nq_claimer_new(nq_claimer **out, nq_store *s, const char *queue, const char *const types[],
                              size_t ntypes, nq_err *err)
{
    nq_claimer *c = calloc(1, sizeof *c);
    if (!c || !(c->queue = strdup(queue))) {
        free(c);
        return nq_err_nomem(err);
    }
    c->store = s;
    c->types = types;
    c->ntypes = types ? ntypes : 0;
    c->stale = true;
    c->guess_from = INT64_MIN;
    c->bytes = NQ_DEFAULT_CLAIM_BYTES;
    int rc = nq_groups_new(&c->groups, s, queue, err);
    if (rc == NQ_OK)
        rc = nq_apart_new(&c->apart, s, queue, types, ntypes, err);
    if (rc == NQ_OK)
        *out = c;
    else
        nq_claimer_free(c);
    return rc;
}

NQ_PRIVATE void nq_claimer_heed(nq_claimer *c, const nq_settings *settings)
{
    c->settings = settings;
    nq_groups_heed(c->groups, settings);
    nq_apart_heed(c->apart, settings);
}

NQ_PRIVATE const nq_claimer_left *nq_claimer_last(const nq_claimer *c)
{
    return &c->left;
}

NQ_PRIVATE void nq_claimer_thorough(nq_claimer *c)
{
    c->thorough = true;
}

NQ_PRIVATE void nq_claimer_bytes(nq_claimer *c, size_t bytes)
{
    c->bytes = bytes;
}

NQ_PRIVATE void nq_claimer_free(nq_claimer *c)
{
    if (!c)
        return;
    nq_groups_free(c->groups);
    nq_apart_free(c->apart);
    free(c->queue);
    free(c);
}

/* ---- Looking ---- */

struct claimer_look {
    const char *queue;
    nq_level levels[CLAIMER_LEVELS];
    nq_look look;
};

static int claimer_levels(nq_conn *conn, void *arg, nq_err *err)
{
    struct claimer_look *l = arg;
    l->look.levels = l->levels;
    l->look.max = CLAIMER_LEVELS;
    return conn->store->driver->levels(conn, l->queue, &l->look, err);
}

static void claimer_looked(nq_claimer *c, const nq_look *look)
{
    for (size_t i = 0; i < look->n; i++)
        c->levels[i] = (struct claimer_level){look->levels[i], look->levels[i].first_run_at, 0};
    c->nlevels = look->n;
    c->now_us = look->now_us;
    c->looked_us = nq_mono_us();
    c->stale = false;
}

/* Read the levels anew. A cursor starts at the earliest task: that is the head, without the deleted entries
 * before it. */
static int claimer_look(nq_claimer *c, nq_err *err)
{
    struct claimer_look l = {.queue = c->queue};
    int rc = nq_store_do(c->store, claimer_levels, &l, err);
    if (rc == NQ_OK)
        claimer_looked(c, &l.look);
    if (rc == NQ_OK && l.look.strange) {
        rc = nq_bury_strange(c->store, c->queue, err);
        c->stale = true; /* there may be more of them */
    }
    return rc;
}

/* The database's clock by ours; only to decide whom to ask. */
static int64_t claimer_now(const nq_claimer *c)
{
    return c->now_us + (nq_mono_us() - c->looked_us);
}

/* ---- Claiming ---- */

struct claimer_batch {
    nq_claim_args args;
    nq_claimed *head, *tail;
    size_t n;
    nq_claimed *got; /* by the last claim */
    size_t ngot;
    nq_refused refused; /* of it */
    bool full;          /* of bytes */
    bool grouped;       /* groups had their turns */
    bool limited;       /* of a queue without groups, that is limited */
};

static int claimer_claim_one(nq_conn *conn, void *arg, nq_err *err)
{
    struct claimer_batch *b = arg;
    b->got = NULL;
    b->ngot = 0;
    b->refused = (nq_refused){0};
    if (b->args.exchange && !b->args.piggyback)
        return NQ_OK; /* the places are taken */
    const int rc = conn->store->driver->claim(conn, &b->args, &b->got, &b->ngot, err);
    /* Once: what piggybacked is recorded or in doubt, and a claim waits for no row, but a completion may.
     * Only what surely took no effect may do so again. */
    if (b->args.piggyback && (rc == NQ_ECONFLICT || b->args.piggyback->piggybacked != NQ_PIGGYBACKED_NO))
        b->args.piggyback = NULL;
    return rc;
}

static void claimer_append(struct claimer_batch *b)
{
    if (b->tail)
        b->tail->next = b->got;
    else
        b->head = b->got;
    for (nq_claimed *k = b->got; k; k = k->next) {
        b->tail = k;
        b->full = b->full || k->bytes >= b->args.bytes;
        b->args.bytes -= b->full ? 0 : k->bytes;
    }
    b->args.some = true;
    b->n += b->ngot;
}

/* One that is refused keeps all of its batch from being claimed: halve down to it, and bury it. What lacks
 * memory for a batch may have it for less. */
static int claimer_careful(nq_claimer *c, size_t limit, struct claimer_batch *b, nq_err *err)
{
    for (;;) {
        nq_err why = {0};
        b->args.limit = c->most && c->most < limit ? c->most : limit;
        int rc = nq_store_do(c->store, claimer_claim_one, b, &why);
        if (rc == NQ_OK) {
            c->most = b->refused.cut ? 2 * b->ngot : c->most > limit / 2 ? 0 : 2 * c->most;
            return NQ_OK;
        }
        if (b->refused.set) {
            if ((rc = nq_bury_waiting(c->store, b->refused.id, "cannot be claimed", why.message, err)) !=
                NQ_OK)
                return rc;
        } else if ((nq_row_refused(rc) || rc == NQ_ENOMEM) && b->args.limit > 1) {
            c->most = b->args.limit / 2;
        } else {
            if (err)
                *err = why;
            return rc;
        }
    }
}

/* The turn of a limited queue that has no groups, at this level; or none. */
static int claimer_limited(nq_claimer *c, const struct claimer_level *level, size_t wanted,
                           struct claimer_batch *b, nq_err *err)
{
    nq_turn *turns = NULL;
    const int rc =
        nq_groups_none(c->groups, level->known.priority, level->cursor, &turns, &b->args.nturns, err);
    if (rc != NQ_OK)
        return rc;
    turns->from_id = level->cursor_id;
    turns->most = wanted;
    b->args.turns = turns;
    b->args.gate = nq_groups_gate(c->groups);
    return NQ_OK;
}

/* How many the limit left of what was wanted. */
static size_t claimer_counted(nq_claimer *c, size_t wanted, struct claimer_batch *b)
{
    bool exchange;
    const size_t room = nq_groups_room(c->groups, &exchange);
    nq_groups_claimed(c->groups, b->got);
    c->left.counted = nq_groups_counted(c->groups);
    c->left.throttled = c->left.throttled || (c->left.counted && room < wanted);
    b->full = b->full || room < wanted;
    if (exchange)
        nq_exchange_counted(&c->exchange, c->settings, room, wanted);
    return room;
}

/* Take what is due at one priority. */
static int claimer_level(nq_claimer *c, struct claimer_level *level, size_t limit, struct claimer_batch *b,
                         nq_err *err)
{
    b->args.priority = level->known.priority;
    b->args.from_run_at = level->cursor;
    b->args.from_id = level->cursor_id;
    const size_t wanted = limit - b->n;
    int rc = b->limited ? claimer_limited(c, level, wanted, b, err) : NQ_OK;
    if (rc != NQ_OK || (b->limited && b->args.nturns == 0))
        return rc;
    if ((rc = claimer_careful(c, wanted, b, err)) != NQ_OK)
        return rc;
    const size_t room = b->limited ? claimer_counted(c, wanted, b) : SIZE_MAX;
    if (b->ngot < b->args.limit && b->ngot < room)
        c->stale = true; /* the end was reached: something earlier may have been committed meanwhile */
    /* What is left of this priority goes before the next one: also where memory was lacking for all of it. */
    b->full = b->full || b->refused.cut || (b->ngot == b->args.limit && b->args.limit < wanted);
    if (!b->got)
        return NQ_OK;
    claimer_append(b);
    level->cursor = b->tail->task.run_at_us;
    level->cursor_id = b->tail->task.id;
    c->stale = c->stale || level->cursor <= 0; /* a time that is none: others like it may be behind */
    c->guess = level->known.priority;
    c->guess_from = level->cursor;
    return NQ_OK;
}

/* The due priorities in turn until the limit is reached. */
static int claimer_levels_claim(nq_claimer *c, size_t limit, struct claimer_batch *b, nq_err *err)
{
    int rc = NQ_OK;
    for (size_t i = 0; i < c->nlevels && b->n < limit && !b->full && rc == NQ_OK; i++)
        if (c->levels[i].known.first_run_at <= claimer_now(c))
            rc = claimer_level(c, &c->levels[i], limit, b, err);
    return rc;
}

/* The first round may go by what is known; an empty one by a fresh look, so that "nothing" is true. fresh:
 * the look was just taken. */
static int claimer_rounds(nq_claimer *c, size_t limit, bool fresh, struct claimer_batch *b, nq_err *err)
{
    bool last;
    do {
        last = fresh || c->stale || nq_mono_us() - c->looked_us >= CLAIMER_FRESH_US;
        int rc = last && !fresh ? claimer_look(c, err) : NQ_OK;
        if (rc == NQ_OK)
            rc = claimer_levels_claim(c, limit, b, err);
        if (rc != NQ_OK)
            return rc;
        c->stale = c->stale || (b->n == 0 && !c->left.throttled);
    } while (!last && b->n == 0 && !c->left.throttled);
    return NQ_OK;
}

NQ_PRIVATE void nq_claimer_hint(nq_claimer *c, nq_id id)
{
    c->hinted = c->store->driver->looks && !c->types;
    c->told = c->store->driver->claim_id && !c->types ? id : 0;
}

static int claimer_claim_id(nq_conn *conn, void *arg, nq_err *err)
{
    struct claimer_batch *b = arg;
    b->got = NULL;
    b->ngot = 0;
    b->refused = (nq_refused){0};
    return conn->store->driver->claim_id(conn, &b->args, &b->got, &b->ngot, err);
}

/* Only that one: what else is due is found by the next look, at once. */
static int claimer_told(nq_claimer *c, struct claimer_batch *b, nq_err *err)
{
    b->args.from_id = c->told;
    c->told = 0;
    c->stale = true;
    const int rc = nq_store_do(c->store, claimer_claim_id, b, err);
    if (nq_row_refused(rc))
        return NQ_OK; /* what is to become of it, the next claim decides */
    if (rc == NQ_OK && b->got)
        claimer_append(b);
    return rc;
}

/* Look and claim in one: what was just committed is most likely of the priority and the time of what was
 * claimed last. The driver claims only what a look before would have led to. */
static int claimer_guess(nq_claimer *c, size_t limit, struct claimer_batch *b, bool *fresh, nq_err *err)
{
    nq_level levels[CLAIMER_LEVELS];
    nq_look look = {.levels = levels, .max = CLAIMER_LEVELS};
    b->args.priority = c->guess;
    b->args.from_run_at = c->guess_from;
    b->args.from_id = 0;
    b->args.limit = limit;
    b->args.look = &look;
    const int rc = nq_store_do(c->store, claimer_claim_one, b, err);
    b->args.look = NULL;
    if (nq_row_refused(rc) || rc == NQ_ENOMEM) {
        c->stale = true;
        return NQ_OK; /* the claim without a guess sees to it */
    }
    if (rc != NQ_OK)
        return rc;
    claimer_looked(c, &look);
    *fresh = !look.strange;
    if (b->got) {
        claimer_append(b);
        c->guess_from = b->tail->task.run_at_us;
    }
    for (size_t i = 0; i < c->nlevels && b->got; i++)
        if (c->levels[i].known.priority == c->guess) {
            c->levels[i].cursor = c->guess_from;
            c->levels[i].cursor_id = b->tail->task.id;
        }
    c->stale = b->n < limit || look.strange;
    return NQ_OK;
}

/* ---- Groups ---- */

/* Turns of the groups until one brings something: each in a transaction of its own. */
static int claimer_grouped(nq_claimer *c, size_t limit, struct claimer_batch *b, nq_err *err)
{
    int rc = NQ_OK;
    c->stale = b->grouped = true;
    nq_apart_begin(c->apart, &b->args);
    nq_groups_begin(c->groups);
    while (b->n == 0 && rc == NQ_OK) {
        nq_turn *turns = NULL;
        rc = nq_groups_next(c->groups, limit, &turns, &b->args.nturns, err);
        b->args.turns = turns;
        if (rc != NQ_OK || b->args.nturns == 0 ||
            (rc = nq_apart_turns(c->apart, turns, b->args.nturns, limit, err)) != NQ_OK)
            break;
        b->args.gate = nq_groups_gate(c->groups);
        c->left.throttled = nq_groups_counted(c->groups) || c->left.throttled;
        if ((rc = claimer_careful(c, limit, b, err)) != NQ_OK)
            break;
        nq_groups_claimed(c->groups, b->got);
        if (b->got)
            claimer_append(b);
    }
    c->left.throttled |= nq_groups_full(c->groups);
    c->left.counted = nq_groups_counted(c->groups);
    c->left.opens_us = nq_groups_opens(c->groups);
    c->left.again = nq_apart_did(c->apart);
    return rc == NQ_OK ? nq_groups_tidy(c->groups, err) : rc;
}

/* ---- How long until the next one ---- */

/* 0: one is due, but others hold it just now. */
static int claimer_wait(nq_claimer *c, bool grouped, int64_t *wait_us, nq_err *err)
{
    nq_upcoming next = {.queue = c->queue,
                        .types = c->types,
                        .ntypes = c->ntypes,
                        .groups = grouped && nq_group_may_have(c->queue),
                        .settings = c->settings,
                        .run_at = INT64_MAX,
                        .now_us = c->now_us};
    int rc = c->types && grouped ? claimer_look(c, err) : NQ_OK;
    if (grouped && !c->types) {
        *wait_us = nq_groups_wait(c->groups);
        return NQ_OK;
    }
    for (size_t i = 0; i < c->nlevels; i++) {
        next.priorities[next.npriorities++] = c->levels[i].known.priority;
        if (c->levels[i].known.first_run_at < next.run_at)
            next.run_at = c->levels[i].known.first_run_at;
    }
    if (rc == NQ_OK && c->types && (grouped || c->nlevels))
        rc = nq_upcoming_look(c->store, &next, err);
    if (rc == NQ_OK)
        *wait_us = next.run_at == INT64_MAX ? -1 : next.run_at > next.now_us ? next.run_at - next.now_us : 0;
    return rc;
}

/* For so long after a look our clock says what the database's does. */
#define CLAIMER_CLOCK_US NQ_SECONDS(5)

/* From a queue without groups. */
static int claimer_alone(nq_claimer *c, size_t limit, struct claimer_batch *b, nq_err *err)
{
    const bool plain = !b->limited && !b->args.exchange;
    int rc = plain && c->told && limit ? claimer_told(c, b, err) : NQ_OK;
    bool guessed = false;
    if (b->limited)
        nq_groups_begin(c->groups);
    if (plain && c->hinted && rc == NQ_OK && b->n == 0 && !c->most)
        rc = claimer_guess(c, limit, b, &guessed, err);
    c->hinted = false;
    if (rc == NQ_OK && b->n == 0)
        rc = claimer_rounds(c, limit, guessed, b, err);
    c->left.opens_us = b->limited ? nq_groups_opens(c->groups) : c->left.opens_us;
    return rc;
}

/* In turns of its groups, under its limit, in exchange for what ends with the claim, or just so. */
static int claimer_take(nq_claimer *c, size_t limit, struct claimer_batch *b, nq_err *err)
{
    const bool some = nq_groups_some(c->groups) || nq_apart_some(c->apart);
    const bool limited = nq_groups_limited(c->groups);
    b->limited = limited && !some && nq_group_may_have(c->queue);
    if (some || (limited && !b->limited))
        return claimer_grouped(c, limit, b, err);
    const size_t most =
        b->limited ? nq_exchange_most(&c->exchange, c->settings, b->args.piggyback, c->queue) : 0;
    if (most == 0)
        return claimer_alone(c, limit, b, err);
    b->args.exchange = c->queue;
    b->limited = false;
    const int rc = claimer_alone(c, most < limit ? most : limit, b, err);
    c->left = (nq_claimer_left){.counted = true, .throttled = c->exchange.full};
    return rc;
}

NQ_PRIVATE int nq_claimer_claim(nq_claimer *c, uint64_t lease, size_t limit, nq_piggyback *piggyback,
                                nq_claimed **out, size_t *n, int64_t *wait_us, nq_err *err)
{
    struct claimer_batch b = {
        .args = {.queue = c->queue,
                 .types = c->types,
                 .ntypes = c->ntypes,
                 .lease = lease,
                 .bytes = c->bytes,
                 .piggyback =
                     piggyback && piggyback->n && nq_store_piggybacks(c->store, 1) ? piggyback : NULL}};
    b.args.refused = &b.refused;
    int64_t wait = 0;
    c->left = (nq_claimer_left){0};
    /* Until then it is known that nothing may start, though something may be due. */
    const bool ask = (c->left.opens_us = nq_groups_closed(c->groups)) <= nq_mono_us();
    int rc = ask ? nq_groups_probe(c->groups, false, err) : NQ_OK;
    const bool hinted = ask && (c->hinted || c->told || c->thorough);
    if (rc == NQ_OK && ask)
        rc = claimer_take(c, limit, &b, err);
    /* What a hint told of is not the queue's own, so it may be of a group that is new. */
    if (rc == NQ_OK && b.n == 0 && !b.grouped && hinted) {
        rc = nq_groups_probe(c->groups, true, err);
        if (rc == NQ_OK && nq_groups_some(c->groups))
            rc = claimer_grouped(c, limit, &b, err);
    }
    c->hinted = false;
    c->told = 0;
    c->stale = c->stale || rc != NQ_OK;
    if (rc != NQ_OK && b.n == 0)
        return rc;
    /* Some and then an error: they are ours, and the error comes again with the next call. A short batch
     * says nothing of what comes next: look again at once. */
    if (b.n == 0 && ask && (rc = claimer_wait(c, b.grouped, &wait, err)) != NQ_OK)
        return rc;
    nq_claimed_expiry(c->store,
                      c->looked_us && nq_mono_us() - c->looked_us < CLAIMER_CLOCK_US ? claimer_now(c) : 0,
                      b.head);
    for (nq_claimed *k = b.head; k; k = k->next)
        nq_claimed_load(c->store, k, NULL);
    if (b.head && b.args.gate)
        nq_gate_clock_made(b.args.gate->clock);
    *out = b.head;
    *n = b.n;
    *wait_us = wait;
    return NQ_OK;
}
