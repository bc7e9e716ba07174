/* SPDX-License-Identifier: MIT */
/* The turns of a queue's groups: which of them a claim is to take tasks of, and of each how many. */
#include <stdio.h>

#include "groups_state.h"

/*
 * A claim takes a window of groups with due tasks, a few tasks of each, and the next claim goes on behind
 * them: so a group with few tasks waits for one round, however many another has. The queue itself, with the
 * tasks that have no group, has its turn among them.
 *
 * Other claimers pass by the same groups. Where half of a window brings nothing, because others are at the
 * same tasks, a smaller one is in fewer's way; where all of it does, a bigger one saves claims.
 *
 * Under limits of groups a claimer leaves out those that are full, catches up with whoever filled them, and
 * then all of them go round in one crowd, where most of each claim is in vain. So where that is seen the next
 * claim goes on at another place where this claimer has been, and leaves this one as the other: each of them
 * goes round in turn, so that each group is come to.
 */
#define GROUPS_WINDOW     64
#define GROUPS_MIN_WINDOW 8
/* How soon a group is found to be there, whose tasks no hint told of. */
#define GROUPS_PROBE_US NQ_MS(500)

NQ_PRIVATE int nq_groups_new(nq_groups **out, nq_store *s, const char *queue, nq_err *err)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    nq_groups *g = calloc(1, sizeof *g);
    if (!g || !(g->queue = strdup(queue))) {
        free(g);
        return nq_err_nomem(err);
    }
    g->store = s;
    g->alone = g->at_queue = !nq_group_may_have(queue);
    g->window = GROUPS_WINDOW;
    snprintf(g->base, sizeof g->base, "%.*s", (int)nq_group_base(queue), queue);
    snprintf(g->from, sizeof g->from, "%s//", g->base);
    snprintf(g->to, sizeof g->to, "%s/0", g->base); /* the next byte after '/' */
    g->gate = (nq_gate){.queue = g->base, .from = g->from, .to = g->to};
    /* Claimers that begin at different places are in each other's way less. */
    nq_buf_fmt(&g->look.after, "%s%c%c", g->from, digits[nq_random(35)], digits[nq_random(35)]);
    if (g->look.after.failed) {
        nq_groups_free(g);
        return nq_err_nomem(err);
    }
    *out = g;
    return NQ_OK;
}

NQ_PRIVATE void nq_groups_free(nq_groups *g)
{
    if (!g)
        return;
    nq_buf_free(&g->look.after);
    free(g->rates);
    free(g->queue);
    free(g);
}

NQ_PRIVATE bool nq_groups_some(const nq_groups *g)
{
    return g->some;
}

/* ---- Are there any? ---- */

static int groups_probe_row(const nq_val cols[], size_t ncols, void *arg)
{
    bool *some = arg;
    (void)cols;
    (void)ncols;
    *some = true;
    return 0;
}

static int groups_probe(nq_conn *conn, void *arg, nq_err *err)
{
    nq_groups *g = arg;
    const nq_val args[] = {nq_text(g->from), nq_text(g->to)};
    g->some = false;
    return nq_sql(conn, "SELECT 1 FROM {tasks} {claim} WHERE queue > ? AND queue < ? LIMIT 1", args, 2,
                  groups_probe_row, &g->some, NULL, err);
}

NQ_PRIVATE int nq_groups_probe(nq_groups *g, bool surely, nq_err *err)
{
    const int64_t now = nq_mono_us();
    if (g->alone || (!surely && g->probed_us && now - g->probed_us < GROUPS_PROBE_US))
        return NQ_OK;
    g->probed_us = now;
    return nq_store_do(g->store, groups_probe, g, err);
}

/* ---- A pass ---- */

static void groups_go_to(nq_groups *g, bool at_queue, const char *behind)
{
    g->at_queue = at_queue;
    nq_buf_clear(&g->look.after);
    nq_buf_str(&g->look.after, behind);
}

/* Where it is, into a place of NQ_MAX_QUEUE + 3 bytes. */
static void groups_note(const nq_groups *g, char *place)
{
    const size_t n = g->look.after.n < NQ_MAX_QUEUE + 2 ? g->look.after.n : NQ_MAX_QUEUE + 2;
    memcpy(place, g->look.after.p, n);
    place[n] = '\0';
}

