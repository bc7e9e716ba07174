/* SPDX-License-Identifier: MIT */
/* SQLite in a child of fork: it must not go by what its parent's connections had locked. */
#include <pthread.h>
#include <sys/stat.h>

#include "sqlite_driver.h"

/*
 * SQLite keeps one record for each file that a process has open, of the locks that the process has on it; all
 * connections to the file share it, and it is found by the file's device and inode. A child of fork has the
 * records, and none of the locks. A connection that it opens to one of these files would find the record,
 * lock nothing where it says that there is a lock, and (in an NQ_PROCESS child, whose descriptors lead to
 * /dev/null) lock /dev/null instead of the file: it writes at the same time as others, and into a WAL that
 * another process takes for unused and deletes. So what was committed is lost.
 *
 * SQLite has no call by which to forget the records, but it lets a program replace the system calls that it
 * makes. In a child, fstat and stat answer another device than in its parent, so that no record of before is
 * found. Nothing else in SQLite looks at the device; a connection from before, which a child must not use,
 * goes by its record without asking.
 */

#define FORKED_APART 0x5bd1e995U /* times the generation: another device than any that there is */

typedef int (*forked_fstat_fn)(int fd, struct stat *st);
typedef int (*forked_stat_fn)(const char *path, struct stat *st);

static pthread_mutex_t forked_lock = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_vfs *forked_vfs; /* not NULL: our calls are in place */
static dev_t forked_generation; /* how many forks lie between us and who put them there; written by a child
                                   while it has one thread */
static forked_fstat_fn forked_fstat_before;
static forked_stat_fn forked_stat_before;

/* rc: what the call answered. */
static int forked_apart(int rc, struct stat *st)
{
    if (rc == 0)
        st->st_dev += forked_generation * FORKED_APART;
    return rc;
}

static int forked_fstat(int fd, struct stat *st)
{
    return forked_apart(forked_fstat_before(fd, st), st);
}

static int forked_stat(const char *path, struct stat *st)
{
    return forked_apart(forked_stat_before(path, st), st);
}

static void forked_child(void)
{
    forked_generation++;
}

/* With the lock held. All VFSs that have their files from the system share the calls of "unix". */
static int forked_prepare(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
    if (forked_vfs || !vfs || vfs->iVersion < 3)
        return NQ_OK;
    forked_fstat_before = (forked_fstat_fn)vfs->xGetSystemCall(vfs, "fstat");
    forked_stat_before = (forked_stat_fn)vfs->xGetSystemCall(vfs, "stat");
    if (!forked_fstat_before || !forked_stat_before)
        return NQ_OK;
    if (pthread_atfork(NULL, NULL, forked_child) != 0)
        return NQ_ENOMEM;
    forked_vfs = vfs;
    vfs->xSetSystemCall(vfs, "fstat", (sqlite3_syscall_ptr)forked_fstat);
    vfs->xSetSystemCall(vfs, "stat", (sqlite3_syscall_ptr)forked_stat);
    return NQ_OK;
}

/* What we are part of is unloaded, and SQLite perhaps not. */
__attribute__((destructor)) static void forked_undo(void)
{
    if (!forked_vfs)
        return;
    if (forked_vfs->xGetSystemCall(forked_vfs, "fstat") == (sqlite3_syscall_ptr)forked_fstat)
        forked_vfs->xSetSystemCall(forked_vfs, "fstat", (sqlite3_syscall_ptr)forked_fstat_before);
    if (forked_vfs->xGetSystemCall(forked_vfs, "stat") == (sqlite3_syscall_ptr)forked_stat)
        forked_vfs->xSetSystemCall(forked_vfs, "stat", (sqlite3_syscall_ptr)forked_stat_before);
}

NQ_PRIVATE int nq_sqlite_may_fork(nq_err *err)
{
    pthread_mutex_lock(&forked_lock);
    const int rc = forked_prepare();
    pthread_mutex_unlock(&forked_lock);
    return rc == NQ_OK ? NQ_OK : nq_err_nomem(err);
}

NQ_PRIVATE bool nq_sqlite_forked(void)
{
    if (nq_sqlite_may_fork(NULL) != NQ_OK)
        return false;
    if (forked_generation == 0) /* nanoq had no SQLite file open before, but the program may have */
        forked_generation = 1;
    return true;
}
