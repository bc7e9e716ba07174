/* SPDX-License-Identifier: MIT */
/* rate.c: what starts in any window, whoever claims when; and rows that hold anything. */
#include "unit.h"

#define NOW INT64_C(1790000000000000)

START_TEST(of_a_row)
{
    ck_assert_int_eq(nq_rate_of(0, 1000000, 5).every_ns, 0);
    ck_assert_int_eq(nq_rate_of(5, 0, 5).every_ns, 0);
    ck_assert_int_eq(nq_rate_of(-5, 5, 5).every_ns, 0);
    ck_assert_int_eq(nq_rate_of(100, NQ_SECONDS(60), 0).every_ns, 600000000);
    ck_assert_int_eq(nq_rate_of(100, NQ_SECONDS(60), 0).burst, 1);
    ck_assert_int_eq(nq_rate_of(1000, NQ_SECONDS(1), 0).burst, 50);
    ck_assert_int_eq(nq_rate_of(1000, NQ_SECONDS(1), 7).burst, 7);
    ck_assert_int_eq(nq_rate_of(3, NQ_SECONDS(1), 0).every_ns, 333333334);
    ck_assert_int_eq(nq_rate_of(INT64_MAX, 1, 0).every_ns, 1);
    ck_assert_int_eq(nq_rate_of(INT64_MAX, 1, INT64_MAX).burst, NQ_RATE_MAX_BURST);
    ck_assert_int_eq(nq_rate_of(1, INT64_MAX, 1).every_ns, NQ_MAX_DURATION * 1000);
}
END_TEST

START_TEST(a_horizon_ahead_one_by_one)
{
    const nq_rate r = nq_rate_of(1000, NQ_SECONDS(1), 1);
    nq_tokens t = nq_rate_tokens(&r, 0, NOW, 500);
    ck_assert_uint_eq(t.n, 21); /* now, and each millisecond of the horizon */
    for (size_t i = 0; i < t.n; i++)
        ck_assert_int_eq(nq_rate_start(&r, &t, i, NOW), NOW + (int64_t)i * 1000);
    const int64_t tat = nq_rate_next(&r, &t, t.n);
    ck_assert_int_eq(tat, (NOW + 21000) * 1000);
    t = nq_rate_tokens(&r, tat, NOW, 500);
    ck_assert_uint_eq(t.n, 0);
    ck_assert_int_eq(t.wait_us, 10001); /* ten at a time are worth a claim */
    t = nq_rate_tokens(&r, tat, NOW + t.wait_us, 500);
    ck_assert_uint_eq(t.n, 10);
    t = nq_rate_tokens(&r, tat, NOW + 1001, 1); /* or the one that is wanted */
    ck_assert_uint_eq(t.n, 1);
    t = nq_rate_tokens(&r, tat, NOW, 0);
    ck_assert_uint_eq(t.n, 0);
    ck_assert_int_eq(nq_rate_left(&r, tat, NOW), 0);
    ck_assert_int_eq(nq_rate_left(&r, tat, NOW + 21000), 1);
}
END_TEST

START_TEST(slow_rates_wait_for_the_one)
{
    const nq_rate r = nq_rate_of(1, NQ_SECONDS(60), 3);
    nq_tokens t = nq_rate_tokens(&r, 0, NOW, 500);
    ck_assert_uint_eq(t.n, 3); /* the burst */
    ck_assert_int_eq(nq_rate_start(&r, &t, 0, NOW), NOW);
    ck_assert_int_eq(nq_rate_start(&r, &t, 2, NOW), NOW);
    const int64_t tat = nq_rate_next(&r, &t, 3);
    t = nq_rate_tokens(&r, tat, NOW, 500);
    ck_assert_uint_eq(t.n, 0);
    ck_assert_int_eq(t.wait_us, NQ_SECONDS(60) - NQ_RATE_HORIZON_US + 1);
    t = nq_rate_tokens(&r, tat, NOW + t.wait_us, 500);
    ck_assert_uint_eq(t.n, 1);
    ck_assert_int_eq(nq_rate_start(&r, &t, 0, NOW), NOW + NQ_SECONDS(60));
    ck_assert_int_eq(nq_rate_left(&r, tat, NOW + NQ_SECONDS(119)), 1);
    ck_assert_int_eq(nq_rate_left(&r, tat, NOW + NQ_SECONDS(999)), 3);
}
END_TEST

