/* SPDX-License-Identifier: MIT */
/* random.c: bounds, spread, and different numbers in threads and children. */
#include "unit.h"

#include <sys/wait.h>
#include <unistd.h>

START_TEST(in_bounds)
{
    static const uint64_t bounds[] = {0, 1, 2, 6, 255, 1000003, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};

    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++)
        for (int i = 0; i < 2000; i++)
            ck_assert_uint_le(nq_random(bounds[b]), bounds[b]);
}
END_TEST

/* 70,000 throws of seven: each about 10,000, and seven standard deviations are 650. */
START_TEST(spread)
{
    unsigned counts[7] = {0};

    for (int i = 0; i < 70000; i++)
        counts[nq_random(6)]++;
    for (int i = 0; i < 7; i++) {
        ck_assert_uint_gt(counts[i], 10000 - 700);
        ck_assert_uint_lt(counts[i], 10000 + 700);
    }
}
END_TEST

static void *draw(void *out)
{
    *(uint64_t *)out = nq_random(UINT64_MAX);
    return NULL;
}

START_TEST(threads_differ)
{
    uint64_t drawn[4] = {0};
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, draw, &drawn[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            ck_assert_uint_ne(drawn[i], drawn[j]);
}
END_TEST

START_TEST(children_differ)
{
    uint64_t drawn[3];
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    nq_random(1); /* seeded before the fork */
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            uint64_t x = nq_random(UINT64_MAX);
            _exit(write(ends[1], &x, sizeof x) == sizeof x ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        ck_assert_int_eq(read(ends[0], &drawn[i], sizeof drawn[i]), sizeof drawn[i]);
    }
    drawn[2] = nq_random(UINT64_MAX);
    ck_assert(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

UNIT_MAIN("random", in_bounds, spread, threads_differ, children_differ)
