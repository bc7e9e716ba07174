/* SPDX-License-Identifier: MIT */
/* Random numbers for jitter. */
#include "core.h"

#include <sys/random.h>
#include <unistd.h>

static _Thread_local struct {
    uint64_t state;
    pid_t pid; /* a child must not repeat its parent's numbers */
} random_self;

static void random_seed(pid_t pid)
{
    uint64_t seed = 0;

    /* Early in boot, or under a strict seccomp filter, there may be none: jitter needs only that processes
     * and threads differ. */
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = (uint64_t)nq_mono_us() ^ (uint64_t)nq_real_us() << 20 ^ (uint64_t)pid << 40 ^
               (uint64_t)(uintptr_t)&random_self;
    seed += 0x9e3779b97f4a7c15u; /* splitmix64's last steps, so that near seeds lead far apart */
    seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ seed >> 27) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    random_self.state = seed ? seed : 1; /* xorshift stays at 0 for ever */
    random_self.pid = pid;
}

/* xorshift64* (Vigna) */
static uint64_t random_next(void)
{
    uint64_t x = random_self.state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random_self.state = x;
    return x * 0x2545f4914f6cdd1du;
}

uint64_t nq_random(uint64_t bound)
{
    uint64_t range, limit, x;
    pid_t pid = getpid();

    if (random_self.pid != pid)
        random_seed(pid);
    if (bound == UINT64_MAX)
        return random_next();
    /* Numbers of the last, incomplete round are thrown away: they would favour the small results. */
    range = bound + 1;
    limit = UINT64_MAX - UINT64_MAX % range;
    do
        x = random_next();
    while (x >= limit);
    return x % range;
}
