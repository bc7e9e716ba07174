/* SPDX-License-Identifier: MIT */
/* The conformance suite of store operations: the same for every store. */
#include "suites.h"

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {
        suite_enqueue,     suite_limits,    suite_unique,   suite_caller_tx,    suite_caller_tx_mysql,
        suite_claim,       suite_finish,    suite_batches,  suite_members,      suite_admin,
        suite_migrate,     suite_plainsql,  suite_errors,   suite_servers,      suite_explain,
        suite_followups,   suite_attempts,  suite_held,     suite_galera,       suite_hostile,
        suite_session,     suite_files,     suite_followed, suite_settings,     suite_groups,
        suite_looks,       suite_headers,   suite_birth,    suite_why,          suite_gates,
        suite_order,       suite_letters,   suite_said,     suite_rates,        suite_keys,
        suite_renew,       suite_schedules, suite_zones,    suite_doctor,       suite_minutes,
        suite_doctor_rows, suite_history,   suite_results,  suite_retention,    suite_bulk,
        suite_bulk_others, suite_tags,      suite_search,   suite_search_pages, suite_search_explain,
        suite_count,       suite_killed};
    /* What the settings of tests/store/hostile.sql could harm. */
    Suite *(*const hostile[])(void) = {suite_session,  suite_enqueue, suite_unique,    suite_caller_tx,
                                       suite_claim,    suite_finish,  suite_batches,   suite_members,
                                       suite_held,     suite_admin,   suite_followups, suite_attempts,
                                       suite_followed, suite_headers, suite_search};
    if (getenv("NANOQ_TEST_HOSTILE"))
        return t_main(argc, argv, hostile, sizeof hostile / sizeof *hostile);
    return t_main(argc, argv, suites, sizeof suites / sizeof *suites);
}
