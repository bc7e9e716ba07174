/* SPDX-License-Identifier: MIT */
/* By which index tasks are found: what the library sends, as the server plans it; and what SQLite makes of
 * each of its accesses. */
#include "search.h"

enum { EXPLAIN_TASKS = 4000 };

/* Half of them ended, few of these dead; two run. */
static nq *search_explain_open(void)
{
    static nq_task_spec specs[EXPLAIN_TASKS];
    static const char *const few[] = {"few"};
    const char *ended = "id % 2 = 0";
    t_ids_in_a_row();
    nq *q = t_open();
    for (int i = 0; i < EXPLAIN_TASKS; i++)
        specs[i] = *NQ_TASK(.type = i % 3 ? "a" : "b",
                            .queue = i % 5   ? "q1"
                                     : i % 7 ? "q2//g"
                                             : "q3",
                            .unique = NQ_UNIQUE_NONE, .tags = few, .ntags = i % 50 == 1);
    T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, EXPLAIN_TASKS, NULL, NULL, &t_last));
    t_sql("INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, "
          "max_retries, "
          "timeout_ms, created_at, finished_at, type, payload, headers) SELECT id, queue, CASE WHEN id %% "
          "400 = 0 THEN 3 ELSE "
          "2 END, priority, run_at, 0, 0, 0, 0, 60000, created_at, created_at, CASE WHEN id %% 1000 = 0 THEN "
          "'rare' ELSE type "
          "END, payload, headers FROM nanoq_tasks WHERE %s",
          ended);
    t_sql("DELETE FROM nanoq_tasks WHERE %s", ended);
    t_sql("UPDATE nanoq_tasks SET state = 1, lease = 5 WHERE id IN (11, 13)");
    if (T_MYSQL) {
        t_run(t_side(), "ANALYZE TABLE nanoq_tasks, nanoq_finished, nanoq_tags");
        /* What is explained there is to be planned as in a session of the library's. */
        t_run(t_side(), "SET @nanoq=1/*M!110002 ,SESSION optimizer_scan_setup_cost=100*/");
    }
    return q;
}

/* ---- What is sent, from the server's own log */

/* Lines of EXPLAIN: id|select_type|table|type|possible_keys|key|key_len|ref|rows|Extra; MySQL has partitions
 * before the type and filtered before Extra. Each that reads tasks does so by an index, and only what another
 * index than the primary key led to is sorted. True: by that one. */
