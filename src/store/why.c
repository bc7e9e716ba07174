/* SPDX-License-Identifier: MIT */
/* Why a task does not run, or where it does: one statement for both databases, that a person may run too. */
#include "store.h"

/*
 * One branch for each reason, in the order in which they are shown. A branch gives its place in that order,
 * the reason's word, and what it says of it: a name (of a worker, a queue), two numbers, a time and a note;
 * which they are says nq_why's table in nanoq_admin.h. # is the id.
 *
 * Each branch reads the task by its id, which a planner takes for a constant. What anybody may have written
 * comes as words of at most some hundred characters. A worker that was silent for 15 s, three beats, counts
 * as dead here, and may be found dead earlier or later by the others.
 */
#define WHY_SILENT NQ_STRING(NQ_WORKER_SILENT_US)

#define WHY_NONE   "NULL AS name, NULL AS n, NULL AS most, NULL AS at, NULL AS note"
#define WHY_TASK   "FROM {tasks} t WHERE t.id = # "
#define WHY_WAITS  "FROM {tasks} t WHERE t.id = # AND t.state = 0 "
#define WHY_ERROR  "CASE WHEN t.error IS NOT NULL THEN {words:t.error} END"

/* Workers, by what they say of themselves; older ones say nothing. */
#define WHY_ALIVE "{us:{clock}} - {us:w.beat_at} <= " WHY_SILENT
#define WHY_SERVES                                                                                           \
    "(w.queues IS NULL OR INSTR({listed:w.queues}, {listed:{base:t.queue}}) > 0 "                            \
    "OR INSTR({listed:w.queues}, {listed:t.queue}) > 0)"
#define WHY_HANDLES "(w.types IS NULL OR INSTR({lines:w.types}, {lines:t.type}) > 0)"

/* The settings that hold for it: its group's, each group's, the queue's. */
#define WHY_SET                                                                                              \
    "FROM {tasks} t JOIN {queues} q ON (q.name = t.queue OR q.name = {base:t.queue} "                        \
    "OR (q.name = {each:{base:t.queue}} AND t.queue <> {base:t.queue}) "                                     \
    "OR ({exact:q.type} = {exact:t.type} AND INSTR(q.name, '//:') > 0 AND {base:q.name} = {base:t.queue})) "
#define WHY_SETTINGS WHY_SET "WHERE t.id = # AND t.state = 0 "

/* Of its group: where that one's own row says nothing, the row of each group holds. */
#define WHY_ITS_GROUP(column)                                                                                \
    "AND t.queue <> {base:t.queue} AND (q.name = t.queue OR (q.name = {each:{base:t.queue}} AND NOT EXISTS " \
    "(SELECT 1 FROM {queues} o WHERE o.name = t.queue AND o." column " IS NOT NULL))) "

/* The task that began last in its group, which is in order, among those that live or have ended. */
#define WHY_HEAD(table)                                                                                      \
    WHY_SET "JOIN {gates} g ON g.queue = t.queue JOIN {" table "} h ON h.id = g.head AND h.queue = g.queue " \
            "WHERE t.id = # AND t.state = 0 " WHY_ITS_GROUP("ordered")

/* A rate that lets nothing start until g.tat. A later time than a claim leaves there counts for nothing, as
 * with claims: see rate.c. */
#define WHY_RATE(gate)                                                                                       \
    "{words:" gate "}, q.rate, q.rate_us, {moment:{number:g.tat / 1000}}, NULL " WHY_SET                     \
    "JOIN {gates} g ON g.queue = " gate " WHERE t.id = # AND t.state = 0 AND g.tat > {us:{clock}} * 1000 "   \
    "AND g.tat <= {us:{clock}} * 1000 + 1000.0 * q.rate_us / q.rate + 2020000000 "

/* What runs of its group, and of its queue with all groups; and these tasks. */
#define WHY_OF_GROUP(what) "(SELECT " what " FROM {tasks} r {claim} WHERE r.queue = t.queue AND r.state = 1)"
#define WHY_OF_QUEUE(what)                                                                                   \
    "(SELECT " what " FROM {tasks} r {claim} WHERE r.state = 1 AND (r.queue = q.name OR "                    \
    "(r.queue > {behind:q.name} AND r.queue < {beyond:q.name})))"

/* When it expires, in microseconds; what stands behind the name of the header is read as a number. */
#define WHY_EXPIRES    "{number:SUBSTR({lines:t.headers}, INSTR({lines:t.headers}, '\nnq-expires:') + 12, 20)}"
#define WHY_MAY_EXPIRE "t.headers IS NOT NULL AND INSTR({lines:t.headers}, '\nnq-expires:') > 0 "

