/* SPDX-License-Identifier: MIT */
/* Schedules: set, fired by whoever comes first, each time once, through nights when clocks change and days
 * without a worker. The handle's clock is set, so that they take no time. */
#include <signal.h>

#include "../../src/core/zone.h"
#include "suites.h"

#define SCH_TASK(...)                 (&(nq_task_spec){.size = sizeof(nq_task_spec), __VA_ARGS__})
#define SCH(...)                      (&(nq_schedule){.size = sizeof(nq_schedule), __VA_ARGS__})
#define SCH_AT(y, m, d, hour, minute) sch_at(y, m, d, hour, minute)

static int64_t sch_at(int y, int m, int d, int hour, int minute)
{
    return NQ_SECONDS(nq_days_from_civil(y, m, d) * 86400 + hour * 3600 + minute * 60);
}

static void sch_clock(nq *q, int64_t us)
{
    T_OK(nq_test_clock(q, us, &t_last));
}

static void sch_set(nq *q, const char *name, const char *spec, const char *zone, int misfire, int overlap)
{
    T_OK(nq_schedule_set(q, NQ_OWN_TX,
                         SCH(.name = name, .spec = spec, .zone = zone, .task = SCH_TASK(.type = name),
                             .misfire = misfire, .overlap = overlap),
                         &t_last));
}

/* Look once; how many tasks of this type there are. */
static int64_t sch_fire(nq *q, const char *type)
{
    static nq_scheduler s;
    T_OK(nq_store_fire(nq_store_of(q), &s, &t_last));
    return t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = '%s'", type);
}

static int sch_note(const nq_info *info, void *udata)
{
    int64_t **at = udata;
    ck_assert_str_eq(info->schedule, info->type);
    *(*at)++ = info->due_at_us;
    return 0;
}

/* Let it go from minute to minute, and say when something came. Each time is a task of its own. */
static size_t sch_night(nq *q, const char *name, int64_t from, int64_t to, int64_t out[])
{
    int64_t *at = out;
    for (int64_t t = from; t <= to; t += NQ_MINUTES(10)) {
        sch_clock(q, t);
        sch_fire(q, name);
    }
    T_OK(nq_list(
        q, &(nq_list_options){.size = sizeof(nq_list_options), .types = &name, .ntypes = 1, .limit = 1000},
        sch_note, &at, &t_last));
    return (size_t)(at - out);
}

START_TEST(each_time_comes_once_through_the_nights_when_clocks_change)
{
    static const struct {
        const char *name, *spec, *zone;
        int64_t from[5]; /* year, month, day, hour, minute */
        int64_t times[6][2];
    } nights[] = {
        {"spring", "30 2 * * *", "Europe/Berlin", {2026, 3, 28, 12, 0}, {{1, 0}}},
        {"autumn", "30 2 * * *", "Europe/Berlin", {2026, 10, 24, 12, 0}, {{0, 30}}},
        {"hourly",
         "30 * * * *",
         "Europe/Berlin",
         {2026, 10, 24, 23, 45},
         {{0, 30}, {1, 30}, {2, 30}, {3, 30}}},
        {"gap", "30 2 * * *", "America/New_York", {2026, 3, 8, 0, 0}, {{7, 0}}},
        {"twice", "30 1 * * *", "America/New_York", {2026, 11, 1, 0, 0}, {{5, 30}}},
        {"half", "15 2 * * *", "Australia/Lord_Howe", {2026, 10, 3, 12, 0}, {{15, 30}}},
    };
    for (size_t i = 0; i < sizeof nights / sizeof *nights; i++) {
        int64_t out[64], from;
        size_t wanted = 0;
        const int64_t *at = nights[i].from;
        nq *q = t_open();
        from = SCH_AT((int)at[0], (int)at[1], (int)at[2], (int)at[3], (int)at[4]);
        sch_clock(q, from);
        sch_set(q, nights[i].name, nights[i].spec, nights[i].zone, NQ_MISFIRE_ONCE, NQ_OVERLAP_ALLOW);
        const size_t n = sch_night(q, nights[i].name, from, from + NQ_HOURS(i == 2 ? 4 : 20), out);
        while (wanted < 6 && (nights[i].times[wanted][0] || nights[i].times[wanted][1]))
            wanted++;
        ck_assert_msg(n == wanted, "%s: %zu, not %zu", nights[i].name, n, wanted);
        for (size_t k = 0; k < n; k++) {
            const int64_t minute = out[k] / NQ_MINUTES(1) % (24 * 60);
            ck_assert_msg(minute == nights[i].times[k][0] * 60 + nights[i].times[k][1], "%s %zu: %02d:%02d",
                          nights[i].name, k, (int)(minute / 60), (int)(minute % 60));
        }
        nq_close(q);
    }
}
END_TEST