/* Under limits: mark this place now and then, or leave it for another one. */
static void groups_elsewhere(nq_groups *g)
{
    const bool crowded = g->crowded;
    g->crowded = false;
    if (!g->gated || g->at_queue)
        return;
    if (crowded && g->nmarks > 0) {
        char here[NQ_MAX_QUEUE + 3], *mark = g->marks[nq_random(g->nmarks - 1)];
        groups_note(g, here);
        groups_go_to(g, false, mark);
        memcpy(mark, here, sizeof here);
    } else if (g->nmarks < GROUPS_MARKS) {
        groups_note(g, g->marks[g->nmarks++]);
    } else if (nq_random(3) == 0) {
        groups_note(g, g->marks[nq_random(GROUPS_MARKS - 1)]);
    }
}

NQ_PRIVATE void nq_groups_begin(nq_groups *g)
{
    groups_elsewhere(g);
    groups_note(g, g->start);
    g->from_queue = g->at_queue;
    g->wrapped = g->over = g->shut = g->seen = g->full = false;
    g->wait_us = -1;
    g->opens_us = 0;
    g->nturns = 0;
}

/* ---- The turns ---- */

/* What is due has a turn; of the rest the time is kept. */
static void groups_see(nq_groups *g, const char *queue, int priority, int64_t at, int64_t now, bool running)
{
    if (g->settings && nq_settings_paused(g->settings, queue))
        return; /* nothing of it is due while it is */
    if (at <= now) {
        nq_setting set;
        if (nq_groups_is_closed(g, queue))
            return;
        if (nq_groups_is_held(g, queue)) {
            g->wait_us = 0;
            return;
        }
        nq_turn *turn = &g->turns[g->nturns];
        *turn = (nq_turn){.queue = queue, .priority = priority, .from_run_at = at, .weight = 1};
        if (g->settings && nq_settings_group(g->settings, queue, &set)) {
            turn->max_running = set.max_running;
            turn->weight = set.weight > 1 ? set.weight : 1;
            turn->rate = nq_rate_of(set.rate, set.rate_us, set.burst);
            turn->ordered = set.ordered > NQ_ORDERED_NO ? set.ordered : NQ_ORDERED_NO;
            if (turn->ordered)
                turn->max_running = 1;
        }
        if (!turn->ordered || running) /* else the claim will say */
            g->wait_us = 0;
        g->nturns += turn->max_running != 1 || !running; /* is it at its limit? */
        g->gated = g->gated || nq_turn_is_gated(turn);
        g->counted = g->counted || turn->max_running > 0;
        g->full = g->full || (turn->max_running == 1 && running);
    } else if (g->wait_us < 0 || at - now < g->wait_us) {
        g->wait_us = at - now;
    }
}

/* The queue's own tasks: of its first priority with a due one. */
static int groups_look_queue(nq_conn *conn, void *arg, nq_err *err)
{
    nq_groups *g = arg;
    nq_level levels[NQ_MAX_PRIORITY - NQ_MIN_PRIORITY + 1], *best = NULL;
    nq_look look = {.levels = levels, .max = sizeof levels / sizeof *levels};
    const int rc = conn->store->driver->levels(conn, g->queue, &look, err);
    if (rc != NQ_OK)
        return rc;
    for (size_t i = 0; i < look.n && (!best || best->first_run_at > look.now_us); i++)
        if (!best || levels[i].first_run_at < best->first_run_at)
            best = &levels[i];
    if (best)
        groups_see(g, g->queue, best->priority, best->first_run_at, look.now_us, false);
    if (look.strange)
        snprintf(g->strange, sizeof g->strange, "%s", g->queue);
    return NQ_OK;
}

static int groups_look(nq_conn *conn, void *arg, nq_err *err)
{
    nq_groups *g = arg;
    return conn->store->driver->groups(conn, &g->look, err);
}

/* The next groups, until the window is full. Where those that were looked at before left room, or the last
 * window did, most have none to give, because they are at their limit: then more, or there would be a look
 * for every few. */
