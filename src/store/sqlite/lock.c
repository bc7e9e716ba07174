/* SPDX-License-Identifier: MIT */
/* SQLite: the lock that dies with its process. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlite_driver.h"

/*
 * Worker id's lock is byte `id` of the file "<database>-nanoq-lock", by an open file description lock:
 * each connection opens the file for itself, so that two handles of one process see each other too, and
 * closing one releases nothing of another's (as classic POSIX locks would; for the same reason the
 * database file itself is never opened here). The file is never unlinked: a new one would be another lock.
 * Where somebody else does that, whoever holds a lock sees that the path leads elsewhere (nq_sqlite_usable),
 * and locks anew; till then a new file is like a server that has just started, see nq_sqlite_uptime.
 */

static bool sqlite_lock_possible(const nq_sqlite_conn *c)
{
    return !((const nq_sqlite_data *)c->base.store->data)->memory;
}

/* Give a lock file that we just made the owner and mode of the database: whoever works the one needs the
 * other. But who may not write the database may not read this either: a lock for reading would keep every
 * worker from its own. Best effort; a failure shows when somebody is refused. */
static void sqlite_lock_mirror(int fd, const char *database)
{
    struct stat db, lock;
    if (stat(database, &db) != 0 || fstat(fd, &lock) != 0)
        return;
    const mode_t writers = db.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH), mode = writers | writers << 1;
    if (geteuid() == 0 && (db.st_uid != lock.st_uid || db.st_gid != lock.st_gid) &&
        fchown(fd, db.st_uid, db.st_gid) != 0)
        return;
    if ((lock.st_mode & 0777) != mode && fchmod(fd, mode) != 0)
        return;
}

/* Only the one who made it says whose it is: what lies there already may be another's, linked to whatever. */
static int sqlite_lock_make(const char *path, const char *database)
{
    for (int i = 0;; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            sqlite_lock_mirror(fd, database);
        else if (errno == EEXIST)
            fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 || errno != ENOENT || i == 3) /* ENOENT: taken away meanwhile */
            return fd;
    }
}

NQ_PRIVATE void nq_sqlite_lock_path(const nq_sqlite_conn *c, nq_buf *path)
{
    nq_buf_str(path, sqlite3_db_filename(c->db, "main")); /* symbolic links resolved */
    nq_buf_str(path, "-nanoq-lock");
}

/* Does the path lead to another file than the one whose locks we hold and see, or to none? */
NQ_PRIVATE bool nq_sqlite_lock_strayed(const nq_sqlite_conn *c)
{
    struct stat ours, there;
    nq_buf path = {0};
    bool strayed = false;
    if (c->lock_fd < 0)
        return false;
    nq_sqlite_lock_path(c, &path);
    if (!path.failed && fstat(c->lock_fd, &ours) == 0)
        strayed = stat(path.p, &there) != 0 ? errno == ENOENT || errno == ENOTDIR
                                            : ours.st_dev != there.st_dev || ours.st_ino != there.st_ino;
    nq_buf_free(&path);
    return strayed;
}

static int sqlite_lock_open(nq_sqlite_conn *c, nq_err *err)
{
    const char *database = sqlite3_db_filename(c->db, "main");
    nq_buf path = {0};
    int rc = NQ_OK;

    if (c->lock_fd >= 0)
        return NQ_OK;
    nq_sqlite_lock_path(c, &path);
    if (path.failed) {
        rc = nq_err_nomem(err);
    } else {
        c->lock_fd = sqlite_lock_make(path.p, database);
        if (c->lock_fd < 0)
            rc = nq_err_sys(err, errno == EACCES || errno == EPERM ? NQ_EDENIED : NQ_ESYSTEM, errno,
                            "cannot open the lock file %s", path.p);
        if (c->lock_fd >= 0 && !(c->lock_ticket = nq_fork_leaves(c->lock_fd))) {
            close(c->lock_fd);
            c->lock_fd = -1;
            rc = nq_err_nomem(err);
        }
    }
    nq_buf_free(&path);
    return rc;
}

/* The kernel's clock for the times of files stands still for so long: a file may be younger than it says. */
#define SQLITE_LOCK_TICK_US NQ_MS(20)

/* Who has not beaten since the lock file was made may have been robbed of the one before. It is never written
 * to, so its time is that of its making. */
NQ_PRIVATE int nq_sqlite_uptime(nq_conn *conn, int64_t *us, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    struct stat lock;
    int rc;
    *us = NQ_DAYS(365);
    if (!sqlite_lock_possible(c))
        return NQ_OK;
    if ((rc = sqlite_lock_open(c, err)) != NQ_OK)
        return rc;
    if (fstat(c->lock_fd, &lock) == 0)
        *us = nq_real_us() - (NQ_SECONDS((int64_t)lock.st_mtim.tv_sec) + lock.st_mtim.tv_nsec / 1000) -
              SQLITE_LOCK_TICK_US;
    if (*us < 0) { /* made just now: what we do from here on, such as to beat, is to come after that */
        nq_sleep_us(*us > -SQLITE_LOCK_TICK_US ? -*us : SQLITE_LOCK_TICK_US);
        *us = 0;
    }
    return NQ_OK;
}

static int sqlite_lock_call(int fd, int command, short type, uint64_t id, struct flock *lock)
{
    int rc;
    *lock = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)id, .l_len = 1};
    do
        rc = fcntl(fd, command, lock);
    while (rc < 0 && errno == EINTR);
    return rc;
}

NQ_PRIVATE int nq_sqlite_lock_hold(nq_conn *conn, uint64_t id, nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    struct flock lock;
    int rc;

    if (!sqlite_lock_possible(c))
        return NQ_OK;
    if ((rc = sqlite_lock_open(c, err)) != NQ_OK)
        return rc;
    if (sqlite_lock_call(c->lock_fd, F_OFD_SETLK, F_WRLCK, id, &lock) == 0) {
        c->lock_id = id;
        return NQ_OK;
    }
    if (errno == EAGAIN || errno == EACCES)
        return nq_err_set(err, NQ_ECONFLICT, "another process holds the lock of worker %llu",
                          (unsigned long long)id);
    return nq_err_sys(err, NQ_ESYSTEM, errno, "cannot lock the file beside the database");
}

NQ_PRIVATE void nq_sqlite_lock_drop(nq_conn *conn, uint64_t id)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    struct flock lock;
    if (c->lock_fd >= 0)
        (void)sqlite_lock_call(c->lock_fd, F_OFD_SETLK, F_UNLCK, id, &lock);
    c->lock_id = 0;
}

NQ_PRIVATE int nq_sqlite_lock_probe(nq_conn *conn, const uint64_t ids[], size_t n, int8_t free_out[],
                                    nq_err *err)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    const bool possible = sqlite_lock_possible(c);
    int rc;
    if (possible && (rc = sqlite_lock_open(c, err)) != NQ_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct flock lock;
        if (!possible || sqlite_lock_call(c->lock_fd, F_OFD_GETLK, F_WRLCK, ids[i], &lock) != 0)
            free_out[i] = -1;
        else /* a description does not see its own locks */
            free_out[i] = lock.l_type == F_UNLCK && ids[i] != c->lock_id;
    }
    return NQ_OK;
}
