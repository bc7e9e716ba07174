/* SPDX-License-Identifier: MIT */
/* Hosts whose files of zones are not alike. */
#include <sys/stat.h>

#include "suites.h"

/* The files of this host from now on: a directory with those of these zones; none: no directory. */
static void zones_are(const char *const names[], size_t n)
{
    char from[128], to[400], dir[300];
    snprintf(dir, sizeof dir, "%s/zones-%zu", t_dir, n);
    for (size_t i = 0; i < n; i++) {
        snprintf(to, sizeof to, "%s/Asia", dir);
        mkdir(dir, 0700);
        mkdir(to, 0700);
        snprintf(from, sizeof from, "/usr/share/zoneinfo/%s", names[i]);
        snprintf(to, sizeof to, "%s/%s", dir, names[i]);
        ck_assert_msg(symlink(from, to) == 0, "%s", to);
    }
    setenv("TZDIR", dir, 1);
}

static void zones_schedule(nq *q, const char *name, const char *zone)
{
    const nq_task_spec task = {.size = sizeof task, .type = name, .unique = NQ_UNIQUE_NONE};
    const nq_schedule s = {.size = sizeof s,
                           .name = name,
                           .spec = "@every 1s",
                           .zone = zone,
                           .task = &task,
                           .overlap = NQ_OVERLAP_ALLOW};
    T_OK(nq_schedule_set(q, NQ_OWN_TX, &s, &t_last));
}

/* All that there are are due. */
static void zones_due(void)
{
    t_sql(T_SQLITE ? "UPDATE nanoq_schedules SET next_at = 1000000"
                   : "UPDATE nanoq_schedules SET next_at = '1970-01-01 00:00:01'");
}

/* All are due: how many tasks there are then. */
static int64_t zones_fire(nq *q, nq_scheduler *state)
{
    zones_due();
    t_sql("DELETE FROM nanoq_tasks");
    t_sql("DELETE FROM nanoq_firings"); /* no time comes twice, and a second may not have passed */
    T_OK(nq_store_fire(nq_store_of(q), state, &t_last));
    return t_sql("SELECT COUNT(*) FROM nanoq_tasks");
}

static int64_t zones_stopped(void)
{
    return t_sql("SELECT COUNT(*) FROM nanoq_schedules WHERE error IS NOT NULL");
}

/* As one that has waited for a minute. */
static void zones_later(nq_scheduler *state)
{
    state->lacked_us = 0;
}

START_TEST(a_host_leaves_to_others_what_its_files_lack)
{
    static const char *const all[] = {"UTC",        "Asia/Tokyo",     "Asia/Seoul", "Asia/Dubai",
                                      "Asia/Kabul", "Asia/Jerusalem", "Asia/Dhaka", "Asia/Tehran"};
    enum { ALL = sizeof all / sizeof *all };
    static nq_scheduler state;
    nq *q = t_open();
    for (size_t i = 0; i < ALL; i++)
        zones_schedule(q, all[i], all[i]);
    ck_assert_int_eq(zones_fire(q, &state), ALL);
    zones_are(all, 3);
    zones_fire(q, &state); /* learns that it lacks more than it keeps in mind */
    ck_assert_int_eq(zones_fire(q, &state), 1);
    ck_assert_int_eq(zones_stopped(), 0);
    unsetenv("TZDIR");
    ck_assert_int_eq(zones_fire(q, &state), 1); /* for a minute */
    zones_later(&state);
    ck_assert_int_eq(zones_fire(q, &state), ALL);

    t_sql("DELETE FROM nanoq_schedules WHERE name IN ('Asia/Dubai', 'Asia/Kabul', 'Asia/Jerusalem')");
    zones_are(all, ALL - 2);
    ck_assert_int_eq(zones_fire(q, &state), 3); /* all that were due come in the same look */
    ck_assert_int_eq(zones_fire(q, &state), 3);
    ck_assert_int_eq(zones_stopped(), 0);

    zones_are(NULL, 0); /* none at all */
    zones_later(&state);
    ck_assert_int_eq(zones_fire(q, &state), 1);
    ck_assert_int_eq(zones_fire(q, &state), 1);
    ck_assert_int_eq(zones_stopped(), 0);
    unsetenv("TZDIR");
    nq_close(q);
}
END_TEST

/* Many of them do not stand before the others. */
START_TEST(what_is_left_to_others_is_in_nobodys_way)
{
    static const char *const one[] = {"Asia/Tokyo"};
    static nq_scheduler state;
    nq *q = t_open();
    char name[16];
    for (int i = 0; i < 120; i++) {
        snprintf(name, sizeof name, "seoul-%d", i);
        zones_schedule(q, name, "Asia/Seoul");
    }
    zones_due();
    zones_schedule(q, "tokyo", "Asia/Tokyo");
    zones_are(one, 1);
    T_WAIT((nq_store_fire(nq_store_of(q), &state, &t_last),
            t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE type = 'tokyo'") > 0),
           20);
    ck_assert_int_eq(zones_stopped(), 0);
    unsetenv("TZDIR");
    nq_close(q);
}
END_TEST

/* Nobody has computed a time by it. */
START_TEST(a_zone_that_no_host_had_is_said)
{
    static nq_scheduler state;
    nq *q = t_open();
    t_sql("INSERT INTO nanoq_schedules (name, spec, zone, type) VALUES ('x', '@every 1s', 'Europe/Berlim', "
          "'t')");
    T_OK(nq_store_fire(nq_store_of(q), &state, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_schedules WHERE error LIKE '%%Europe/Berlim%%'"), 1);
    nq_close(q);
}
END_TEST

Suite *suite_zones(void)
{
    Suite *s = suite_create("zones");
    TCase *c = t_case(s, "zones", 30);
    tcase_add_test(c, a_host_leaves_to_others_what_its_files_lack);
    tcase_add_test(c, what_is_left_to_others_is_in_nobodys_way);
    tcase_add_test(c, a_zone_that_no_host_had_is_said);
    return s;
}
