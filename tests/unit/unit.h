/* SPDX-License-Identifier: MIT */
/* What every unit test program has: its cases, check's runner and a printed random seed. */
#ifndef NQ_UNIT_H
#define NQ_UNIT_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/core/core.h"

/* One sanitizer report must fail the test, so cases run in their own processes (CK_FORK's default). */
static inline int unit_run(const char *name, const TTest *const cases[], size_t n)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 240); /* under TSan on a loaded machine too */
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tcase, cases[i]);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
#define UNIT_MAIN(name, ...)                                                                                 \
    int main(void)                                                                                           \
    {                                                                                                        \
        const TTest *const cases[] = {__VA_ARGS__};                                                          \
        return unit_run(name, cases, sizeof cases / sizeof cases[0]);                                        \
    }

/* A generator of its own (splitmix64), so that NQ_TEST_SEED repeats a run whatever random.c does. */
static inline uint64_t unit_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t unit_seed(void)
{
    const char *given = getenv("NQ_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)nq_real_us();

    printf("NQ_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

#endif
