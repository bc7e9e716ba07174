/* SPDX-License-Identifier: MIT */
/* The tables, and the columns of a task: the one place that names them all. CONTRIBUTING.md: how to add one.
 */
#ifndef NQ_STORE_COLUMNS_H
#define NQ_STORE_COLUMNS_H

/* The tables that there are, by the names of their tokens, which are those of the tables without the prefix;
 * and those that former versions had. {schema} is dropped before all others. */
#define NQ_TABLES(X)                                                                                         \
    X(schema)                                                                                                \
    X(tasks)                                                                                                 \
    X(finished)                                                                                              \
    X(followups)                                                                                             \
    X(workers)                                                                                               \
    X(cancels)                                                                                               \
    X(progress)                                                                                              \
    X(gates)                                                                                                 \
    X(schedules)                                                                                             \
    X(firings)                                                                                               \
    X(queues)                                                                                                \
    X(windows)                                                                                               \
    X(attempts)                                                                                              \
    X(results)                                                                                               \
    X(tags)                                                                                                  \
    X(logs)                                                                                                  \
    X(minutes)
#define NQ_TABLES_BEFORE(X) X(processors)

/*
 * The columns of {tasks}: X(column, kind, goes, default, field of nq_task, field of nq_info).
 *
 * kind: how a claim reads it.
 *   ID, INT, COUNT (never negative), ATTEMPTS (a task shows the one that begins), MS (a duration, shown in
 *   microseconds), TIME, NAME (a text), TEXT (a text or NULL), HEADERS (a text of which the headers are
 *   read); NONE: in its own way, or not at all
 * goes: where it goes when the task does.
 *   OWN    each statement says what becomes of it
 *   KEPT   to {finished} and back
 *   GIVEN  to {followups} too, with the task that is to come
 *   SAID   the same, and whoever enqueues says it, in nq_new's field of this name
 *   FREE   the same, and no check of the tables restricts it, so that a task that is buried keeps it as it is
 * default: of the column. An INSERT in which each row has it leaves the column out.
 */
#define NQ_COLUMNS(X)                                                                                        \
    X(id, ID, KEPT, -, id, id)                                                                               \
    X(queue, NAME, SAID, "default", queue, queue)                                                            \
    X(type, NAME, SAID, "", type, type)                                                                      \
    X(priority, INT, SAID, 0, priority, priority)                                                            \
    X(max_retries, COUNT, SAID, 10, max_retries, max_retries)                                                \
    X(timeout_ms, MS, SAID, 60000, timeout_us, timeout_us)                                                   \
    X(created_at, TIME, GIVEN, -, created_at_us, created_at_us)                                              \
    X(run_at, TIME, OWN, -, run_at_us, run_at_us)                                                            \
    X(generation, COUNT, KEPT, -, generation, generation)                                                    \
    X(attempts, ATTEMPTS, OWN, -, attempt, attempts)                                                         \
    X(crashes, COUNT, OWN, -, crashes, crashes)                                                              \
    X(error, TEXT, OWN, -, last_error, error)                                                                \
    X(headers, HEADERS, FREE, NULL, headers, headers)                                                        \
    X(payload, NONE, GIVEN, -, -, -)                                                                         \
    X(unique_key, NONE, GIVEN, -, -, -)                                                                      \
    X(state, NONE, OWN, -, -, -)                                                                             \
    X(lease, NONE, OWN, -, -, -)                                                                             \
    X(claimed_at, NONE, OWN, -, -, -)

/* What a list is made of: NQ_IF_..._##kind or ##goes(what) is what, or nothing. */
#define NQ_IF_READ_ID(...)       __VA_ARGS__
#define NQ_IF_READ_INT(...)      __VA_ARGS__
#define NQ_IF_READ_COUNT(...)    __VA_ARGS__
#define NQ_IF_READ_ATTEMPTS(...) __VA_ARGS__
#define NQ_IF_READ_MS(...)       __VA_ARGS__
#define NQ_IF_READ_TIME(...)     __VA_ARGS__
#define NQ_IF_READ_NAME(...)     __VA_ARGS__
#define NQ_IF_READ_TEXT(...)     __VA_ARGS__
#define NQ_IF_READ_HEADERS(...)  __VA_ARGS__
#define NQ_IF_READ_NONE(...)

#define NQ_IF_BYTES_ID(...)
#define NQ_IF_BYTES_INT(...)
#define NQ_IF_BYTES_COUNT(...)
#define NQ_IF_BYTES_ATTEMPTS(...)
#define NQ_IF_BYTES_MS(...)
#define NQ_IF_BYTES_TIME(...)
#define NQ_IF_BYTES_NAME(...)    __VA_ARGS__
#define NQ_IF_BYTES_TEXT(...)    __VA_ARGS__
#define NQ_IF_BYTES_HEADERS(...) /* nq_headers_room says how many */
#define NQ_IF_BYTES_NONE(...)

#define NQ_IF_MOVED_OWN(...)
#define NQ_IF_MOVED_KEPT(...)  __VA_ARGS__
#define NQ_IF_MOVED_GIVEN(...) __VA_ARGS__
#define NQ_IF_MOVED_SAID(...)  __VA_ARGS__
#define NQ_IF_MOVED_FREE(...)  __VA_ARGS__

