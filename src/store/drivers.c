/* SPDX-License-Identifier: MIT */
/* Which driver is that of a scheme. The library that programs share loads the one for servers on demand, so
 * that who only has SQLite needs no MySQL client: docs/architecture.md. */
#include "store.h"

#ifdef NQ_LOADS_MYSQL
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>

/* Beside this library, and nowhere else: what is loaded is what was installed with it. In the build directory
 * without the folder. A realpath, because the linker may have found us by a relative one. */
static void *drivers_load(const char *folder, char *why, size_t size)
{
    static const char here = 0; /* what lies in this library */
    char self[PATH_MAX], path[PATH_MAX + 64];
    Dl_info info;
    void *found = NULL;
    if (!dladdr(&here, &info) || !info.dli_fname || !realpath(info.dli_fname, self)) {
        snprintf(why, size, "where this library is cannot be told");
        return NULL;
    }
    *(strrchr(self, '/') + 1) = '\0';
    snprintf(path, sizeof path, "%s%slibnanoq-mysql.so", self, folder);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* for good: never closed */
    if (library)
        found = dlsym(library, "nq_driver_mysql");
    const char *said = found ? NULL : dlerror();
    if (said)
        snprintf(why, size, "%s", said);
    return found;
}

/* Again after a failure: the package may be installed while we run. */
static int drivers_mysql(const nq_driver **out, nq_err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const nq_driver *loaded;
    char why[300] = "", elsewhere[300];
    pthread_mutex_lock(&lock);
    if (!loaded)
        loaded = drivers_load(NQ_LOADS_MYSQL "/", why, sizeof why);
    if (!loaded)
        loaded = drivers_load("", elsewhere, sizeof elsewhere);
    *out = loaded;
    pthread_mutex_unlock(&lock);
    if (*out)
        return NQ_OK;
    return nq_err_set(err, NQ_EUNSUPPORTED,
                      "the store for mysql: URLs could not be loaded (is libnanoq-mysql installed?): %s",
                      why);
}
#endif

NQ_PRIVATE int nq_store_driver(const nq_driver **out, const char *scheme, nq_err *err)
{
    const bool mysql = strcmp(scheme, "mysql") == 0;
    *out = NULL;
#ifdef NQ_WITH_MYSQL
    if (mysql) {
        *out = &nq_driver_mysql;
        return NQ_OK;
    }
#endif
#ifdef NQ_LOADS_MYSQL
    if (mysql)
        return drivers_mysql(out, err);
#endif
#ifdef NQ_WITH_SQLITE
    if (strcmp(scheme, "sqlite") == 0) {
        *out = &nq_driver_sqlite;
        return NQ_OK;
    }
#endif
    if (!mysql && strcmp(scheme, "sqlite") != 0)
        return nq_err_set(err, NQ_EURL, "this library has no driver for %.20s: URLs", scheme);
    return nq_err_set(err, NQ_EUNSUPPORTED,
                      "this library was built without the store for %s: URLs: compile it with -DNQ_WITH_%s",
                      scheme, mysql ? "MYSQL" : "SQLITE");
}

NQ_PRIVATE bool nq_store_forked(void)
{
#ifdef NQ_WITH_SQLITE
    return nq_driver_sqlite.forked();
#else
    return true;
#endif
}
