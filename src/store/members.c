/* SPDX-License-Identifier: MIT */
/* Which workers are alive: heartbeats, and locks that die with their holder. */
#include <stdio.h>

#include "store.h"

/*
 * How death is told. Each worker has a row with a counter that it increments (its beat) and holds a lock
 * that the database or the kernel takes from a process that ends. Another process declares it dead when
 *   - its lock was seen free at MEMBERS_FREE_LOOKS looks over at least MEMBERS_FREE_US, while its beat stood
 *     still: an owner that merely lost its connection takes the lock again and beats within that time; or
 *   - its beat stood still for the whole lease.
 * Both are measured on the watcher's own monotonic clock, and a gap between two looks counts at most
 * MEMBERS_GAP_US and a sixth of the lease, so that a watcher which was itself stopped, or waited for a
 * database that nobody could write, condemns nobody. Declaring is deleting the row as it was observed; a
 * declared worker learns it at its next beat.
 */
#define MEMBERS_FREE_US    NQ_MS(500)
#define MEMBERS_FREE_LOOKS 3
#define MEMBERS_GAP_US     NQ_SECONDS(2)
/* After our own connection broke others may have lost theirs too: no verdict by lock for this long. Nor,
 * until it was watched for this long, over one that has not beaten since the server started and dropped all
 * locks: who joins after a restart has seen nothing break. */
#define MEMBERS_GRACE_US NQ_SECONDS(10)
#define MEMBERS_TRIES    3
/*
 * Any account of a server may take any named lock of it, ours too, whose names are no secret. So a lock that
 * cannot be had keeps nobody from working: a worker without its own adds this to its beat, and is then judged
 * by its beat alone, until it has the lock.
 */
#define MEMBERS_LOCKLESS ((int64_t)1 << 62)
#define MEMBERS_LOCK_US  NQ_SECONDS(1) /* how often it tries */
/* Of an id: NQ_LEASE must fit a signed 64-bit column. */
#define MEMBERS_MAX_ID (((uint64_t)1 << (63 - NQ_LEASE_SEQ_BITS)) - 1)

/* Another worker as this one has observed it. */
struct members_other {
    uint64_t id;
    int64_t beat;
    int64_t quiet_us; /* the database's time since the last beat */
    int64_t still_us; /* how long the beat has stood still */
    int64_t free_us;  /* and how long the lock was free meanwhile */
    unsigned free_looks;
    char *name; /* NULL: none that can be told */
};

/* Names of so many that went last are kept: what they ran is found after their rows are gone. */
#define MEMBERS_GONE 64
#define MEMBERS_NAME 255 /* bytes at most */
struct members_gone {
    uint64_t id;
    char *name;
};

/* One thread at a time. The connection is its own, outside the pool: it carries the lock. */
struct nq_member {
    nq_store *store;
    nq_conn *conn; /* NULL after it broke */
    uint64_t id;
    int64_t since_us; /* the row's started_at */
    unsigned running; /* nq_member_says */
    uint64_t settings;
    bool locked;
    int64_t lock_us; /* not locked: when to try again */
    int64_t looked_us, grace_us;
    int64_t server_us;            /* when the server started, by our clock */
    struct members_other *others; /* by id */
    size_t nothers;
    unsigned suspects; /* of them: lock free, verdict not yet due */
    struct members_gone gone[MEMBERS_GONE];
    size_t ngone; /* since ever: the oldest gives way */
};

/* Ids begin anew after a restore, or a failover that lost rows: a row of another process with our id is not
 * ours. */
#define MEMBERS_OURS "id = ? AND {us:started_at} = ?"
#define MEMBERS_BEAT "UPDATE {workers} SET beat = (beat & 4611686018427387903) + ?, beat_at = {now}"
static const char members_beat_sql[] = MEMBERS_BEAT ", running = ?, settings = ? WHERE " MEMBERS_OURS;
static const char members_pulse_sql[] = MEMBERS_BEAT " WHERE " MEMBERS_OURS;

/* ---- The connection ---- */