START_TEST(a_day_without_workers)
{
    static const struct {
        const char *name;
        int misfire, overlap;
        int64_t tasks;
    } ways[] = {{"once", NQ_MISFIRE_ONCE, NQ_OVERLAP_SKIP, 1},
                {"none", NQ_MISFIRE_SKIP, NQ_OVERLAP_SKIP, 0},
                {"all", NQ_MISFIRE_ALL, NQ_OVERLAP_ALLOW, 24},
                {"first", NQ_MISFIRE_ALL, NQ_OVERLAP_SKIP, 1},
                {"row", NQ_MISFIRE_ALL, NQ_OVERLAP_QUEUE, 1}};
    const int64_t from = SCH_AT(2026, 5, 1, 0, 10);
    nq *q = t_open();
    sch_clock(q, from);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        sch_set(q, ways[i].name, "0 * * * *", NULL, ways[i].misfire, ways[i].overlap);
    sch_set(q, "minutes", "* * * * *", NULL, NQ_MISFIRE_ALL, NQ_OVERLAP_ALLOW);
    sch_set(q, "often", "@every 7s", NULL, NQ_MISFIRE_ALL, NQ_OVERLAP_ALLOW);
    sch_clock(q, from + NQ_DAYS(1) + NQ_MINUTES(5));
    while (sch_fire(q, "often") < NQ_SCHEDULES_MISSED)
        ;
    sch_fire(q, "");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        ck_assert_msg(sch_fire(q, ways[i].name) == ways[i].tasks, "%s", ways[i].name);
    ck_assert_int_eq(sch_fire(q, "minutes"), NQ_SCHEDULES_MISSED);
    ck_assert_int_eq(sch_fire(q, "often"), NQ_SCHEDULES_MISSED);
    /* Each of them goes on with the first time that is not past; a minute late is not missed. */
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_firings WHERE name = 'first'"), 24);
    sch_clock(q, SCH_AT(2026, 5, 2, 1, 0) + NQ_SECONDS(50));
    ck_assert_int_eq(sch_fire(q, "none"), 1);
    ck_assert_int_eq(sch_fire(q, "all"), 25);
    /* One after the other, as each ends. */
    ck_assert_int_eq(sch_fire(q, "row"), 1);
    for (int i = 0; i < 24; i++) {
        t_sql("DELETE FROM nanoq_tasks WHERE type = 'row'");
        ck_assert_int_eq(sch_fire(q, "row"), 1);
    }
    t_sql("DELETE FROM nanoq_tasks WHERE type = 'row'");
    ck_assert_int_eq(sch_fire(q, "row"), 0);
    nq_close(q);
}
END_TEST

static int sch_row(const nq_schedule_row *row, void *udata)
{
    nq_schedule_row *out = udata;
    static char error[256];
    snprintf(error, sizeof error, "%s", row->error);
    *out = *row;
    out->error = error;
    return 0;
}

static nq_schedule_row sch_get(nq *q, const char *name)
{
    nq_schedule_row row;
    T_OK(nq_schedule_list(q, name, sch_row, &row, &t_last));
    return row;
}

