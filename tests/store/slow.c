/* SPDX-License-Identifier: MIT */
/* A million distinct tasks are enqueued without a false duplicate (NanoQ's 32-bit fingerprint had 119). */
#include "../harness.h"

enum { SLOW_TASKS = 1000000, SLOW_CALL = 20000 };

START_TEST(a_million_distinct_tasks_have_no_false_duplicate)
{
    nq *q = NULL;
    T_OK(nq_open(&q, T_SQLITE ? t_url_with("synchronous=normal") : t_url, NULL, &t_last));
    nq_task_spec *specs = calloc(SLOW_CALL, sizeof *specs);
    char(*payloads)[24] = calloc(SLOW_CALL, sizeof *payloads);
    int *results = calloc(SLOW_CALL, sizeof *results);
    ck_assert(specs && payloads && results);
    for (int first = 0; first < SLOW_TASKS; first += SLOW_CALL) {
        for (int i = 0; i < SLOW_CALL; i++) {
            int n = snprintf(payloads[i], sizeof payloads[i], "{\"to\":%d}", first + i);
            specs[i] = *NQ_TASK(.type = "email", .payload = payloads[i], .payload_size = (size_t)n);
        }
        T_OK(nq_enqueue_many(q, NQ_OWN_TX, specs, SLOW_CALL, NULL, results, &t_last));
        for (int i = 0; i < SLOW_CALL; i++)
            ck_assert_int_eq(results[i], NQ_OK);
    }
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), SLOW_TASKS);
    /* And a true one among them is found. */
    T_ANSWERS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "email", NQ_BYTES("{\"to\":765432}")), NULL, &t_last),
              NQ_DUPLICATE);
    free(specs);
    free(payloads);
    free(results);
    nq_close(q);
}
END_TEST

static Suite *suite_slow(void)
{
    Suite *s = suite_create("slow");
    tcase_add_test(t_case(s, "slow", 120), a_million_distinct_tasks_have_no_false_duplicate);
    return s;
}

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {suite_slow};
    return t_main(argc, argv, suites, 1);
}
