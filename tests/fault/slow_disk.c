/* SPDX-License-Identifier: MIT */
/* LD_PRELOAD: the disk of a process is slow: each sync takes FAULT_SYNC_MS longer. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void slow_disk_wait(void)
{
    const char *ms = getenv("FAULT_SYNC_MS");
    const long wanted = ms ? strtol(ms, NULL, 10) : 0;
    const struct timespec pause = {.tv_sec = wanted / 1000, .tv_nsec = wanted % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

int fsync(int fd)
{
    slow_disk_wait();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    slow_disk_wait();
    return (int)syscall(SYS_fdatasync, fd);
}