START_TEST(set_again_pause_run_and_remove)
{
    const int64_t from = SCH_AT(2026, 5, 1, 0, 10);
    nq_id id = 0, second = 0, third = 0;
    nq *q = t_open();
    sch_clock(q, from);
    sch_set(q, "a", "0 5 * * *", NULL, 0, 0);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, SCH_AT(2026, 5, 1, 5, 0));
    sch_clock(q, from + NQ_HOURS(6)); /* 05:00 is due: to set it again is no reason to leave it out */
    sch_set(q, "a", "0 5 * * *", NULL, 0, 0);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, SCH_AT(2026, 5, 1, 5, 0));
    ck_assert_int_eq(sch_fire(q, "a"), 1);
    ck_assert_int_eq(sch_get(q, "a").last_at_us, SCH_AT(2026, 5, 1, 5, 0));
    sch_set(q, "a", "0 7 * * *", NULL, 0, 0);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, SCH_AT(2026, 5, 1, 7, 0));

    T_OK(nq_schedule_pause(q, "a", "deploy", &t_last));
    T_OK(nq_schedule_pause(q, "a", NULL, &t_last));
    sch_clock(q, from + NQ_HOURS(8));
    ck_assert_int_eq(sch_fire(q, "a"), 1);
    T_OK(nq_schedule_resume(q, "a", &t_last));
    ck_assert_int_eq(sch_fire(q, "a"), 1);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, SCH_AT(2026, 5, 2, 7, 0));

    T_FAILS(nq_schedule_run(q, "a", &id, &t_last), NQ_EDUPLICATE);
    ck_assert_int_eq(id, sch_get(q, "a").task_id);
    t_sql("DELETE FROM nanoq_tasks");
    T_OK(nq_schedule_run(q, "a", &second, &t_last));
    ck_assert_int_ne(id, second);
    ck_assert_int_eq(sch_get(q, "a").task_id, second);
    /* Out of turn twice at the same time: two tasks. */
    t_sql("UPDATE nanoq_schedules SET overlap = 1");
    T_OK(nq_schedule_run(q, "a", &id, &t_last));
    T_OK(nq_schedule_run(q, "a", &third, &t_last));
    ck_assert(id > second && third > id);
    ck_assert_int_eq(sch_get(q, "a").task_id, third);
    T_FAILS(nq_schedule_run(q, "b", NULL, &t_last), NQ_ENOTFOUND);
    T_FAILS(nq_schedule_remove(q, "b", &t_last), NQ_ENOTFOUND);
    T_OK(nq_schedule_remove(q, "a", &t_last));
    T_FAILS(nq_schedule_list(q, "a", sch_row, &(nq_schedule_row){0}, &t_last), NQ_ENOTFOUND);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_firings"), 0);
    nq_close(q);
}
END_TEST

START_TEST(starts_and_ends)
{
    const int64_t from = SCH_AT(2026, 5, 1, 0, 10);
    nq *q = t_open();
    sch_clock(q, from);
    T_OK(nq_schedule_set(q, NQ_OWN_TX,
                         SCH(.name = "e", .spec = "@every 1h", .task = SCH_TASK(.type = "e"),
                             .overlap = NQ_OVERLAP_ALLOW, .misfire = NQ_MISFIRE_ALL,
                             .starts_at_us = from + NQ_MINUTES(20), .ends_at_us = from + NQ_MINUTES(200)),
                         &t_last));
    ck_assert_int_eq(sch_get(q, "e").next_at_us, from + NQ_MINUTES(20));
    sch_clock(q, from + NQ_HOURS(9));
    ck_assert_int_eq(sch_fire(q, "e"), 4);
    ck_assert(sch_get(q, "e").over);
    ck_assert_int_eq(sch_get(q, "e").next_at_us, 0);
    nq_close(q);
}
END_TEST

