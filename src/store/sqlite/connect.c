/* SPDX-License-Identifier: MIT */
/* SQLite: opening, connecting, what hints need. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sqlite_driver.h"

#define NQ_SQLITE_CONN_MIN 3035000 /* RETURNING */
#define NQ_SQLITE_CONN_MIN_MEMORY                                                                            \
    3036000                       /* a memory database that several connections share without a cache        \
                                   */
#define NQ_SQLITE_CONN_ROOM 65536 /* of SQLite's row limit, for the columns beside the payload */

/* ---- Opening ---- */

static int sqlite_conn_options(nq_store *s, nq_sqlite_data *d, nq_err *err)
{
    const char *sync = nq_url_option_get(&s->url, "synchronous", "full");
    nq_err why = {0};
    if (nq_parse_duration(nq_url_option_get(&s->url, "busy_timeout", "5s"), &d->busy_us, &why))
        return nq_err_set(err, NQ_EINVAL, "busy_timeout: %s", why.message);
    if (strcmp(sync, "full") != 0 && strcmp(sync, "normal") != 0)
        return nq_err_set(err, NQ_EINVAL, "synchronous must be full or normal");
    d->normal = sync[0] == 'n';
    return NQ_OK;
}

static int sqlite_conn_version(const nq_sqlite_data *d, nq_err *err)
{
    const int have = sqlite3_libversion_number();
    if (have < NQ_SQLITE_CONN_MIN || (d->memory && have < NQ_SQLITE_CONN_MIN_MEMORY))
        return nq_err_set(err, NQ_EUNSUPPORTED, "SQLite %s is too old: nanoq needs %s", sqlite3_libversion(),
                          d->memory ? "3.36 for :memory:" : "3.35");
    if (!sqlite3_threadsafe())
        return nq_err_set(err, NQ_EUNSUPPORTED, "this SQLite was built without support for threads");
    return NQ_OK;
}

/* The file's absolute path; this also keeps names such as "file:x" from being taken for URIs. */
static int sqlite_conn_path(const char *path, char **out, nq_err *err)
{
    nq_buf b = {0};
    if (path[0] != '/') {
        char *cwd = getcwd(NULL, 0);
        if (!cwd)
            return nq_err_sys(err, NQ_ESYSTEM, errno, "current directory");
        nq_buf_str(&b, cwd);
        nq_buf_str(&b, "/");
        free(cwd);
    }
    nq_buf_str(&b, path);
    if (b.failed) {
        nq_buf_free(&b);
        return nq_err_nomem(err);
    }
    *out = b.p;
    return NQ_OK;
}

