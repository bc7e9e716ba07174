/* SPDX-License-Identifier: MIT */
/* SQLite's access to its files, with failures. */
#include <sqlite3.h>

#include "inject.h"

/* A file of ours; the real one lies behind it in the same memory. */
struct inject_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_vfs inject_layer, *inject_real;
static sqlite3_io_methods inject_methods;

/* Does this plan concern writes only, or syncs only? */
static bool inject_any(void)
{
    return inject_how() != INJECT_FILE_FULL && inject_how() != INJECT_FILE_SYNC;
}

#define REAL(f) (((struct inject_file *)(void *)(f))->real)

static int inject_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    if (inject_any() && inject_hit(INJECT_FILE))
        return SQLITE_IOERR_READ;
    return REAL(f)->pMethods->xRead(REAL(f), p, n, at);
}

static int inject_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (inject_how() != INJECT_FILE_SYNC && inject_hit(INJECT_FILE)) {
        if (inject_how() == INJECT_FILE_FULL)
            return SQLITE_FULL;
        if (inject_how() == INJECT_FILE_TORN && n > 1)
            REAL(f)->pMethods->xWrite(REAL(f), p, n / 2, at);
        return SQLITE_IOERR_WRITE;
    }
    return REAL(f)->pMethods->xWrite(REAL(f), p, n, at);
}

static int inject_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (inject_any() && inject_hit(INJECT_FILE))
        return SQLITE_IOERR_TRUNCATE;
    return REAL(f)->pMethods->xTruncate(REAL(f), n);
}

static int inject_sync(sqlite3_file *f, int flags)
{
    if (inject_how() != INJECT_FILE_FULL && inject_hit(INJECT_FILE))
        return SQLITE_IOERR_FSYNC;
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}

static int inject_size(sqlite3_file *f, sqlite3_int64 *n)
{
    if (inject_any() && inject_hit(INJECT_FILE))
        return SQLITE_IOERR_FSTAT;
    return REAL(f)->pMethods->xFileSize(REAL(f), n);
}

static int inject_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    if (inject_how() != INJECT_FILE_SYNC && inject_hit(INJECT_FILE))
        return inject_how() == INJECT_FILE_FULL ? SQLITE_FULL : SQLITE_IOERR_SHMMAP;
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, out);
}

static int inject_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags);
}

static void inject_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int inject_shm_unmap(sqlite3_file *f, int remove)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), remove);
}

static int inject_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}

static int inject_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}

static int inject_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}

static int inject_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int inject_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int inject_traits(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int inject_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}

static int inject_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    struct inject_file *file = (struct inject_file *)(void *)f;
    (void)vfs;
    file->base.pMethods = NULL;
    if (inject_any() && inject_hit(INJECT_FILE))
        return SQLITE_CANTOPEN;
    file->real = (sqlite3_file *)(file + 1);
    const int rc = inject_real->xOpen(inject_real, name, file->real, flags, out_flags);
    if (file->real->pMethods)
        file->base.pMethods = &inject_methods;
    return rc;
}

static int inject_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    if (inject_any() && inject_hit(INJECT_FILE))
        return SQLITE_IOERR_DELETE;
    return inject_real->xDelete(inject_real, name, sync);
}

void inject_vfs(void)
{
    inject_real = sqlite3_vfs_find(NULL);
    inject_layer = *inject_real;
    inject_layer.zName = "inject";
    inject_layer.szOsFile = (int)sizeof(struct inject_file) + inject_real->szOsFile;
    inject_layer.xOpen = inject_open;
    inject_layer.xDelete = inject_delete;
    inject_methods = (sqlite3_io_methods){.iVersion = 2,
                                          .xClose = inject_close,
                                          .xRead = inject_read,
                                          .xWrite = inject_write,
                                          .xTruncate = inject_truncate,
                                          .xSync = inject_sync,
                                          .xFileSize = inject_size,
                                          .xLock = inject_lock,
                                          .xUnlock = inject_unlock,
                                          .xCheckReservedLock = inject_reserved,
                                          .xFileControl = inject_control,
                                          .xSectorSize = inject_sector,
                                          .xDeviceCharacteristics = inject_traits,
                                          .xShmMap = inject_shm_map,
                                          .xShmLock = inject_shm_lock,
                                          .xShmBarrier = inject_shm_barrier,
                                          .xShmUnmap = inject_shm_unmap};
    sqlite3_vfs_register(&inject_layer, 1);
}

void inject_vfs_end(void)
{
    sqlite3_vfs_unregister(&inject_layer);
}
