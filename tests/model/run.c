/* SPDX-License-Identifier: MIT */
/* The model and the store side by side over random steps. NANOQ_MODEL_STEPS: how many, in tests of RUN_MOST;
 * NANOQ_SEED: which, in each of them. */
#include <inttypes.h>

#include "model.h"

/* libcheck keeps the time of a test in an int of microseconds, and gives up what took longer than 35 minutes.
 */
#define RUN_MOST 250000

static uint64_t run_given(void)
{
    const char *steps = getenv("NANOQ_MODEL_STEPS");
    return steps ? strtoull(steps, NULL, 10) : 0;
}

static uint64_t run_tests(void)
{
    const uint64_t given = run_given();
    return given == 0 ? 1 : (given + RUN_MOST - 1) / RUN_MOST;
}

/* Of each test. */
static uint64_t run_steps(void)
{
    const uint64_t given = run_given();
    if (given == 0)
        return T_MYSQL ? 1500 : 6000;
    return given / run_tests();
}

static uint64_t run_take(nq *q, uint64_t seed, uint64_t steps, nq_buf *chosen)
{
    static struct steps s;
    steps_begin(&s, q, seed, chosen);
    while (s.step < steps)
        steps_one(&s);
    steps_end(&s);
    if (q) {
        printf("seed %" PRIu64 ", %" PRIu64 " steps, %d tasks, trace %016" PRIx64 ":", seed, s.step,
               s.model.numbers, s.digest);
        for (size_t i = 0; i < STEPS_KINDS; i++)
            printf(" %s %" PRIu64 "%s", steps_names[i], s.counts[i], i + 1 < STEPS_KINDS ? "," : "\n");
    }
    return s.digest;
}

static void run_seed(uint64_t seed)
{
    nq *q = t_open();
    nq_buf chosen = {0};
    const uint64_t digest = run_take(q, seed, run_steps(), &chosen);
    nq_close(q);
    /* The steps depend on nothing but the seed and what the store chose: the model alone takes the same. */
    ck_assert_uint_eq(run_take(NULL, seed, run_steps(), &chosen), digest);
    nq_buf_free(&chosen);
}

START_TEST(the_same_steps_every_time)
{
    run_seed(1 + (uint64_t)_i);
}
END_TEST

START_TEST(other_steps_each_time)
{
    run_seed(t_seed());
}
END_TEST

static Suite *suite_model(void)
{
    Suite *s = suite_create("model");
    const bool quick = run_given() == 0;
    TCase *c = t_case(s, "model", quick ? 60 : 7200);
    if (quick)
        tcase_add_loop_test(c, the_same_steps_every_time, 0, 2);
    tcase_add_loop_test(c, other_steps_each_time, 0, (int)run_tests());
    return s;
}

int main(int argc, char **argv)
{
    Suite *(*const suites[])(void) = {suite_model};
    return t_main(argc, argv, suites, 1);
}