static void members_hang_up(nq_member *m)
{
    if (m->conn)
        m->store->driver->disconnect(m->conn);
    m->conn = NULL;
    m->locked = false;
    m->lock_us = 0;
}

static int members_renew(nq_conn *c, const char *sql, const nq_val args[], size_t nargs, nq_err *err)
{
    nq_exec_result res = {0};
    int rc = nq_sql(c, sql, args, nargs, NULL, NULL, &res, err);
    if (rc == NQ_OK && res.affected == 0)
        rc = nq_err_set(err, NQ_ELEASE, "this worker was declared dead by another one");
    return rc;
}

static int members_beat_once(nq_member *m, nq_err *err)
{
    const nq_val args[] = {nq_int(1 + (m->locked ? 0 : MEMBERS_LOCKLESS)), nq_int(m->running),
                           m->settings ? nq_int((int64_t)m->settings) : nq_null(), nq_int((int64_t)m->id),
                           nq_int(m->since_us)};
    return members_renew(m->conn, members_beat_sql, args, 5, err);
}

/* It says to be judged by its beat alone: the connection with the lock may be what the member waits for, and
 * the server may have dropped it already. The member's own next beat takes that back. */
NQ_PRIVATE int nq_member_pulse(nq_store *s, uint64_t id, int64_t since_us, nq_err *err)
{
    const nq_val args[] = {nq_int(1 + MEMBERS_LOCKLESS), nq_int((int64_t)id), nq_int(since_us)};
    nq_conn *c = NULL;
    int rc = s->driver->connect(s, &c, err);
    if (rc != NQ_OK)
        return rc;
    rc = members_renew(c, members_pulse_sql, args, 3, err);
    s->driver->disconnect(c);
    return rc;
}

static void members_lock(nq_member *m, nq_err *err)
{
    m->locked = m->store->driver->lock_hold(m->conn, m->id, err) == NQ_OK;
    m->lock_us = nq_mono_us() + MEMBERS_LOCK_US;
}

/* A connection that holds our lock, if it is to be had. A new one beats at once, so that whoever saw the lock
 * free starts anew.
 */
static int members_ready(nq_member *m, nq_err *err)
{
    const nq_driver *d = m->store->driver;
    nq_err why;
    int rc;
    if (m->conn && (m->conn->broken || !d->usable(m->conn)))
        members_hang_up(m);
    if (!m->conn) {
        if ((rc = d->connect(m->store, &m->conn, err)) != NQ_OK)
            return rc;
        m->grace_us = nq_mono_us() + MEMBERS_GRACE_US;
    }
    if (m->locked || nq_mono_us() < m->lock_us)
        return NQ_OK;
    /* The server may not yet have noticed that our old connection, which holds the lock, is gone. */
    members_lock(m, &why);
    if (m->conn->broken)
        return nq_err_set(err, NQ_EUNAVAILABLE, "%s", why.message);
    return members_beat_once(m, err);
}

/* ---- Entering and leaving ---- */

static int members_server(nq_member *m, nq_err *err)
{
    int64_t up = 0;
    int rc = NQ_OK;
    m->server_us = INT64_MIN;
    if (m->store->driver->uptime && (rc = m->store->driver->uptime(m->conn, &up, err)) == NQ_OK)
        m->server_us = nq_mono_us() - up;
    return rc;
}

static int members_since(const nq_val cols[], size_t ncols, void *arg)
{
    (void)ncols;
    ((nq_member *)arg)->since_us = cols[0].i;
    return 0;
}