/* Tasks before it, in three parts for each of which the index has a range; of each 10,001 are counted. */
#define WHY_BEFORE(more)                                                                                     \
    "(SELECT COUNT(*) FROM (SELECT 1 FROM {tasks} m CROSS JOIN {tasks} e {claim} WHERE m.id = # "            \
    "AND e.queue = m.queue AND e.state = 0 AND " more " AND {us:e.run_at} <= {us:{clock}} LIMIT 10001) x)"

static const char *const why_branches[] = {
    /* It runs. */
    "SELECT 10 AS ord, 'running' AS reason, {words:w.name} AS name, t.attempts + 1 AS n, t.max_retries + 1 "
    "AS "
    "most, t.claimed_at AS at, NULL AS note FROM {tasks} t JOIN {workers} w ON w.id = (t.lease >> 36) "
    "WHERE t.id = # AND t.state = 1 AND " WHY_ALIVE,
    "SELECT 11, 'orphaned', {words:w.name}, NULL, NULL, w.beat_at, NULL FROM {tasks} t JOIN {workers} w "
    "ON w.id = (t.lease >> 36) WHERE t.id = # AND t.state = 1 AND NOT (" WHY_ALIVE ")",
    "SELECT 12, 'orphaned', NULL, (t.lease >> 36), NULL, t.claimed_at, NULL " WHY_TASK
    "AND t.state = 1 AND NOT EXISTS (SELECT 1 FROM {workers} w WHERE w.id = (t.lease >> 36))",
    "SELECT 13, 'cancelling', " WHY_NONE " FROM {tasks} t JOIN {cancels} c ON c.task_id = t.id "
    "AND c.lease = t.lease WHERE t.id = # AND t.state = 1",
    "SELECT 14, 'followed', NULL, COUNT(*), NULL, MIN(f.created_at), NULL FROM {tasks} t JOIN {followups} f "
    "ON {same_key} WHERE t.id = # GROUP BY t.id",
    /* It waits for a time. */
    "SELECT 20, 'expired', NULL, NULL, NULL, {moment:" WHY_EXPIRES "}, NULL " WHY_WAITS "AND " WHY_MAY_EXPIRE
    "AND " WHY_EXPIRES " <= {us:{clock}}",
    "SELECT 30, CASE WHEN t.attempts > 0 THEN 'retry' ELSE 'later' END, NULL, t.attempts, t.max_retries, "
    "t.run_at, CASE WHEN t.attempts > 0 THEN " WHY_ERROR " END " WHY_WAITS "AND {us:t.run_at} > {us:{clock}}",
    /* Somebody wants it to wait. */
    "SELECT 40, 'paused', {words:q.name}, NULL, NULL, q.paused_at, CASE WHEN q.paused_why IS NOT NULL THEN "
    "{words:q.paused_why} END " WHY_SETTINGS "AND q.paused_at IS NOT NULL",
    "SELECT 44, 'held', {words:g.queue}, NULL, NULL, g.not_before, NULL FROM {tasks} t JOIN {gates} g ON "
    "g.queue = t.queue OR g.queue = {base:t.queue} WHERE t.id = # AND t.state = 0 AND {us:g.not_before} > "
    "{us:{clock}}",
    /* Its group is in order, and another task of it has begun, or has died and halts it. */
    "SELECT 45, 'halted', {words:t.queue}, h.id, NULL, h.finished_at, CASE WHEN h.error IS NOT NULL THEN "
    "{words:h.error} END " WHY_HEAD("finished") "AND q.ordered = 2 AND h.state = 3",
    "SELECT 46, 'order', {words:t.queue}, h.id, NULL, h.run_at, CASE h.state WHEN 1 THEN 'running' ELSE "
    "'waiting' END " WHY_HEAD("tasks") "AND q.ordered > 0 AND h.id <> t.id",
    /* As many run as may. */
    "SELECT 50, 'limited', {words:t.queue}, " WHY_OF_GROUP(
        "COUNT(*)") ", q.max_running, NULL, "
                    "{words:" WHY_OF_GROUP(
                        "GROUP_CONCAT(r.id)") "} " WHY_SETTINGS "AND t.queue <> {base:t.queue} "
                                              "AND (q.name = t.queue OR (q.name = {each:{base:t.queue}} AND "
                                              "NOT EXISTS (SELECT 1 FROM {queues} o "
                                              "WHERE o.name = t.queue AND o.max_running IS NOT NULL))) AND "
                                              "q.max_running <= " WHY_OF_GROUP("COUNT(*)"),
    "SELECT 51, 'limited', {words:q.name}, " WHY_OF_QUEUE(
        "COUNT(*)") ", q.max_running, NULL, "
                    "{words:" WHY_OF_QUEUE(
                        "GROUP_CONCAT(r.id)") "} " WHY_SETTINGS "AND q.name = {base:t.queue} "
                                              "AND q.max_running <= " WHY_OF_QUEUE("COUNT(*)"),
    /* As many have started as may. */
    "SELECT 60, 'rate', " WHY_RATE("t.queue") WHY_ITS_GROUP("rate"),
    "SELECT 61, 'rate', " WHY_RATE("{base:t.queue}") "AND q.name = {base:t.queue}",
    /* Nobody could run it. */
    "SELECT 70, 'no-worker', NULL, COUNT(w.id), NULL, MAX(w.beat_at), NULL FROM {tasks} t LEFT JOIN "
    "{workers} w "
    "ON 1 = 1 WHERE t.id = # AND t.state = 0 AND NOT EXISTS (SELECT 1 FROM {workers} w WHERE " WHY_ALIVE
    ") GROUP BY t.id",
    "SELECT 71, 'not-served', {words:{base:t.queue}}, COUNT(*), NULL, NULL, NULL FROM {tasks} t JOIN "
    "{workers} w "
    "ON " WHY_ALIVE
    " WHERE t.id = # AND t.state = 0 AND NOT EXISTS (SELECT 1 FROM {workers} w WHERE " WHY_ALIVE
    " AND " WHY_SERVES ") GROUP BY t.id, t.queue",
    "SELECT 72, 'no-handler', {words:t.type}, COUNT(*), NULL, NULL, NULL FROM {tasks} t JOIN {workers} w "
    "ON " WHY_ALIVE " AND " WHY_SERVES " WHERE t.id = # AND t.state = 0 AND NOT EXISTS (SELECT 1 FROM "
    "{workers} w WHERE " WHY_ALIVE " AND " WHY_SERVES " AND " WHY_HANDLES ") GROUP BY t.id, t.type",
    /* It is about to run. */
    "SELECT 80, 'in-line', {words:t.queue}, " WHY_BEFORE("e.priority < m.priority") " + " WHY_BEFORE(
        "e.priority = m.priority AND e.run_at < m.run_at") " + " WHY_BEFORE("e.priority = m.priority AND "
                                                                            "e.run_at = m.run_at AND e.id < "
                                                                            "m.id") ", (SELECT "
                                                                                    "COALESCE(SUM(CASE WHEN "
                                                                                    "w.concurrency > "
                                                                                    "w.running THEN "
                                                                                    "w.concurrency - "
                                                                                    "w.running ELSE 0 END), "
                                                                                    "0) "
                                                                                    "FROM {workers} w JOIN "
                                                                                    "{tasks} t ON t.id = # "
                                                                                    "WHERE " WHY_ALIVE
                                                                                    " AND " WHY_SERVES
                                                                                    " AND " WHY_HANDLES
                                                                                    "), t.run_at, "
                                                                                    "NULL " WHY_WAITS
                                                                                    "AND {us:t.run_at} <= "
                                                                                    "{us:{clock}}",
    /* It has ended. */
    "SELECT 90, CASE t.state WHEN 2 THEN 'done' WHEN 3 THEN 'dead' ELSE 'cancelled' END, NULL, t.attempts, "
    "t.max_retries + 1, t.finished_at, " WHY_ERROR " FROM {finished} t WHERE t.id = # "
    "AND NOT EXISTS (SELECT 1 FROM {tasks} l WHERE l.id = #)",
    "SELECT 99, 'not-here', " WHY_NONE " FROM (SELECT 1 AS one) x WHERE NOT EXISTS (SELECT 1 FROM {tasks} t "
    "WHERE t.id = #) AND NOT EXISTS (SELECT 1 FROM {finished} t WHERE t.id = #)",
};

NQ_PRIVATE void nq_why_template(nq_buf *out, nq_id id)
{
    nq_buf_str(out, "SELECT reason, name, n, most, {clock_of:at} AS at, note, {us:at} AS at_us FROM (\n");
    for (size_t i = 0; i < sizeof why_branches / sizeof *why_branches; i++) {
        const char *p = why_branches[i];
        nq_buf_str(out, i ? "\nUNION ALL " : "");
        for (const char *hole; (hole = strchr(p, '#')); p = hole + 1) {
            nq_buf_add(out, p, (size_t)(hole - p));
            nq_buf_fmt(out, "%lld", (long long)id);
        }
        nq_buf_str(out, p);
    }
    nq_buf_str(out, "\n) why ORDER BY ord");
}