static int groups_look_on(nq_groups *g, size_t window, bool again, nq_err *err)
{
    const size_t at = g->nturns, room = window - at, most = GROUPS_MAX_WINDOW - at;
    const size_t more = again ? GROUPS_WINDOW : g->lean ? 2 * room : 0, want = more > room ? more : room;
    g->look.to = g->to;
    g->look.most = want < most ? want : most;
    g->look.groups = g->groups + at;
    g->look.some = false;
    const int rc = nq_store_do(g->store, groups_look, g, err);
    if (rc != NQ_OK)
        return rc;
    g->seen = g->seen || g->look.some;
    for (size_t i = 0; i < g->look.n && !g->over; i++) {
        g->looked++;
        /* each stays where it is: turns point into the groups, and are no more than they */
        nq_group *to = &g->groups[g->nturns];
        *to = g->look.groups[i];
        if (g->wrapped && !g->from_queue && strcmp(to->queue, g->start) > 0) {
            g->over = true;
            groups_go_to(g, g->at_queue, g->start);
            break;
        }
        if (to->strange)
            memcpy(g->strange, to->queue, sizeof g->strange);
        groups_see(g, to->queue, to->priority, to->first_run_at, g->look.now_us, to->running);
        if (g->nturns == window && i + 1 < g->look.n) {
            groups_go_to(g, false, to->queue);
            return NQ_OK;
        }
    }
    if (g->over || !g->look.end)
        return NQ_OK;
    g->over = g->wrapped && !g->from_queue;
    g->at_queue = !g->over;
    if (g->over)
        groups_go_to(g, false, g->start);
    return NQ_OK;
}

/* After the last group comes the queue itself, and then the first group. */
static int groups_step(nq_groups *g, size_t window, bool again, nq_err *err)
{
    if (g->alone ? !g->at_queue : g->at_queue && g->wrapped) { /* the pass began with the queue */
        g->at_queue = g->over = true;                          /* so does the next one */
        return NQ_OK;
    }
    if (!g->at_queue)
        return groups_look_on(g, window, again, err);
    g->wrapped = true;
    const int rc = nq_store_do(g->store, groups_look_queue, g, err);
    if (rc != NQ_OK)
        return rc;
    groups_go_to(g, false, g->from);
    return NQ_OK;
}

/* A window begins here. */
static void groups_window(nq_groups *g)
{
    groups_note(g, g->behind);
    g->queue_first = g->at_queue;
    g->nturns = g->looked = 0;
    g->gated = nq_gate_is_needed(&g->gate);
    g->counted = g->gate.max_running > 0;
}

NQ_PRIVATE int nq_groups_next(nq_groups *g, size_t wanted, nq_turn **turns, size_t *n, nq_err *err)
{
    const size_t window = g->window < wanted ? g->window : wanted;
    int rc = NQ_OK;
    groups_window(g);
    for (bool again = false; g->nturns < window && !g->over && !g->shut && rc == NQ_OK;) {
        const bool groups = !g->at_queue;
        rc = groups_step(g, window, again, err);
        again = again || groups;
    }
    g->look.dirty = false;
    if (rc == NQ_OK && g->look.after.failed)
        rc = nq_err_nomem(err);
    if (rc != NQ_OK)
        return rc;
    g->lean = g->looked > g->nturns + g->nturns / 2;
    if (g->over)
        g->some = g->seen;
    nq_turns_share(g->turns, g->nturns, wanted);
    *turns = g->turns;
    *n = g->nturns;
    return nq_groups_buckets(g, err);
}

NQ_PRIVATE int nq_groups_none(nq_groups *g, int priority, int64_t at, nq_turn **turns, size_t *n, nq_err *err)
{
    groups_window(g);
    groups_see(g, g->queue, priority, at, at, false);
    *turns = g->turns;
    *n = g->nturns;
    return nq_groups_buckets(g, err);
}

/* The limit of the whole queue left some turns without a task: the next claim begins with those; where it
 * left nothing to any, with the first of them, and no other turn of this pass would be given more. Where
 * it left something and nothing came, behind the first turn, which may have had all that was left, and no
 * task of a type that is wanted. */