static int members_enter(nq_member *m, const char *name, const nq_member_about *about, nq_err *err)
{
    const nq_val args[] = {nq_text(name),
                           about ? nq_blob(about->queues, strlen(about->queues)) : nq_null(),
                           about && about->types ? nq_blob(about->types, strlen(about->types)) : nq_null(),
                           about ? nq_int(about->concurrency) : nq_null(),
                           nq_text(nq_version()),
                           about && about->settings ? nq_int((int64_t)about->settings) : nq_null()};
    m->settings = about ? about->settings : 0;
    nq_exec_result res = {0};
    int rc = m->store->driver->connect(m->store, &m->conn, err);
    if (rc != NQ_OK || (rc = members_server(m, err)) != NQ_OK)
        return rc;
    if ((rc = nq_sql(m->conn,
                     "INSERT INTO {workers} (name, queues, types, concurrency, version, settings, running, "
                     "started_at, "
                     "beat_at) VALUES (?, ?, ?, ?, ?, ?, 0, {now}, {now})",
                     args, 6, NULL, NULL, &res, err)) != NQ_OK)
        return rc;
    if (res.insert_id <= 0 || (uint64_t)res.insert_id > MEMBERS_MAX_ID)
        return nq_err_set(err, NQ_EFULL, "the ids of workers are used up");
    m->id = (uint64_t)res.insert_id;
    const nq_val id = nq_int(res.insert_id);
    if ((rc = nq_sql(m->conn, "SELECT {us:started_at} FROM {workers} WHERE id = ?", &id, 1, members_since, m,
                     NULL, err)) != NQ_OK)
        return rc;
    nq_err why;
    members_lock(m, &why);
    if (m->conn->broken)
        return nq_err_set(err, NQ_EUNAVAILABLE, "%s", why.message);
    if (m->locked)
        return NQ_OK;
    if (m->store->log) {
        char text[700];
        snprintf(text, sizeof text, "only the heartbeat tells that this worker lives: %s", why.message);
        m->store->log(NQ_LOG_WARN, text, m->store->log_udata);
    }
    return members_beat_once(m, err);
}

NQ_PRIVATE int nq_member_join(nq_member **out, nq_store *s, const char *name, const nq_member_about *about,
                              nq_err *err)
{
    nq_member *m = calloc(1, sizeof *m);
    nq_err why = {0};
    int rc;
    if (!m)
        return nq_err_nomem(err);
    m->store = s;
    /* A row that a failed try leaves behind has no lock: the others take it for what it is. */
    for (int i = 0; i < MEMBERS_TRIES; i++) {
        rc = members_enter(m, name, about, &why);
        if (rc == NQ_OK) {
            m->looked_us = nq_mono_us();
            *out = m;
            return NQ_OK;
        }
        members_hang_up(m);
        if (rc != NQ_ECONFLICT && rc != NQ_EUNKNOWN)
            break;
        nq_sleep_us(NQ_MS(5) + (int64_t)nq_random((uint64_t)NQ_MS(20)));
    }
    nq_member_free(m);
    if (err)
        *err = why;
    return rc;
}

NQ_PRIVATE void nq_member_says(nq_member *m, unsigned running, uint64_t settings)
{
    m->running = running;
    m->settings = settings;
}

NQ_PRIVATE uint64_t nq_member_id(const nq_member *m)
{
    return m->id;
}

NQ_PRIVATE int64_t nq_member_since_us(const nq_member *m)
{
    return m->since_us;
}

static void members_forget(struct members_other *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i].name);
    free(list);
}

NQ_PRIVATE void nq_member_free(nq_member *m)
{
    if (!m)
        return;
    members_hang_up(m);
    members_forget(m->others, m->nothers);
    for (size_t i = 0; i < MEMBERS_GONE; i++)
        free(m->gone[i].name);
    free(m);
}

static int members_delete(nq_member *m, nq_err *err)
{
    const nq_val args[] = {nq_int((int64_t)m->id), nq_int(m->since_us)};
    return nq_sql(m->conn, "DELETE FROM {workers} WHERE " MEMBERS_OURS, args, 2, NULL, NULL, NULL, err);
}

