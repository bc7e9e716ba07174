/* SPDX-License-Identifier: MIT */
/* clock.c: clocks that go on, waits that end. */
#include "unit.h"

START_TEST(clocks)
{
    int64_t before = nq_mono_us(), real = nq_real_us();

    ck_assert_int_gt(before, 0);
    ck_assert_int_gt(real, (int64_t)1577836800 * 1000000); /* 2020 */
    for (int i = 0; i < 1000; i++) {
        int64_t now = nq_mono_us();
        ck_assert_int_ge(now, before);
        before = now;
    }
}
END_TEST

START_TEST(sleeps)
{
    int64_t start = nq_mono_us();

    nq_sleep_us(0);
    nq_sleep_us(-1);
    nq_sleep_us(INT64_MIN);
    ck_assert_int_lt(nq_mono_us() - start, NQ_SECONDS(10));
    nq_sleep_us(2000);
    ck_assert_int_ge(nq_mono_us() - start, 2000);
}
END_TEST

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;
static bool rung;

static void *ring(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&mutex);
    rung = true;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return NULL;
}

START_TEST(waits)
{
    static const int64_t past[] = {0, -1, INT64_MIN, 1};
    pthread_t thread;
    int64_t until;

    ck_assert_int_eq(nq_cond_init(&cond), 0);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < sizeof past / sizeof past[0]; i++)
        ck_assert(!nq_cond_wait_until(&cond, &mutex, past[i]));
    until = nq_mono_us() + 5000;
    while (nq_cond_wait_until(&cond, &mutex, until))
        ;
    ck_assert_int_ge(nq_mono_us(), until);
    ck_assert_int_eq(pthread_create(&thread, NULL, ring, NULL), 0);
    while (!rung)
        ck_assert(nq_cond_wait_until(&cond, &mutex, INT64_MAX));
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&cond);
}
END_TEST

START_TEST(differences_saturate)
{
    ck_assert_int_eq(nq_us_since(5, 3), 2);
    ck_assert_int_eq(nq_us_since(3, 5), -2);
    ck_assert_int_eq(nq_us_since(5, INT64_MIN), INT64_MAX);
    ck_assert_int_eq(nq_us_since(-1, INT64_MIN), INT64_MAX);
    ck_assert_int_eq(nq_us_since(-5, INT64_MAX), INT64_MIN);
    ck_assert_int_eq(nq_us_since(0, INT64_MAX), -INT64_MAX);
    ck_assert_int_eq(nq_us_since(INT64_MIN, INT64_MIN), 0);
    ck_assert_int_eq(nq_us_since(INT64_MAX, INT64_MAX), 0);
}
END_TEST

UNIT_MAIN("clock", clocks, sleeps, waits, differences_saturate)