START_TEST(a_deploy_declares_its_schedules)
{
    const nq_task_spec task = {.size = sizeof task, .type = "t"};
    const nq_schedule all[] = {{.size = sizeof all[0], .name = "a", .spec = "@daily", .task = &task},
                               {.size = sizeof all[0], .name = "b", .spec = "@hourly", .task = &task}};
    nq *q = t_open();
    sch_set(q, "mine", "@daily", NULL, 0, 0);
    T_OK(nq_schedule_apply(q, all, 2, "app", &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules"), 3);
    T_FAILS(nq_schedule_apply(q, all, 1, "other", &t_last), NQ_EINVAL);
    T_OK(nq_schedule_run(q, "a", NULL, &t_last));
    T_OK(nq_schedule_apply(q, all + 1, 1, "app", &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_firings"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules WHERE name IN ('mine', 'b')"), 2);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules"), 2);
    T_OK(nq_schedule_apply(q, NULL, 0, "app", &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules"), 1);
    nq_close(q);
}
END_TEST

START_TEST(in_the_callers_transaction)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    const nq_schedule *s =
        SCH(.name = "a", .spec = "@daily", .zone = "Europe/Berlin", .task = SCH_TASK(.type = "a"));
    T_FAILS(nq_schedule_set(q, t_tx(c), s, &t_last), NQ_EINVAL);
    t_begin(c);
    T_OK(nq_schedule_set(q, t_tx(c), s, &t_last));
    t_run(c, "ROLLBACK");
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules"), 0);
    t_begin(c);
    T_OK(nq_schedule_set(q, t_tx(c), s, &t_last));
    T_OK(nq_schedule_set(q, t_tx(c), s, &t_last));
    t_run(c, "COMMIT");
    ck_assert(sch_get(q, "a").next_at_us > t_now(q));
    t_disconnect(c);
    nq_close(q);
}
END_TEST

START_TEST(bad_schedules_are_refused)
{
    nq *q = t_open();
    const nq_task_spec good = {.size = sizeof good, .type = "t"},
                       late = {.size = sizeof late, .type = "t", .delay_us = 1},
                       key = {.size = sizeof key,
                              .type = "t",
                              .unique = NQ_UNIQUE_DATA,
                              .unique_data = "x",
                              .unique_size = 1},
                       untyped = {.size = sizeof untyped};
    const nq_schedule bad[] = {
        {.spec = "@daily", .task = &good},
        {.name = "a b", .spec = "@daily", .task = &good},
        {.name = "a\n", .spec = "@daily", .task = &good},
        {.name = "a", .task = &good},
        {.name = "a", .spec = "61 * * * *", .task = &good},
        {.name = "a", .spec = "0 0 31 2 *", .task = &good},
        {.name = "a", .spec = "@daily"},
        {.name = "a", .spec = "@daily", .task = &late},
        {.name = "a", .spec = "@daily", .task = &key},
        {.name = "a", .spec = "@daily", .task = &untyped},
        {.name = "a", .spec = "@daily", .zone = "Europe/Nowhere", .task = &good},
        {.name = "a", .spec = "@daily", .zone = "../passwd", .task = &good},
        {.name = "a", .spec = "@daily", .task = &good, .misfire = 3},
        {.name = "a", .spec = "@daily", .task = &good, .overlap = -1},
        {.name = "a", .spec = "@daily", .task = &good, .jitter_us = -1},
        {.name = "a", .spec = "@daily", .task = &good, .source = ""},
        {.name = "a", .spec = "@daily", .task = &good, .starts_at_us = 5, .ends_at_us = 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nq_schedule s = bad[i];
        s.size = sizeof s;
        T_FAILS(nq_schedule_set(q, NQ_OWN_TX, &s, &t_last), NQ_EINVAL);
    }
    T_FAILS(nq_schedule_set(q, NQ_OWN_TX, NULL, &t_last), NQ_EINVAL);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules"), 0);
    nq_close(q);
}
END_TEST

START_TEST(rows_of_plain_sql_and_rows_that_are_bad)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    t_sql("INSERT INTO nanoq_schedules (name, spec, type, payload) VALUES ('plain', '@every 1s', 'plain', "
          "'hello')");
    t_run(c, T_SQLITE       ? "PRAGMA ignore_check_constraints = 1"
             : t_is_mariadb ? "SET check_constraint_checks = 0, sql_mode = ''"
                            : "SET sql_mode = ''");
    t_run(c, "INSERT INTO nanoq_schedules (name, spec, type) VALUES ('spec', 'every day', 't')");
    t_run(c, "INSERT INTO nanoq_schedules (name, spec, type, zone) VALUES ('zone', '@daily', 't', "
             "'../../etc/passwd')");
    if (T_SQLITE || t_is_mariadb)
        t_run(c,
              "INSERT INTO nanoq_schedules (name, spec, type, priority, next_at) VALUES ('task', '@daily', "
              "'t', 120, %s)",
              T_SQLITE ? "1600000000000000" : "'2020-01-01'");
    if (T_SQLITE)
        t_run(
            c,
            "INSERT INTO nanoq_schedules (name, spec, type, next_at, starts_at, ends_at, jitter_us, "
            "changed_at, "
            "misfire, overlap) VALUES ('far', '@every 1s', 't', -9223372036854775807, -9223372036854775807, "
            "9223372036854775807, 9223372036854775807, -9223372036854775807, 2, 1), ('farther', '* * * * *', "
            "'t', "
            "-9223372036854775807, 9223372036854775807, -9223372036854775807, -9223372036854775807, "
            "9223372036854775807, 9, 9)");
    ck_assert_int_eq(sch_fire(q, "plain"), 0);
    T_WAIT(sch_fire(q, "plain") == 1, 20);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules WHERE error IS NOT NULL"),
                     T_SQLITE || t_is_mariadb ? 3 : 2);
    ck_assert_ptr_nonnull(strstr(sch_get(q, "spec").error, "every day"));
    /* Mended by plain SQL, it counts from now. */
    t_sql("UPDATE nanoq_schedules SET spec = '@every 1s', error = NULL, next_at = NULL WHERE name = 'spec'");
    sch_fire(q, "t");
    ck_assert_str_eq(sch_get(q, "spec").error, "");
    ck_assert(sch_get(q, "spec").next_at_us > 0);
    t_disconnect(c);
    nq_close(q);
}
END_TEST

/* Of names that no column can bind, no one can be told what is wrong with it. */
START_TEST(rows_without_a_name_are_in_nobodys_way)
{
    nq *q = t_open();
    t_conn *c = t_connect();
    if (t_try(c, T_SQLITE ? "PRAGMA ignore_check_constraints=1" : "SET check_constraint_checks=0") != 0) {
        t_disconnect(c); /* MySQL has its checks always */
        nq_close(q);
        return;
    }
    for (int i = 0; i < 60; i++)
        t_run(c, "INSERT INTO nanoq_schedules (name, spec, type) VALUES (x'41%02x00', '@every 1s', 't')",
              'A' + i % 26 + (i / 26) * 32);
    t_disconnect(c);
    sch_set(q, "good", "@every 1s", NULL, 0, NQ_OVERLAP_ALLOW);
    T_WAIT(sch_fire(q, "good") > 0, 20);
    nq_close(q);
}
END_TEST

/* The minute's look at zone files. */
static void sch_rezone(nq *q)
{
    nq_scheduler s = {.zones_us = -NQ_MINUTES(2)};
    T_OK(nq_store_fire(nq_store_of(q), &s, &t_last));
}

/* By an hour; older: by an older file than this host's, for a time that the newer one does not have. */
static void sch_put_off(bool older)
{
    t_sql(T_SQLITE ? "UPDATE nanoq_schedules SET next_at = next_at + 3600000000"
                   : "UPDATE nanoq_schedules SET next_at = next_at + INTERVAL 1 HOUR");
    if (older)
        t_sql("UPDATE nanoq_schedules SET zone_at = zone_at - 1");
}

START_TEST(a_newer_zone_file_has_the_next_time_computed_anew)
{
    nq *q = t_open();
    sch_set(q, "a", "30 2 * * *", "Europe/Berlin", 0, 0);
    sch_set(q, "every", "@every 90m", "Europe/Berlin", 0, 0);
    const int64_t next = sch_get(q, "a").next_at_us, every = sch_get(q, "every").next_at_us;
    ck_assert(next > 0);
    sch_put_off(false);
    sch_rezone(q); /* by the same file: it stays */
    ck_assert_int_eq(sch_get(q, "a").next_at_us, next + NQ_HOURS(1));
    t_sql("UPDATE nanoq_schedules SET zone_at = zone_at - 1");
    sch_rezone(q);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, next);
    ck_assert_int_eq(sch_get(q, "every").next_at_us, every + NQ_HOURS(1)); /* it counts from its last time */
    /* A deploy that declares it as it is does not hide that. */
    sch_put_off(true);
    sch_set(q, "a", "30 2 * * *", "Europe/Berlin", 0, 0);
    sch_rezone(q);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, next);
    /* What is due goes by what it was told. */
    t_sql(T_SQLITE ? "UPDATE nanoq_schedules SET next_at = 1000000, zone_at = zone_at - 1"
                   : "UPDATE nanoq_schedules SET next_at = '1970-01-01 00:00:01', zone_at = zone_at - 1");
    sch_rezone(q);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_firings"), 2);
    nq_close(q);
}
END_TEST