/* Try fn, again after a conflict and on a new connection after a loss. */
static int members_do(nq_member *m, int (*fn)(nq_member *m, nq_err *err), nq_err *err)
{
    nq_err why = {0};
    int rc = NQ_OK;
    for (int i = 0; i < MEMBERS_TRIES; i++) {
        if (i)
            nq_sleep_us(NQ_MS(1) + (int64_t)nq_random((uint64_t)NQ_MS(10)));
        const bool had = m->conn;
        rc = members_ready(m, &why);
        if (rc == NQ_OK)
            rc = fn(m, &why);
        else if (!had && !m->conn)
            break; /* nobody answers */
        if (rc != NQ_ECONFLICT && rc != NQ_EUNAVAILABLE && rc != NQ_EUNKNOWN)
            break;
    }
    if (rc != NQ_OK && err)
        *err = why;
    return rc;
}

NQ_PRIVATE int nq_member_leave(nq_member *m, nq_err *err)
{
    int rc;
    if (!m)
        return NQ_OK;
    rc = members_do(m, members_delete, err);
    if (rc == NQ_ELEASE)
        rc = NQ_OK; /* gone already */
    if (m->conn && !m->conn->broken && m->locked)
        m->store->driver->lock_drop(m->conn, m->id);
    nq_member_free(m);
    return rc;
}

NQ_PRIVATE int nq_member_beat(nq_member *m, nq_err *err)
{
    return members_do(m, members_beat_once, err);
}

/* ---- Watching the others ---- */

struct members_look {
    uint64_t self;
    int64_t asked_us; /* nq_mono_us(), before the rows were read */
    struct members_other *seen;
    size_t n, cap;
};

static int members_row(const nq_val cols[], size_t ncols, void *arg)
{
    struct members_look *l = arg;
    (void)ncols;
    if ((uint64_t)cols[0].i == l->self)
        return 0;
    const bool named = cols[3].type != NQ_VAL_NULL && cols[3].n > 0 && cols[3].n <= MEMBERS_NAME;
    struct members_other *more = nq_grow(l->seen, l->n, &l->cap, sizeof *more);
    if (!more)
        return NQ_ENOMEM;
    l->seen = more;
    l->seen[l->n++] = (struct members_other){.id = (uint64_t)cols[0].i,
                                             .beat = cols[1].i,
                                             .quiet_us = cols[2].i,
                                             .name = named ? strndup(cols[3].p, cols[3].n) : NULL};
    return 0;
}

/* Is each one's lock free? Where our own seems to be, locks say nothing here: a proxy that changes server
 * connections under its clients drops them. Then only heartbeats count. */
static int members_probe(nq_member *m, struct members_look *l, int8_t **out, nq_err *err)
{
    const size_t n = l->n + 1;
    uint64_t *ids = malloc(n * (sizeof *ids + 1));
    int rc;
    if (!ids)
        return nq_err_nomem(err);
    int8_t *free_out = (int8_t *)(ids + n);
    for (size_t i = 0; i < l->n; i++)
        ids[i] = l->seen[i].id;
    ids[l->n] = m->id;
    if ((rc = m->store->driver->lock_probe(m->conn, ids, n, free_out, err)) == NQ_OK) {
        if (free_out[l->n] == 1)
            memset(free_out, -1, n);
        memmove(ids, free_out, n); /* the caller frees one block */
        *out = (int8_t *)ids;
        return NQ_OK;
    }
    free(ids);
    return rc;
}

/* Carry on what was observed of the same ones before. Both lists are in order of id. */
static void members_compare(nq_member *m, struct members_look *l, const int8_t free_now[], int64_t lease_us,
                            int64_t now)
{
    const int64_t most = lease_us / 6 < MEMBERS_GAP_US ? lease_us / 6 : MEMBERS_GAP_US;
    int64_t gap = now - m->looked_us;
    size_t j = 0;
    if (gap > most)
        gap = most;
    m->suspects = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct members_other *o = &l->seen[i];
        while (j < m->nothers && m->others[j].id < o->id)
            j++;
        const struct members_other *was =
            j < m->nothers && m->others[j].id == o->id && m->others[j].beat == o->beat ? &m->others[j] : NULL;
        o->still_us = was ? was->still_us + gap : 0;
        /* By the time before the rows were read: we may have been held up since, and it is no later than it
         * was. */
        const bool restarted =
            nq_us_since(l->asked_us, o->quiet_us) < m->server_us && o->still_us < MEMBERS_GRACE_US;
        if (free_now[i] != 1 || now < m->grace_us || restarted || o->beat >= MEMBERS_LOCKLESS)
            continue;
        m->suspects++;
        o->free_looks = was ? was->free_looks + 1 : 1;
        o->free_us = was && was->free_looks ? was->free_us + gap : 0;
    }
}