static int sqlite_conn_flags(const nq_sqlite_data *d)
{
    return SQLITE_OPEN_READWRITE | (d->made ? 0 : SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX |
           (d->memory ? SQLITE_OPEN_URI : 0);
}

NQ_PRIVATE int nq_sqlite_open(nq_store *s, nq_err *err)
{
    nq_sqlite_data *d;
    const char *path = s->url.path;
    int rc;

    if (!path || !path[0])
        return nq_err_set(err, NQ_EURL, "the URL names no file: sqlite:PATH or sqlite::memory:");
    if (!(d = calloc(1, sizeof *d)))
        return nq_err_nomem(err);
    s->data = d;
    d->memory = strcmp(path, ":memory:") == 0;
    if ((rc = sqlite_conn_version(d, err)) != NQ_OK || (rc = sqlite_conn_options(s, d, err)) != NQ_OK)
        goto out;
    if (!d->memory) {
        if ((rc = nq_sqlite_may_fork(err)) == NQ_OK)
            rc = sqlite_conn_path(path, &d->file, err);
    } else {
        nq_buf b = {0};
        nq_buf_fmt(&b, "file:/nanoq-%p-%llx?vfs=memdb", (void *)s, (unsigned long long)nq_random(UINT64_MAX));
        d->file = b.p;
        if (b.failed || sqlite3_open_v2(d->file, &d->anchor, sqlite_conn_flags(d), NULL) != SQLITE_OK)
            rc = nq_err_nomem(err);
    }
out:
    if (rc != NQ_OK)
        nq_sqlite_close(s);
    return rc;
}

NQ_PRIVATE void nq_sqlite_close(nq_store *s)
{
    nq_sqlite_data *d = s->data;
    s->data = NULL;
    if (!d)
        return;
    sqlite3_close(d->anchor);
    free(d->file);
    free(d);
}

/* ---- Connecting ---- */

static int sqlite_conn_busy(void *arg, int count)
{
    nq_sqlite_conn *c = arg;
    const nq_sqlite_data *d = c->base.store->data;
    const int64_t now = nq_mono_us();
    const int64_t pause = count < 7 ? (int64_t)50 << count : 5000;
    if (count == 0)
        c->busy_since = now;
    const int64_t most = c->base.wait_us && c->base.wait_us < d->busy_us ? c->base.wait_us : d->busy_us;
    if (now - c->busy_since >= most)
        return 0;
    nq_sleep_us(pause / 2 + (int64_t)nq_random((uint64_t)pause / 2));
    return 1;
}

static void sqlite_conn_now(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_int64(ctx, nq_store_clock(sqlite3_user_data(ctx)));
}

static bool sqlite_conn_parent_exists(const char *file)
{
    const char *slash = strrchr(file, '/');
    struct stat st;
    char *dir = strndup(file, slash ? (size_t)(slash - file) + 1 : 0);
    const bool there = dir && stat(dir, &st) == 0 && S_ISDIR(st.st_mode);
    free(dir);
    return there;
}

/* The WAL lies beside the name that a file was opened by. By two names there are two of them, and what is
 * committed by one is not seen by the other, and overwritten. By name, as in nq_sqlite_identity. */
static int sqlite_conn_one_name(const char *file, nq_err *err)
{
    struct stat st;
    if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1)
        return nq_err_set(err, NQ_EUNSUPPORTED,
                          "%s has %llu names (hard links): used by two of them its tasks would be lost; "
                          "keep one, and make others symbolic links",
                          file, (unsigned long long)st.st_nlink);
#ifdef STATX_ATTR_MOUNT_ROOT
    struct statx x;
    if (statx(AT_FDCWD, file, 0, STATX_BASIC_STATS, &x) == 0 && S_ISREG(x.stx_mode) &&
        (x.stx_attributes_mask & x.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return nq_err_set(
            err, NQ_EUNSUPPORTED,
            "%s is a mount of the file alone, which has another name elsewhere: used by both its "
            "tasks would be lost; mount its directory",
            file);
#endif
    return NQ_OK;
}

static bool sqlite_conn_read_only(const char *file)
{
    struct statvfs fs;
    return statvfs(file, &fs) == 0 && (fs.f_flag & ST_RDONLY);
}

/* sqlite3_open_v2 failed: say which of the many reasons it was. */
static int sqlite_conn_open_error(nq_sqlite_conn *c, const char *file, nq_err *err)
{
    const int saved = c->db ? sqlite3_system_errno(c->db) : ENOMEM;
    const int number = c->db ? sqlite3_extended_errcode(c->db) : SQLITE_NOMEM;
    const nq_sqlite_data *d = c->base.store->data;
    struct stat st;
    int rc = NQ_EDENIED;

    if (number == SQLITE_NOMEM)
        return nq_err_nomem(err);
    if ((number & 0xff) != SQLITE_CANTOPEN)
        return nq_sqlite_conn_error(c, err);
    if (stat(file, &st) == 0 && S_ISDIR(st.st_mode))
        rc = nq_err_set(err, NQ_ENODB, "cannot open %s: it is a directory", file);
    else if (saved == ENOTDIR || saved == ENAMETOOLONG || saved == ELOOP)
        rc = nq_err_sys(err, NQ_ENODB, saved, "cannot open %s", file);
    else if (saved == EACCES || saved == EPERM)
        rc = nq_err_sys(err, NQ_EDENIED, saved, "cannot open %s", file);
    else if (saved == EROFS)
        rc = nq_err_sys(err, NQ_EREADONLY, saved, "cannot open %s", file);
    else if (d->made && stat(file, &st) != 0 && errno == ENOENT)
        rc = nq_err_set(err, NQ_ENODB, "%s is gone: it was deleted or moved while it was in use", file);
    else if (saved != ENOENT && saved != 0)
        rc = nq_err_sys(err, NQ_ESYSTEM, saved, "cannot open %s", file);
    else if (!sqlite_conn_parent_exists(file))
        rc = nq_err_set(err, NQ_ENODB, "cannot open %s: its directory does not exist", file);
    else /* SQLite's last try, without creating, hides why the first one failed */
        rc = nq_err_set(err, NQ_EDENIED, "cannot create %s: no permission to write its directory", file);
    if (err)
        err->db_code = number;
    return rc;
}

/* Run one PRAGMA; the first column of its last row goes to out as text. */
static int sqlite_conn_pragma(nq_sqlite_conn *c, const char *sql, char *out, size_t size, nq_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(stmt, 0);
        if (out)
            snprintf(out, size, "%s", text ? (const char *)text : "");
        rc = SQLITE_OK;
    }
    rc = rc == SQLITE_DONE ? NQ_OK : nq_sqlite_conn_error(c, err);
    sqlite3_finalize(stmt);
    return rc;
}

/* Changing to WAL needs the file alone and does not always ask the busy handler: wait here. */
static int sqlite_conn_journal(nq_sqlite_conn *c, nq_err *err)
{
    const nq_store *s = c->base.store;
    const nq_sqlite_data *d = s->data;
    const int64_t end = nq_mono_us() + d->busy_us;
    char mode[16] = "";
    int rc;
    if (d->memory)
        return sqlite_conn_pragma(c, "PRAGMA journal_mode=MEMORY", NULL, 0, err);
    while ((rc = sqlite_conn_pragma(c, "PRAGMA journal_mode", mode, sizeof(mode), err)) == NQ_OK &&
           strcmp(mode, "wal") != 0) {
        rc = sqlite_conn_pragma(c, "PRAGMA journal_mode=WAL", mode, sizeof(mode), err);
        if (rc != NQ_ECONFLICT || nq_mono_us() >= end)
            break;
        nq_sleep_us(1000 + (int64_t)nq_random(4000));
    }
    if (rc == NQ_OK && strcmp(mode, "wal") != 0 && s->log)
        s->log(NQ_LOG_WARN, "SQLite cannot use WAL for this file: slower, readers wait", s->log_udata);
    return rc;
}

/* Everything between an open handle and a usable one. */
static int sqlite_conn_setup(nq_sqlite_conn *c, nq_err *err)
{
    nq_store *s = c->base.store;
    const nq_sqlite_data *d = s->data;
    const char *sync = d->memory   ? "PRAGMA synchronous=OFF"
                       : d->normal ? "PRAGMA synchronous=NORMAL"
                                   : "PRAGMA synchronous=FULL";
    char encoding[16] = "";
    int rc;

    sqlite3_extended_result_codes(c->db, 1);
    if (sqlite3_busy_handler(c->db, sqlite_conn_busy, c) != SQLITE_OK ||
        sqlite3_create_function_v2(c->db, "nanoq_now", 0, SQLITE_UTF8 | SQLITE_DIRECTONLY, s, sqlite_conn_now,
                                   NULL, NULL, NULL) != SQLITE_OK)
        return nq_sqlite_conn_error(c, err);
    /* A file from elsewhere may carry a schema that calls functions or that damages the file. */
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
    if ((rc = sqlite_conn_pragma(c, "PRAGMA trusted_schema=OFF", NULL, 0, err)) != NQ_OK ||
        (rc = sqlite_conn_pragma(c, "PRAGMA temp_store=MEMORY", NULL, 0, err)) != NQ_OK ||
        (rc = sqlite_conn_pragma(c, "PRAGMA encoding", encoding, sizeof(encoding), err)) != NQ_OK)
        return rc;
    if (strcmp(encoding, "UTF-8") != 0)
        return nq_err_set(err, NQ_EUNSUPPORTED, "the database is encoded in %s, nanoq needs UTF-8", encoding);
    if (sqlite3_db_readonly(c->db, "main") == 1)
        return nq_err_set(err, NQ_EREADONLY, "no permission to write it");
    if ((rc = sqlite_conn_journal(c, err)) != NQ_OK ||
        (rc = sqlite_conn_pragma(c, sync, NULL, 0, err)) != NQ_OK)
        return rc;
    const size_t most = (size_t)sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, -1) - NQ_SQLITE_CONN_ROOM;
    if (s->max_payload > most)
        s->max_payload = most;
    return NQ_OK;
}

