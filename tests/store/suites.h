/* SPDX-License-Identifier: MIT */
/* The suites of the store programs, one a file. */
#ifndef NQ_TEST_STORE_SUITES_H
#define NQ_TEST_STORE_SUITES_H

#include "../harness.h"

Suite *suite_enqueue(void);
Suite *suite_limits(void);
Suite *suite_unique(void);
Suite *suite_caller_tx(void);
Suite *suite_caller_tx_mysql(void);
Suite *suite_claim(void);
Suite *suite_birth(void);
Suite *suite_finish(void);
Suite *suite_batches(void);
Suite *suite_members(void);
Suite *suite_admin(void);
Suite *suite_migrate(void);
Suite *suite_plainsql(void);
Suite *suite_errors(void);
Suite *suite_servers(void);
Suite *suite_explain(void);
Suite *suite_followups(void);
Suite *suite_followed(void);
Suite *suite_attempts(void);
Suite *suite_held(void);
Suite *suite_galera(void);
Suite *suite_groups(void);
Suite *suite_looks(void);
Suite *suite_headers(void);
Suite *suite_gates(void);
Suite *suite_order(void);
Suite *suite_rates(void);
Suite *suite_hostile(void);
Suite *suite_session(void);
Suite *suite_killed(void);
Suite *suite_files(void);
Suite *suite_settings(void);
Suite *suite_schedules(void);
Suite *suite_why(void);
Suite *suite_zones(void);
Suite *suite_letters(void);
Suite *suite_keys(void);
Suite *suite_renew(void);
Suite *suite_history(void);
Suite *suite_results(void);
Suite *suite_retention(void);
Suite *suite_said(void);
Suite *suite_bulk(void);
Suite *suite_bulk_others(void);
Suite *suite_doctor(void);
Suite *suite_minutes(void);
Suite *suite_doctor_rows(void);
Suite *suite_tags(void);
Suite *suite_search(void);
Suite *suite_search_explain(void);
Suite *suite_count(void);
Suite *suite_search_pages(void);

#endif
