/* SPDX-License-Identifier: MIT */
/* SQLite: what stands for the tokens of templates. */
#include "sqlite_driver.h"

/* A unique key of table x, as the expression of the indexes. */
#define SQLITE_KEY(x)                                                                                        \
    "CASE typeof(" x ".unique_key) WHEN 'integer' THEN CAST(" x ".payload AS BLOB) "                         \
    "ELSE CAST(" x ".unique_key AS BLOB) END"

/* From one name to the next, each by one look into the index. */
#define SQLITE_QUEUES(table)                                                                                 \
    "WITH RECURSIVE k (q) AS (SELECT (SELECT MIN(n.queue) FROM " table " n WHERE n.queue >= ?1 AND n.queue " \
    "< ?2) UNION ALL SELECT (SELECT MIN(n.queue) FROM " table " n WHERE n.queue > k.q AND n.queue < ?2) "    \
    "FROM k WHERE k.q IS NOT NULL LIMIT ?3) SELECT q FROM k WHERE q IS NOT NULL"

NQ_PRIVATE const nq_fragment nq_sqlite_fragments[] = {
    {"now", "nanoq_now()"},
    {"after", "(nanoq_now() + ?)"},
    {"at", "?"},
    {"us", "$"},
    {"no_moment", "typeof($) <> 'integer'"},
    {"bytes", "CAST($ AS BLOB)"}, /* text is measured and cut in characters otherwise */
    {"short", "CASE WHEN $ IS NOT NULL THEN SUBSTR(CAST($ AS BLOB), 1, 4097) END"},
    /* which is known of bytes without reading them */
    {"size", "CASE typeof($) WHEN 'blob' THEN length($) ELSE length(CAST($ AS BLOB)) END"},
    {"exact", "$"},
    {"settings_print", "0"}, /* it has nothing to compute one with; the rows are as near */
    {"least", "MIN"},
    {"lock", ""},
    {"lock_free", ""},
    {"by_id", ""},
    {"by_key", ""},
    {"by_followed", ""},
    /* from one key to the next, each by one look into the index */
    {"followed_firsts",
     "(WITH RECURSIVE k (id) AS (SELECT (SELECT n.id FROM {followups} n ORDER BY n.type, " SQLITE_KEY(
         "n") ", n.id "
              "LIMIT 1) UNION ALL SELECT COALESCE((SELECT n.id FROM {followups} n WHERE n.type = p.type "
              "AND " SQLITE_KEY("n") " > " SQLITE_KEY("p") " ORDER BY " SQLITE_KEY(
                  "n") ", n.id LIMIT 1), (SELECT n.id FROM {followups} n WHERE "
                       "n.type > p.type ORDER BY n.type, " SQLITE_KEY(
                           "n") ", n.id LIMIT 1)) FROM k CROSS JOIN {followups} p ON "
                                "p.id = k.id) SELECT id FROM k WHERE id IS NOT NULL)"},
    {"claim", ""},
    {"later_than", "(+run_at >= ? AND (run_at, id) > (?, ?))"},
    {"with_header", "? || COALESCE(headers, '')"},
    {"next_queues", "SELECT MIN(queue) FROM {tasks} WHERE queue > ?"},
    {"running_in",
     "(SELECT ? AS behind, ? AS queue) g CROSS JOIN {tasks} t ON t.queue = g.queue AND t.state = 1"},
    {"delete_by_key", "DELETE FROM"},
    {"at_most", ""},
    /* as the tables' defaults have it: other programs have no nanoq_now() */
    {"clock", "(CAST(strftime('%s','now') AS INTEGER)*1000000 + "
              "CAST(substr(strftime('%f','now'),4) AS INTEGER)*1000)"},
    {"clock_of", "strftime('%Y-%m-%dT%H:%M:%SZ', $ / 1000000, 'unixepoch')"},
    {"moment", "$"},
    {"words", "SUBSTR(CAST($ AS TEXT), 1, 300)"},
    {"base", "CASE WHEN instr($, '//') > 1 THEN substr($, 1, instr($, '//') - 1) ELSE $ END"},
    {"regrouped", "CASE WHEN instr($, '//') > 1 THEN ? || substr($, instr($, '//')) ELSE ? END"},
    {"at_once", ""},
    {"each", "($ || '//*')"},
    {"behind", "($ || '//')"},
    {"beyond", "($ || '/0')"},
    {"listed", "(',' || CAST($ AS TEXT) || ',')"},
    {"lines", "('\n' || CAST($ AS TEXT) || '\n')"},
    {"number", "CAST($ AS INTEGER)"},
    {"raw", "CAST($ AS BLOB)"},
    {"by_rowid", "NOT INDEXED"},
    {"by_claim", "INDEXED BY \"{prefix}tasks_claim\""},
    {"by_history", "INDEXED BY \"{prefix}finished_history\""},
    {"by_retention", "INDEXED BY \"{prefix}finished_retention\""},
    {"by_type", "INDEXED BY \"{prefix}finished_by_type\""},
    {"then_join", "CROSS JOIN"},
    {"begins", "($ >= ? AND $ < ?)"},
    {"live_queues", SQLITE_QUEUES("{tasks}")},
    {"ended_queues", SQLITE_QUEUES("{finished}")},
    {"same_key", "t.unique_key IS NOT NULL AND t.type = f.type AND " SQLITE_KEY("t") " = " SQLITE_KEY("f")},
    {"keyed", "$.unique_key IS NOT NULL AND $.type = ? AND " SQLITE_KEY("$") " = ?"},
    {"on_taken", "ON CONFLICT ($) DO UPDATE SET"},
    {"given", "excluded.$"},
    {"strange", "(typeof(priority) <> 'integer' OR priority NOT BETWEEN -100 AND 100 "
                "OR typeof(run_at) NOT IN ('integer', 'real') OR run_at < -9223372036854775808)"},
    {NULL, NULL}};