NQ_PRIVATE int nq_sqlite_connect(nq_store *s, nq_conn **out, nq_err *err)
{
    nq_sqlite_data *d = s->data;
    nq_sqlite_conn *c = calloc(1, sizeof *c);
    nq_err why = {0};
    int rc;

    if (!c)
        return nq_err_nomem(err);
    c->base.store = s;
    c->lock_fd = -1;
    if (!d->memory && (rc = sqlite_conn_one_name(d->file, err)) != NQ_OK) {
        nq_sqlite_disconnect(&c->base);
        return rc;
    }
    if (sqlite3_open_v2(d->file, &c->db, sqlite_conn_flags(d), NULL) != SQLITE_OK) {
        rc = sqlite_conn_open_error(c, d->file, err);
    } else if ((rc = sqlite_conn_setup(c, &why)) != NQ_OK) {
        if (rc == NQ_EDENIED && sqlite_conn_read_only(d->file)) /* of its -wal, without a word why */
            rc = nq_err_set(&why, NQ_EREADONLY, "its file system is read-only");
        nq_err_set(err, rc, "%s: %s", d->memory ? ":memory:" : d->file, why.message);
        if (err)
            err->db_code = why.db_code;
    }
    if (rc != NQ_OK) {
        nq_sqlite_disconnect(&c->base);
        return rc;
    }
    if (!d->made) /* the first one: while the store is opened, by one thread */
        d->made = !d->memory;
    *out = &c->base;
    return NQ_OK;
}