static bool members_is_dead(const struct members_other *o, int64_t lease_us)
{
    return o->still_us >= lease_us || (o->free_looks >= MEMBERS_FREE_LOOKS && o->free_us >= MEMBERS_FREE_US);
}

static int members_declare(nq_member *m, const struct members_other *o, unsigned *died, nq_err *err)
{
    const nq_val args[] = {nq_int((int64_t)o->id), nq_int(o->beat)};
    nq_exec_result res = {0};
    int rc =
        nq_sql(m->conn, "DELETE FROM {workers} WHERE id = ? AND beat = ?", args, 2, NULL, NULL, &res, err);
    if (rc == NQ_OK)
        *died += res.affected ? 1 : 0;
    return rc;
}

/* Look once: the rows, then the locks. */
static int members_look(nq_member *m, struct members_look *l, int8_t **free_now, nq_err *err)
{
    int rc = members_ready(m, err);
    if (rc != NQ_OK)
        return rc;
    l->asked_us = nq_mono_us();
    rc = nq_sql(m->conn, "SELECT id, beat, {us:now} - {us:beat_at}, {bytes:name} FROM {workers} ORDER BY id",
                NULL, 0, members_row, l, NULL, err);
    return rc != NQ_OK || l->n == 0 ? rc : members_probe(m, l, free_now, err);
}

/* What was seen takes the place of what was; of those that are not there any more the names stay. */
static void members_see(nq_member *m, struct members_look *l)
{
    size_t j = 0;
    for (size_t i = 0; i < m->nothers; i++) {
        struct members_other *o = &m->others[i];
        while (j < l->n && l->seen[j].id < o->id)
            j++;
        if (!o->name || (j < l->n && l->seen[j].id == o->id))
            continue;
        struct members_gone *place = &m->gone[m->ngone++ % MEMBERS_GONE];
        free(place->name);
        *place = (struct members_gone){o->id, o->name};
        o->name = NULL;
    }
    members_forget(m->others, m->nothers);
    m->others = l->seen;
    m->nothers = l->n;
    l->seen = NULL;
    l->n = 0;
}

NQ_PRIVATE const char *nq_member_named(const nq_member *m, uint64_t id)
{
    for (size_t i = 0; m && i < m->nothers; i++)
        if (m->others[i].id == id)
            return m->others[i].name;
    for (size_t i = 0; m && i < MEMBERS_GONE; i++)
        if (m->gone[i].id == id && m->gone[i].name)
            return m->gone[i].name;
    return NULL;
}

NQ_PRIVATE unsigned nq_member_suspects(const nq_member *m)
{
    return m->suspects;
}

NQ_PRIVATE int nq_member_watch(nq_member *m, int64_t lease_us, unsigned *died, nq_err *err)
{
    struct members_look l = {.self = m->id};
    int8_t *free_now = NULL;
    unsigned count = 0;
    int rc = members_look(m, &l, &free_now, err);
    if (rc != NQ_OK)
        goto out;
    const int64_t now = nq_mono_us();
    members_compare(m, &l, free_now, lease_us, now);
    members_see(m, &l);
    m->looked_us = now;
    for (size_t i = 0; i < m->nothers && rc == NQ_OK; i++)
        if (members_is_dead(&m->others[i], lease_us))
            rc = members_declare(m, &m->others[i], &count, err);
    /* One that failed is tried again at the next look. */
    if (rc == NQ_OK || count)
        *died = count;
    m->suspects -= count < m->suspects ? count : m->suspects;
    if (count)
        rc = NQ_OK;
out:
    free(free_now);
    members_forget(l.seen, l.n);
    return rc;
}
