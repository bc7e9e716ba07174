/* SPDX-License-Identifier: MIT */
/* retry.c: the figures that the header gives, and no overflow anywhere. */
#include "unit.h"

START_TEST(figures)
{
    static const int64_t base_s[] = {6, 37, 248, 1029, 3130, 7781, 16812, 32773, 59054, 100005};

    for (unsigned attempt = 1; attempt <= 10; attempt++) {
        int64_t base = NQ_SECONDS(base_s[attempt - 1]), least = INT64_MAX, most = 0;
        for (int i = 0; i < 2000; i++) {
            int64_t d = nq_default_retry_delay(attempt);
            least = d < least ? d : least;
            most = d > most ? d : most;
        }
        ck_assert_int_ge(least, base);
        ck_assert_int_le(most, base + base / 2);
        ck_assert_int_lt(least, base + base / 50); /* the jitter uses its whole range */
        ck_assert_int_gt(most, base + base / 2 - base / 50);
    }
}
END_TEST

START_TEST(saturates)
{
    int64_t d;

    ck_assert_int_ge(nq_default_retry_delay(0), NQ_SECONDS(5));
    for (unsigned attempt = 0; attempt < 3000; attempt++) {
        d = nq_default_retry_delay(attempt);
        ck_assert_int_ge(d, NQ_SECONDS(5));
        ck_assert_int_le(d, NQ_MAX_DURATION);
        if (attempt > 50)
            ck_assert_int_eq(d, NQ_MAX_DURATION);
    }
    for (unsigned shift = 12; shift < 32; shift++)
        ck_assert_int_eq(nq_default_retry_delay(1u << shift), NQ_MAX_DURATION);
    ck_assert_int_eq(nq_default_retry_delay(UINT32_MAX), NQ_MAX_DURATION);
}
END_TEST

UNIT_MAIN("retry", figures, saturates)