static void groups_go_back(nq_groups *g, const nq_claimed *list)
{
    size_t last = 0;
    if (g->rates->clock.shut) {
        groups_go_to(g, g->queue_first, g->behind);
        g->shut = true;
        return;
    }
    for (const nq_claimed *c = list; c; c = c->next)
        for (size_t i = last; i < g->nturns; i++)
            if (nq_turn_is_of(&g->turns[i], c))
                last = i;
    if (g->alone || last + 1 >= g->nturns)
        return;
    groups_go_to(g, false, strcmp(g->turns[last].queue, g->queue) == 0 ? g->from : g->turns[last].queue);
}

NQ_PRIVATE void nq_groups_claimed(nq_groups *g, const nq_claimed *list)
{
    size_t brought = 0;
    const char *last = NULL;
    /* What is not committed may be taken back: that there is nothing is believed only of what is. */
    g->look.dirty = list;
    if (g->gated)
        nq_groups_heard(g);
    if (nq_gate_is_needed(&g->gate))
        groups_go_back(g, list);
    for (const nq_claimed *c = list; c; c = c->next) {
        const char *group = c->group ? c->group : "";
        brought += !last || strcmp(group, last) != 0;
        last = group;
    }
    if (g->nturns < GROUPS_MIN_WINDOW)
        return;
    /* of which a limit of the whole queue leaves little, that is no crowd */
    g->crowded = g->gated && brought < g->nturns / 2 && !nq_gate_is_needed(&g->gate);
    const size_t least = g->gated ? GROUPS_WINDOW : GROUPS_MIN_WINDOW;
    if (brought < g->nturns / 2)
        g->window = g->window / 2 < least ? least : g->window / 2;
    else if (brought == g->nturns && g->nturns == g->window && g->window < GROUPS_MAX_WINDOW)
        g->window *= 2;
}

NQ_PRIVATE int64_t nq_groups_wait(const nq_groups *g)
{
    return g->wait_us;
}

NQ_PRIVATE int nq_groups_tidy(nq_groups *g, nq_err *err)
{
    if (!*g->strange)
        return NQ_OK;
    const int rc = nq_bury_strange(g->store, g->strange, err);
    g->strange[0] = '\0';
    return rc;
}

NQ_PRIVATE void nq_groups_heed(nq_groups *g, const nq_settings *settings)
{
    const nq_setting *row = settings ? nq_settings_find(settings, g->base) : NULL;
    g->settings = settings;
    g->gate.max_running = row ? row->max_running : 0;
    g->gate.rate = row ? nq_rate_of(row->rate, row->rate_us, row->burst) : (nq_rate){0};
    if (!settings || settings->hash == g->heeded)
        return;
    g->heeded = settings->hash;
    g->closed_us = 0;
    if (g->rates)
        memset(g->rates->closed, 0, sizeof g->rates->closed);
}

NQ_PRIVATE bool nq_groups_limited(const nq_groups *g)
{
    nq_setting set;
    return nq_gate_is_needed(&g->gate) ||
           (g->alone && g->settings && nq_settings_group(g->settings, g->queue, &set) &&
            (set.max_running > 0 || set.rate > 0 || set.ordered > NQ_ORDERED_NO));
}

NQ_PRIVATE bool nq_groups_full(const nq_groups *g)
{
    return g->full;
}

NQ_PRIVATE const nq_gate *nq_groups_gate(const nq_groups *g)
{
    return g->gated ? &g->gate : NULL;
}

NQ_PRIVATE bool nq_groups_counted(const nq_groups *g)
{
    return g->counted;
}

NQ_PRIVATE size_t nq_groups_room(const nq_groups *g, bool *exchange)
{
    *exchange = g->gate.max_running > 0 && g->gate.rate.every_ns == 0 && !g->rates->clock.nodes;
    return g->rates->clock.room;
}

NQ_PRIVATE int64_t nq_groups_closed(const nq_groups *g)
{
    return nq_gate_is_needed(&g->gate) ? g->closed_us : 0;
}

NQ_PRIVATE int64_t nq_groups_opens(const nq_groups *g)
{
    return g->opens_us;
}