#define NQ_IF_GIVEN_OWN(...)
#define NQ_IF_GIVEN_KEPT(...)
#define NQ_IF_GIVEN_GIVEN(...) __VA_ARGS__
#define NQ_IF_GIVEN_SAID(...)  __VA_ARGS__
#define NQ_IF_GIVEN_FREE(...)  __VA_ARGS__

#define NQ_IF_SAID_OWN(...)
#define NQ_IF_SAID_KEPT(...)
#define NQ_IF_SAID_GIVEN(...)
#define NQ_IF_SAID_SAID(...) __VA_ARGS__
#define NQ_IF_SAID_FREE(...) __VA_ARGS__

#define NQ_IF_FREE_OWN(...)
#define NQ_IF_FREE_KEPT(...)
#define NQ_IF_FREE_GIVEN(...)
#define NQ_IF_FREE_SAID(...)
#define NQ_IF_FREE_FREE(...) __VA_ARGS__

/* The expression that reads a column of a kind, of table alias t. */
#define NQ_SQL_ID(column)       "t." #column
#define NQ_SQL_INT(column)      "t." #column
#define NQ_SQL_COUNT(column)    "t." #column
#define NQ_SQL_ATTEMPTS(column) "t." #column
#define NQ_SQL_MS(column)       "t." #column
#define NQ_SQL_TIME(column)     "{us:t." #column "}"
#define NQ_SQL_NAME(column)     "{bytes:t." #column "}"
#define NQ_SQL_TEXT(column)     "{bytes:t." #column "}"
#define NQ_SQL_HEADERS(column)  "{short:t." #column "}"

/*
 * A claimed task as nq_claimed_add reads it: FROM {tasks} t is the caller's. Payloads above NQ_INLINE_BYTES
 * are left out. The places of its columns are NQ_AT_...
 */
#define NQ_INLINE_BYTES "16384"
#define NQ_CLAIMED_COLUMNS                                                                                   \
    "{size:t.payload}, CASE WHEN {size:t.payload} <= " NQ_INLINE_BYTES                                       \
    " THEN {bytes:t.payload} END" NQ_COLUMNS(NQ_CLAIMED_COLUMN)
#define NQ_CLAIMED_COLUMN(column, kind, ...) NQ_IF_READ_##kind(", " NQ_SQL_##kind(column))
#define NQ_CLAIMED_AT(column, kind, ...)     NQ_IF_READ_##kind(NQ_AT_##column, )
enum nq_claimed_at { NQ_AT_SIZE, NQ_AT_PAYLOAD, NQ_COLUMNS(NQ_CLAIMED_AT) NQ_AT_COUNT };

/* Those that a task keeps when it moves from {tasks} to {finished}, or back; and those that a follow-up has.
 * A comma is behind each: run_at, at least, comes next. */
#define NQ_MOVED_COLUMNS                            NQ_COLUMNS(NQ_MOVED_COLUMN)
#define NQ_MOVED_COLUMN(column, kind, goes, ...)    NQ_IF_MOVED_##goes(#column ", ")
#define NQ_FOLLOWUP_COLUMNS                         NQ_COLUMNS(NQ_FOLLOWUP_COLUMN)
#define NQ_FOLLOWUP_COLUMN(column, kind, goes, ...) NQ_IF_GIVEN_##goes(#column ", ")

/* Follow-up x, by what stands first in its headers (nq_headers_unique), replaces or is appended to what is
 * there of its task: unlike the others no run that begins later does without it. */
#define NQ_FOLLOWUP_SAYS(x)     "SUBSTR(COALESCE(" x ".headers, ''), 1, 17)"
#define NQ_FOLLOWUP_REPLACES(x) "(" NQ_FOLLOWUP_SAYS(x) " = 'nq-unique: replac')"
#define NQ_FOLLOWUP_APPENDS(x)  "(" NQ_FOLLOWUP_SAYS(x) " = 'nq-unique: append')"
#define NQ_RENEWS(x)            "(" NQ_FOLLOWUP_SAYS(x) " IN ('nq-unique: replac', 'nq-unique: append'))"

/* Those that nq_new says: its fields, their places, their names and values for an INSERT. */
#define NQ_FIELD_INT                           int
#define NQ_FIELD_COUNT                         int
#define NQ_FIELD_MS                            int64_t
#define NQ_FIELD_NAME                          const char *
#define NQ_FIELD_TEXT                          const char *
#define NQ_FIELD_HEADERS                       char *
#define NQ_SAID_FIELD(column, kind, goes, ...) NQ_IF_SAID_##goes(NQ_FIELD_##kind column;)
#define NQ_SAID_AT(column, kind, goes, ...)    NQ_IF_SAID_##goes(NQ_SAID_##column, )
enum nq_said { NQ_COLUMNS(NQ_SAID_AT) NQ_SAID_COUNT };
#define NQ_SAID_NAME(column, kind, goes, ...) NQ_IF_SAID_##goes(#column ", ")
#define NQ_SAID_MARK(column, kind, goes, ...) NQ_IF_SAID_##goes("?, ")
#define NQ_VALUE_INT(v)                       nq_int(v)
#define NQ_VALUE_COUNT(v)                     nq_int(v)
#define NQ_VALUE_MS(v)                        nq_int(v)
#define NQ_VALUE_NAME(v)                      nq_text(v)
#define NQ_VALUE_TEXT(v)                      ((v) ? nq_text(v) : nq_null())
#define NQ_VALUE_HEADERS(v)                   ((v) ? nq_text(v) : nq_null())

#endif