static bool search_explain_plan(char *plan, const char *sql, const char *wanted, bool named)
{
    bool by = false;
    char *save = NULL;
    for (char *line = strtok_r(plan, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *cell[12] = {0}, *rest = line;
        for (int i = 0; i < 12 && rest; i++)
            cell[i] = strsep(&rest, "|");
        const char *extra = t_is_mariadb ? cell[9] : cell[11];
        if (!extra || (strcmp(cell[2], "i") != 0 && strcmp(cell[2], "g") != 0))
            continue;
        const char *type = t_is_mariadb ? cell[3] : cell[4], *key = t_is_mariadb ? cell[5] : cell[6];
        /* What asks for any 500 rows gets the first ones; MariaDB 11 calls that so, and not by the primary
         * key. */
        if (strcmp(type, "ALL") == 0 && strstr(sql, "(PRIMARY) WHERE 1 = 1 LIMIT"))
            continue;
        ck_assert_msg(strcmp(type, "ALL") != 0, "%s\nreads the table", sql);
        ck_assert_msg(!named || cell[2][0] != 'i' || strcmp(type, "range") == 0,
                      "%s\nreads more than the ids: %s", sql, type);
        ck_assert_msg(strcmp(key, "PRIMARY") != 0 || !strstr(extra, "filesort"), "%s\nsorts the table", sql);
        by = by || strcmp(key, wanted) == 0;
        /* MySQL guesses that a few queues are most of a small table, and reads all of its index. */
        if (t_is_mariadb && strcmp(key, wanted) == 0 && strcmp(wanted, "PRIMARY") != 0)
            ck_assert_msg(strcmp(type, "index") != 0, "%s\nreads the whole index", sql);
    }
    return by;
}

static void search_explain_sent(nq *q, nq_filter f, const char *wanted)
{
    struct search_seen seen = {.n = 0};
    bool by = false;
    f.size = sizeof f;
    t_log_begin();
    T_OK(nq_list(q, &(nq_list_options){.size = sizeof(nq_list_options), .filter = &f, .look = 500},
                 search_see, &seen, &t_last));
    char *log =
        t_log_end("command_type = 'Execute' AND argument LIKE '%SELECT%' AND argument LIKE '%nanoq_%'");
    char *save = NULL;
    for (char *sql = strtok_r(log, "\n", &save); sql; sql = strtok_r(NULL, "\n", &save)) {
        if (strstr(sql, "GROUP BY queue"))
            continue;
        char *plan = t_text(t_side(), "EXPLAIN %s%s", t_is_mariadb ? "" : "FORMAT=TRADITIONAL ", sql);
        by = search_explain_plan(plan, sql, wanted, f.nids > 0) || by;
        free(plan);
    }
    ck_assert_msg(by, "nothing by %s", wanted);
    free(log);
}

START_TEST(what_is_sent_is_planned_well)
{
    nq *q = search_explain_open();
    search_explain_sent(q, (nq_filter){.states = 0}, "PRIMARY");
    search_explain_sent(q, (nq_filter){.states = NQ_STATE_BIT(NQ_STATE_RUNNING)}, "claim");
    search_explain_sent(q, (nq_filter){.worker = "nobody"}, "claim");
    search_explain_sent(q, (nq_filter){.queues = SEARCH_NAMES("q2", "q3*"), .nqueues = 2, .error = "x"},
                        "claim");
    search_explain_sent(q, (nq_filter){.queues = SEARCH_NAMES("q2", "q3*"), .nqueues = 2, .error = "x"},
                        "history");
    search_explain_sent(q, (nq_filter){.states = NQ_STATE_BIT(NQ_STATE_DEAD)}, "retention");
    search_explain_sent(q, (nq_filter){.time = NQ_BY_FINISHED, .since_us = INT64_C(4000000000000000)},
                        "retention");
    search_explain_sent(
        q, (nq_filter){.types = SEARCH_NAMES("rare"), .ntypes = 1, .states = NQ_STATE_BIT(NQ_STATE_DONE)},
        "by_type");
    search_explain_sent(
        q, (nq_filter){.types = SEARCH_NAMES("ra*"), .ntypes = 1, .states = NQ_STATE_BIT(NQ_STATE_DONE)},
        "by_type");
    search_explain_sent(q, (nq_filter){.tags = SEARCH_NAMES("few"), .ntags = 1}, "PRIMARY");
    search_explain_sent(q, (nq_filter){.text = "x"}, "PRIMARY");
    static nq_id ids[NQ_MAX_FILTER_IDS];
    for (nq_id i = 0; i < NQ_MAX_FILTER_IDS; i++)
        ids[i] = 3 + 5 * i;
    search_explain_sent(q, (nq_filter){.ids = ids, .nids = 5}, "PRIMARY");
    search_explain_sent(q, (nq_filter){.ids = ids, .nids = 400, .text = "x"}, "PRIMARY");
    nq_close(q);
}
END_TEST

START_TEST(names_of_queues_are_jumped_over)
{
    nq *q = search_explain_open();
    static const char *const tables[] = {"nanoq_tasks FORCE INDEX (claim)",
                                         "nanoq_finished FORCE INDEX (history)"};
    for (int i = 0; i < 2; i++) {
        char *plan = t_text(t_side(),
                            "EXPLAIN %sSELECT queue FROM %s WHERE queue >= '' AND queue < 'x' GROUP BY queue "
                            "ORDER BY queue LIMIT 64",
                            t_is_mariadb ? "" : "FORMAT=TRADITIONAL ", tables[i]);
        ck_assert_msg(strstr(plan, "index for group-by"), "%s", plan);
        free(plan);
    }
    nq_close(q);
}
END_TEST

static int search_explain_count(const nq_val cols[], size_t ncols, void *arg)
{
    char text[24] = "";
    (void)ncols;
    memcpy(text, cols[1].p, cols[1].n < sizeof text ? cols[1].n : sizeof text - 1); /* no NUL ends it */
    *(long *)arg = strtol(text, NULL, 10);
    return 0;
}

static int search_explain_steps(nq_conn *c, long *n, nq_err *err)
{
    return nq_sql_once(c, "SHOW SESSION STATUS LIKE 'Handler_read_next'", NULL, 0, search_explain_count, n,
                       err);
}

/* The names of queues, then whole rows of the table; and again, on one connection. */
static int search_explain_again(nq_conn *c, void *arg, nq_err *err)
{
    long *steps = arg;
    nq_names names = {0};
    bool any;
    int rc = NQ_OK;
    for (int i = 0; i < 3 && rc == NQ_OK; i++) {
        long before = 0;
        rc = search_explain_steps(c, &before, err);
        if (rc == NQ_OK)
            rc = nq_names_read(c, &names, true, nq_text(""), "\x7f", 64, err);
        if (rc == NQ_OK)
            rc = search_explain_steps(c, &steps[i], err);
        steps[i] -= before;
        if (rc == NQ_OK)
            rc = nq_sql(c, "SELECT payload FROM {tasks} WHERE id = 11", NULL, 0, nq_row_any, &any, NULL, err);
    }
    nq_names_free(&names);
    return rc;
}

START_TEST(names_are_jumped_over_after_rows_were_read)
{
    nq *q = search_explain_open();
    long steps[3] = {0};
    T_OK(nq_store_do(nq_store_of(q), search_explain_again, steps, &t_last));
    for (int i = 0; i < 3; i++)
        ck_assert_int_lt(steps[i], 100);
    nq_close(q);
}
END_TEST

/* ---- Each access on SQLite */

static void search_explain_access(const nq_store *s, nq_filter f, bool live, enum nq_access by,
                                  const char *says)
{
    nq_where w;
    nq_names names = {.all = calloc(1, sizeof *names.all), .n = 1};
    nq_query query = {0};
    nq_buf sql = {0};
    f.size = sizeof f;
    T_OK(nq_where_init(&w, &f, true, &t_last));
    strcpy(names.all[0], "q1");
    nq_plan p = {.where = &w, .names = {names, names}};
    nq_buf_str(&query.sql, "EXPLAIN QUERY PLAN SELECT i.id FROM ");
    nq_plan_from(&p, live, by, &query);
    nq_where_add(&w, live, 0, &query);
    nq_buf_str(&query.sql,
               by == NQ_ACCESS_ID ? " AND i.id > 5 ORDER BY i.id LIMIT 10" : " ORDER BY i.id LIMIT 10");
    ck_assert_int_eq(nq_sql_expand(s, query.sql.p, &sql), NQ_OK);
    char *plan = t_text(t_side(), "%s", sql.p);
    ck_assert_msg(strstr(plan, says) && strstr(plan, "SEARCH i"), "%s\n%s", sql.p, plan);
    ck_assert_msg(by != NQ_ACCESS_ID || !strstr(plan, "TEMP B-TREE"), "%s\n%s", sql.p, plan);
    free(plan);
    nq_buf_free(&sql);
    nq_query_free(&query);
    nq_where_free(&w);
    nq_names_free(&names);
}

START_TEST(each_access_is_by_its_index)
{
    nq *q = search_explain_open();
    const nq_store *s = nq_store_of(q);
    const nq_filter queue = {.queues = SEARCH_NAMES("q1", "q2*"), .nqueues = 2, .error = "x"};
    search_explain_access(s, queue, true, NQ_ACCESS_CLAIM, "tasks_claim (queue=? AND state=?");
    search_explain_access(s, queue, false, NQ_ACCESS_HISTORY, "finished_history (queue=? AND state=?");
    search_explain_access(
        s, (nq_filter){.queues = SEARCH_NAMES("q1"), .nqueues = 1, .time = NQ_BY_FINISHED, .since_us = 5},
        false, NQ_ACCESS_HISTORY, "finished_history (queue=? AND state=? AND finished_at>?");
    search_explain_access(s, (nq_filter){.time = NQ_BY_FINISHED, .since_us = 5}, false, NQ_ACCESS_RETENTION,
                          "finished_retention (state=? AND finished_at>?");
    search_explain_access(s, (nq_filter){.types = SEARCH_NAMES("a", "b"), .ntypes = 2}, false, NQ_ACCESS_TYPE,
                          "finished_by_type (type=?");
    search_explain_access(s, (nq_filter){.types = SEARCH_NAMES("a*"), .ntypes = 1}, false, NQ_ACCESS_TYPE,
                          "finished_by_type (type>? AND type<?");
    for (int live = 0; live < 2; live++) {
        search_explain_access(s, queue, live, NQ_ACCESS_ID, "USING INTEGER PRIMARY KEY");
        search_explain_access(s, (nq_filter){.types = SEARCH_NAMES("a"), .ntypes = 1, .text = "x"}, live,
                              NQ_ACCESS_ID, "USING INTEGER PRIMARY KEY");
    }
    nq_close(q);
}
END_TEST

Suite *suite_search_explain(void)
{
    Suite *s = suite_create("search_explain");
    TCase *c = t_case(s, "search_explain", 60);
    if (T_SQLITE)
        tcase_add_test(c, each_access_is_by_its_index);
    if (T_MYSQL) {
        tcase_add_test(c, what_is_sent_is_planned_well);
        tcase_add_test(c, names_of_queues_are_jumped_over);
        tcase_add_test(c, names_are_jumped_over_after_rows_were_read);
    }
    return s;
}