/* Strange times hold nothing up, and no sum overflows (the sanitizers look). */
START_TEST(rows_that_hold_anything)
{
    static const int64_t numbers[] = {INT64_MIN,
                                      INT64_MIN + 1,
                                      -1,
                                      0,
                                      1,
                                      2,
                                      1000,
                                      1000000,
                                      INT32_MAX,
                                      UINT32_MAX,
                                      NOW,
                                      NOW * 1000,
                                      NQ_MAX_DURATION,
                                      NQ_MAX_DURATION + 1,
                                      INT64_MAX - 1,
                                      INT64_MAX};
    enum { N = sizeof numbers / sizeof *numbers };
    for (size_t i = 0; i < (size_t)N * N * N; i++) {
        const nq_rate r = nq_rate_of(numbers[i % N], numbers[i / N % N], numbers[i / N / N]);
        if (r.every_ns == 0)
            continue;
        for (size_t k = 0; k < (size_t)N * N; k++) {
            const int64_t now = numbers[k / N];
            const size_t most = k % 3 ? 1000 : SIZE_MAX;
            const nq_tokens t = nq_rate_tokens(&r, numbers[k % N], now, most);
            const bool good = t.n <= most && t.wait_us >= 0 && (t.n > 0) == (t.wait_us == 0) &&
                              nq_rate_next(&r, &t, t.n) >= t.first_ns &&
                              nq_rate_left(&r, numbers[k % N], now) >= 0 &&
                              (t.n == 0 || nq_rate_start(&r, &t, t.n - 1, now) >= now);
            if (!good) /* each assertion that holds takes its time, too */
                ck_abort_msg("row %zu, time %zu: %zu tokens, wait %lld", i, k, t.n, (long long)t.wait_us);
        }
    }
    /* The clock was set back, or the rate was a start a year: the next claim goes on. */
    const nq_rate fast = nq_rate_of(100, NQ_SECONDS(1), 1);
    nq_tokens t = nq_rate_tokens(&fast, (NOW + NQ_SECONDS(3600)) * 1000, NOW, 500);
    ck_assert_uint_eq(t.n, 3);
    ck_assert_int_eq(nq_rate_start(&fast, &t, 0, NOW), NOW);
}
END_TEST

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Claims at random times, each of which takes a while, of random sizes: in no window more than rate and burst
 * allow, and nothing lost while somebody asks. */
START_TEST(any_window)
{
    static int64_t starts[40000];
    uint64_t seed = unit_seed();
    for (int round = 0; round < 60; round++) {
        const int64_t rate = 1 + (int64_t)(unit_next(&seed) % 2000),
                      burst = 1 + (int64_t)(unit_next(&seed) % 60);
        const nq_rate r = nq_rate_of(rate, NQ_SECONDS(1), burst);
        int64_t tat = 0, now = NOW;
        size_t n = 0;
        while (now < NOW + NQ_SECONDS(4)) {
            const int64_t at = now + (int64_t)(unit_next(&seed) % 4 ? 0 : unit_next(&seed) % 300000);
            const nq_tokens t = nq_rate_tokens(&r, tat, at, 1 + unit_next(&seed) % 64);
            const size_t took = unit_next(&seed) % 8 ? t.n : t.n / 2;
            for (size_t i = 0; i < took; i++)
                starts[n++] = nq_rate_start(&r, &t, i, at);
            if (took)
                tat = nq_rate_next(&r, &t, took);
            now += 1 + (int64_t)(unit_next(&seed) % (unit_next(&seed) % 50 ? 4000 : 400000));
        }
        qsort(starts, n, sizeof *starts, compare);
        for (size_t i = 0, k = 0; i < n; i++) {
            while (starts[i] - starts[k] >= NQ_SECONDS(1))
                k++;
            if ((int64_t)(i - k + 1) > rate + burst + 1)
                ck_abort_msg("%zu starts in a second, at %lld/s and %lld", i - k + 1, (long long)rate,
                             (long long)burst);
        }
        ck_assert_uint_gt(n, 0);
    }
}
END_TEST

START_TEST(the_whole_rate_is_used)
{
    const nq_rate r = nq_rate_of(700, NQ_SECONDS(1), 1);
    int64_t tat = 0, now = NOW;
    size_t n = 0;
    while (now < NOW + NQ_SECONDS(10)) {
        const nq_tokens t = nq_rate_tokens(&r, tat, now, 500);
        if (t.n)
            tat = nq_rate_next(&r, &t, t.n);
        n += t.n;
        now += t.n ? 100 : t.wait_us + 3000;
    }
    ck_assert_uint_ge(n, 7000);
    ck_assert_uint_le(n, 7000 + 16);
}
END_TEST

START_TEST(another_clock)
{
    bool known = false;
    int64_t offset = 0;
    nq_clock_offset(&offset, &known, 100, 5000, 130);
    ck_assert_int_eq(offset, 130 - 5000);
    nq_clock_offset(&offset, &known, 200, 5105, 220); /* nearer */
    ck_assert_int_eq(offset, 220 - 5105);
    nq_clock_offset(&offset, &known, 300, 5200, 900300); /* stopped between: as before */
    ck_assert_int_eq(offset, 220 - 5105);
    nq_clock_offset(&offset, &known, 1000000, 500, 1000030); /* theirs was set back */
    ck_assert_int_eq(offset, 1000000 - 500);
    nq_clock_offset(&offset, &known, 1000100, 9000000, 1000130); /* and forth */
    ck_assert_int_eq(offset, 1000130 - 9000000);
}
END_TEST

UNIT_MAIN("rate", of_a_row, a_horizon_ahead_one_by_one, slow_rates_wait_for_the_one, rows_that_hold_anything,
          any_window, the_whole_rate_is_used, another_clock)
