/* SPDX-License-Identifier: MIT */
/* The shared library in a program that loads it, unloads it and goes on with SQLite: test_unload LIBRARY. */
#include <dlfcn.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static const char *unload_library;

/* What ISO C does not let one cast. */
static void unload_find(void *library, const char *name, void *function, size_t size)
{
    void *found = dlsym(library, name);
    ck_assert_ptr_nonnull(found);
    memcpy(function, &found, size);
}

static void unload_write(const char *sql)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open("unload.db", &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static void unload_use(void)
{
    int (*open)(nq * *out, const char *url, const nq_options *opts, nq_err *err);
    int (*migrate)(nq * q, nq_err * err);
    void (*close)(nq * q);
    nq *q = NULL;
    nq_err err;
    void *library = dlopen(unload_library, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        ck_abort_msg("%s", dlerror());
    unload_find(library, "nq_open", &open, sizeof open);
    unload_find(library, "nq_migrate", &migrate, sizeof migrate);
    unload_find(library, "nq_close", &close, sizeof close);
    ck_assert_int_eq(open(&q, "sqlite:unload.db", NULL, &err), NQ_OK);
    ck_assert_int_eq(migrate(q, &err), NQ_OK);
    close(q);
    ck_assert_int_eq(dlclose(library), 0);
}

/* SQLite calls functions of the library's (src/store/sqlite/forked.c), and a fork does. */
START_TEST(sqlite_and_fork_work_when_it_is_gone)
{
    char directory[] = "/tmp/nanoq-unload-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    unload_write("CREATE TABLE own (n INT)");
    for (int i = 0; i < 2; i++) {
        int status;
        unload_use();
        unload_write("INSERT INTO own VALUES (1)");
        const pid_t child = fork();
        if (child == 0) {
            unload_write("INSERT INTO own VALUES (2)");
            _exit(7);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(WEXITSTATUS(status), 7);
    }
    unlink("unload.db-nanoq-lock");
    ck_assert_int_eq(unlink("unload.db"), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const cases[] = {sqlite_and_fork_work_when_it_is_gone};
    unload_library = argc > 1 ? argv[1] : "libnanoq.so";
    return unit_run("unload", cases, 1);
}