NQ_PRIVATE void nq_sqlite_disconnect(nq_conn *conn)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    if (!c)
        return;
    for (size_t i = 0; i < NQ_SQLITE_HOT; i++)
        sqlite3_finalize(c->hot[i]);
    for (size_t i = 0; i < NQ_SQLITE_CACHE; i++)
        sqlite3_finalize(c->cache[i].stmt);
    sqlite3_close(c->db);
    if (c->lock_fd >= 0) {
        nq_fork_forgets(c->lock_ticket);
        close(c->lock_fd);
    }
    free(c);
}

/* A file that was deleted or replaced would swallow what we write to it, and a lock on another lock file than
 * the others' says nothing. */
NQ_PRIVATE bool nq_sqlite_usable(nq_conn *conn)
{
    nq_sqlite_conn *c = (nq_sqlite_conn *)conn;
    int moved = 0;
    if (nq_sqlite_lock_strayed(c))
        return false;
    return sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || !moved;
}

/* ---- What hints need ---- */

/* By name, never by opening it: closing a descriptor of the file would drop this process's locks on it. */
NQ_PRIVATE void nq_sqlite_identity(const nq_store *s, nq_buf *out)
{
    const nq_sqlite_data *d = s->data;
    struct stat st;
    if (!d->memory && stat(d->file, &st) == 0)
        nq_buf_fmt(out, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
}

/* The WAL, beside the file that a symbolic link leads to. */
NQ_PRIVATE char *nq_sqlite_watched(const nq_store *s)
{
    const nq_sqlite_data *d = s->data;
    char *file = d->memory ? NULL : realpath(d->file, NULL);
    nq_buf b = {0};
    if (!file)
        return NULL;
    nq_buf_fmt(&b, "%s-wal", file);
    free(file);
    if (b.failed)
        nq_buf_free(&b);
    return b.p;
}

NQ_PRIVATE nq_tx nq_sqlite_tx_from(void *conn, const char **client)
{
    *client = sqlite3_sourceid();
    return nq_tx_sqlite(conn);
}