START_TEST(a_time_that_is_put_back_comes_once)
{
    const int64_t from = SCH_AT(2026, 5, 1, 0, 10);
    nq *q = t_open();
    sch_clock(q, from);
    sch_set(q, "a", "0 * * * *", NULL, 0, NQ_OVERLAP_ALLOW);
    sch_clock(q, from + NQ_HOURS(1));
    ck_assert_int_eq(sch_fire(q, "a"), 1);
    t_sql("UPDATE nanoq_schedules SET next_at = last_at");
    ck_assert_int_eq(sch_fire(q, "a"), 1);
    ck_assert_int_eq(sch_get(q, "a").next_at_us, SCH_AT(2026, 5, 1, 2, 0));
    nq_close(q);
}
END_TEST

/* ---- Many processes ---- */

enum { SCH_PROCESSES = 4, SCH_NAMES = 20 };

static void sch_process(int fd, void *arg)
{
    nq *q = t_open();
    nq_scheduler s = {0};
    (void)arg;
    t_tell(fd, 1);
    for (;;) {
        T_OK(nq_store_fire(nq_store_of(q), &s, &t_last));
        nq_sleep_us(s.wait_us < NQ_MS(50) ? s.wait_us : NQ_MS(50));
    }
}

START_TEST(processes_that_die_fire_each_time_once)
{
    t_child children[SCH_PROCESSES];
    char name[16];
    for (int i = 0; i < SCH_PROCESSES; i++)
        t_fork(&children[i], sch_process, NULL);
    for (int i = 0; i < SCH_PROCESSES; i++)
        t_hear(children[i].fd, 20);
    nq *q = t_open();
    for (int i = 0; i < SCH_NAMES; i++) {
        snprintf(name, sizeof name, "s%d", i);
        sch_set(q, name, "@every 200ms", NULL, NQ_MISFIRE_ALL, NQ_OVERLAP_ALLOW);
    }
    for (int round = 0; round < 6; round++) {
        const int64_t n = t_sql("SELECT COUNT(*) FROM nanoq_firings");
        T_WAIT(t_sql("SELECT COUNT(*) FROM nanoq_firings") > n + SCH_NAMES, 20);
        t_kill(&children[round % SCH_PROCESSES], SIGKILL);
        t_fork(&children[round % SCH_PROCESSES], sch_process, NULL);
        t_hear(children[round % SCH_PROCESSES].fd, 20);
    }
    for (int i = 0; i < SCH_PROCESSES; i++)
        t_kill(&children[i], SIGKILL);
    const char *const us = T_SQLITE ? "due_at" : "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', due_at)";
    /* Of each: no time twice (it is the key, so as many tasks as firings), and none missing between first and
     * last. Counted in one statement: of the killed, the server may be committing the last ones still. */
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM (SELECT name, COUNT(*) n, MAX(%s) - MIN(%s) span FROM nanoq_firings "
              "GROUP BY name) x WHERE span <> (n - 1) * 200000",
              us, us),
        0);
    ck_assert_int_eq(t_sql("SELECT (SELECT COUNT(*) FROM nanoq_tasks) - COUNT(*) FROM nanoq_firings"), 0);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_firings f LEFT JOIN nanoq_tasks t ON f.task_id = t.id "
                           "WHERE t.id IS NULL"),
                     0);
    nq_close(q);
}
END_TEST

Suite *suite_schedules(void)
{
    Suite *s = suite_create("schedules");
    TCase *tc = t_case(s, "schedules", 30);
    tcase_add_test(tc, each_time_comes_once_through_the_nights_when_clocks_change);
    tcase_add_test(tc, a_day_without_workers);
    tcase_add_test(tc, set_again_pause_run_and_remove);
    tcase_add_test(tc, starts_and_ends);
    tcase_add_test(tc, a_deploy_declares_its_schedules);
    tcase_add_test(tc, in_the_callers_transaction);
    tcase_add_test(tc, bad_schedules_are_refused);
    tcase_add_test(tc, rows_of_plain_sql_and_rows_that_are_bad);
    tcase_add_test(tc, rows_without_a_name_are_in_nobodys_way);
    tcase_add_test(tc, a_newer_zone_file_has_the_next_time_computed_anew);
    tcase_add_test(tc, a_time_that_is_put_back_comes_once);
    tc = t_case(s, "schedules_processes", 60);
    tcase_add_test(tc, processes_that_die_fire_each_time_once);
    return s;
}
