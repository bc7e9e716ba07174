/* SPDX-License-Identifier: MIT */
/* Limits of processes. */
#include <errno.h>
#include <time.h>

#include "process.h"

NQ_PRIVATE int nq_rlimit_lower(nq_rlimit what, rlim_t value, bool hard)
{
    struct rlimit r;
    if (getrlimit(what, &r) != 0)
        return -1;
    if (value > r.rlim_max) /* RLIM_INFINITY is the largest */
        value = r.rlim_max;
    r.rlim_cur = value;
    if (hard)
        r.rlim_max = value;
    return setrlimit(what, &r);
}

NQ_PRIVATE void nq_rlimit_no_core(void)
{
    (void)nq_rlimit_lower(RLIMIT_CORE, 0, false);
}

NQ_PRIVATE int nq_rlimit_cpu(pid_t pid, int64_t us)
{
    clockid_t clock;
    struct timespec used;
    struct rlimit cpu;
    errno = clock_getcpuclockid(pid, &clock);
    if (errno != 0 || clock_gettime(clock, &used) != 0 || prlimit(pid, RLIMIT_CPU, NULL, &cpu) != 0)
        return -1;
    const rlim_t most = (rlim_t)used.tv_sec + (rlim_t)((us + used.tv_nsec / 1000 + 999999) / 1000000);
    cpu.rlim_cur = most < cpu.rlim_max ? most : cpu.rlim_max;
    return prlimit(pid, RLIMIT_CPU, &cpu, NULL);
}
