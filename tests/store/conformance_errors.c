/* SPDX-License-Identifier: MIT */
/* What goes wrong at opening and at the database: each a distinct error that says what it was. */
#include "suites.h"

#include <fcntl.h>
#include <sys/stat.h>

static const struct {
    const char *url;
    int code;
} errors_urls[] = {
    {NULL, NQ_EINVAL},
    {"", NQ_EURL},
    {"nonsense", NQ_EURL},
    {"mysql:", NQ_EURL},
    {"mysql://", NQ_EURL},
    {"mysql://u:s3cret@", NQ_EURL},
    {"mysql://u:s3cret@h", NQ_EURL},
    {"mysql://u:s3cret@h/", NQ_EURL},
    {"mysql://u:s3cret@h:port/db", NQ_EURL},
    {"mysql://u:s3cret@h:70000/db", NQ_EURL},
    {"mysql://u:s3cret@h:0/db", NQ_EURL},
    {"mysql://u:s3cret%zz@h/db", NQ_EURL},
    {"mysql://u:s3cret%00@h/db", NQ_EURL},
    {"sqlite:", NQ_EURL},
    {"oracle://u:s3cret@h/db", NQ_EURL},
    {"sqlite:x.db?nope=1", NQ_EINVAL},
    {"sqlite:x.db?socket=1", NQ_EINVAL},
    {"sqlite:x.db?busy_timeout=soon", NQ_EINVAL},
    {"sqlite:x.db?busy_timeout=-1s", NQ_EINVAL},
    {"sqlite:x.db?busy_timeout=99999999999999999999s", NQ_EINVAL},
    {"sqlite:x.db?synchronous=off", NQ_EINVAL},
    {"mysql://u:s3cret@h/db?nope=1", NQ_EINVAL},
    {"mysql://u:s3cret@h/db?busy_timeout=1s", NQ_EINVAL},
    {"mysql://u:s3cret@h/db?tls=maybe", NQ_EINVAL},
    {"mysql://u:s3cret@h/db?connect_timeout=x", NQ_EINVAL},
    {"mysql://u@h/db?password_file=/nonexistent/s", NQ_EINVAL},
};

START_TEST(a_bad_url_or_option_is_refused)
{
    t_open_fails(errors_urls[_i].url, errors_urls[_i].code);
    ck_assert_int_ne(access("x.db", F_OK), 0); /* nothing half-done */
}
END_TEST

START_TEST(an_unknown_option_is_named)
{
    t_open_fails(t_url_with("colour=red"), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "colour"));
    t_open_fails(t_url_with("prefix=1x"), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(t_last.message, "prefix"));
}
END_TEST

/* ---- A file: SQLite ------------------------------------------------------------------------- */

START_TEST(a_directory_that_does_not_exist)
{
    t_open_fails("sqlite:/nonexistent/dir/queue.db", NQ_ENODB);
    ck_assert_ptr_nonnull(strstr(t_last.message, "/nonexistent/dir/queue.db"));
}
END_TEST

START_TEST(a_read_only_file)
{
    nq *q = t_open();
    T_ADD(q, .type = "t");
    nq_close(q);
    ck_assert_int_eq(chmod(t_url + 7, 0444), 0);
    ck_assert_int_eq(chmod("..", 0755), 0);
    ck_assert_int_eq(chmod(".", 0555), 0);
    /* Modes do not bind root. */
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    nq_err err = {0};
    q = NULL;
    int rc = nq_open(&q, t_url, NULL, &err);
    if (rc == NQ_OK) {
        rc = nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "u"), NULL, &err);
        nq_close(q);
    }
    if (geteuid() != getuid())
        ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod(".", 0700), 0);
    ck_assert_msg(rc == NQ_EREADONLY || rc == NQ_EDENIED, "%s: %s", nq_code_name(rc), err.message);
    ck_assert_ptr_nonnull(strstr(err.message, t_url + 7));
}
END_TEST

START_TEST(a_file_that_is_no_database)
{
    FILE *f = fopen("queue.db", "w");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < 3000; i++)
        fputs("this is not a database\n", f);
    fclose(f);
    nq *q = NULL;
    memset(&t_last, 0, sizeof t_last);
    int rc = nq_open(&q, "sqlite:queue.db", NULL, &t_last);
    if (rc == NQ_OK) {
        rc = nq_migrate(q, &t_last);
        nq_close(q);
    }
    ck_assert_msg(rc == NQ_ECORRUPT, "%s: %s", nq_code_name(rc), t_last.message);
}
END_TEST

START_TEST(a_database_that_was_damaged)
{
    nq *q = t_open();
    for (int i = 0; i < 300; i++)
        T_ADD(q, .type = "t", NQ_BYTES("0123456789012345678901234567890123456789"), .unique = NQ_UNIQUE_NONE);
    nq_close(q);
    int fd = open(t_url + 7, O_WRONLY);
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t at = 4096; at + 4096 <= st.st_size; at += 4096)
        ck_assert_int_eq(pwrite(fd, junk, sizeof junk, at), (ssize_t)sizeof junk);
    close(fd);
    memset(&t_last, 0, sizeof t_last);
    q = NULL;
    int rc = nq_open(&q, t_url, NULL, &t_last);
    if (rc == NQ_OK) {
        rc = nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last);
        nq_close(q);
    }
    ck_assert_msg(rc == NQ_ECORRUPT, "%s: %s", nq_code_name(rc), t_last.message);
}
END_TEST

START_TEST(a_writer_that_does_not_end_is_not_waited_for_for_ever)
{
    t_conn *mine = t_connect();
    nq *q = NULL;
    T_OK(nq_open(&q, t_url_with("busy_timeout=200ms"), NULL, &t_last));
    t_begin(mine);
    int64_t start = t_mono();
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ECONFLICT);
    ck_assert_int_ge(t_mono() - start, NQ_MS(150));
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(15));
    t_run(mine, "COMMIT");
    T_ADD(q, .type = "t");
    t_disconnect(mine);
    nq_close(q);
}
END_TEST

START_TEST(an_in_memory_queue_works_and_ends_with_its_handle)
{
    nq *q = NULL, *other = NULL;
    T_OK(nq_open(&q, "sqlite::memory:", NULL, &t_last));
    T_OK(nq_open(&other, "sqlite::memory:", NULL, &t_last));
    T_OK(nq_migrate(q, &t_last));
    T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(1, 1));
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    T_FAILS(nq_enqueue(other, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENOTMIGRATED);
    nq_close(q);
    nq_close(other);
}
END_TEST

/* ---- Either --------------------------------------------------------------------------------- */

static void errors_forked(int fd, void *arg)
{
    nq *q = arg;
    nq_err err;
    int64_t id = 0;
    t_tell(fd, nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), &id, &err));
    t_tell(fd, nq_migrate(q, &err));
    t_tell(fd, nq_delete(q, 1, &err));
    nq_worker *p = NULL;
    t_tell(fd, nq_worker_new(&p, q, NULL, &err));
    nq_close(q);
    t_tell(fd, 77);
}

START_TEST(a_handle_does_not_survive_a_fork)
{
    nq *q = t_open();
    nq_id id = T_ADD(q, .type = "t");
    t_child child;
    t_fork(&child, errors_forked, q);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(t_hear(child.fd, 10), NQ_EFORK);
    ck_assert_int_eq(t_hear(child.fd, 10), 77);
    t_reap(&child);
    T_ADD(q, .type = "u"); /* the parent goes on unharmed */
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    nq_close(q);
}
END_TEST

static void errors_anew(int fd, void *arg)
{
    nq *q = NULL;
    nq_err err = {0};
    int rc = nq_open(&q, t_url_with("busy_timeout=100ms"), NULL, &err);
    (void)arg;
    t_hear(fd, 20); /* the writer has begun */
    t_tell(fd, rc == NQ_OK ? nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "held"), NULL, &err) : rc);
    t_hear(fd, 20);
    t_tell(fd, nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "free"), NULL, &err));
    t_hear(fd, 20);
    nq_close(q);
}

/* In a child of fork SQLite has its parent's records of which locks the process holds, and the child would
 * hold none of them: it wrote beside another writer, and into a WAL that was deleted. */
START_TEST(a_child_of_fork_opens_the_file_anew)
{
    nq *q = t_open(), *again;
    t_conn *writer = t_connect();
    t_child child;
    if (_i)
        t_begin(writer);
    t_fork(&child, errors_anew, NULL);
    if (!_i)
        t_begin(writer);
    t_tell(child.fd, 0);
    ck_assert_int_eq(t_hear(child.fd, 20), NQ_ECONFLICT);
    t_run(writer, "COMMIT");
    t_disconnect(writer);
    nq_close(q);
    t_tell(child.fd, 0);
    ck_assert_int_eq(t_hear(child.fd, 20), NQ_OK);
    again = t_open();
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    t_tell(child.fd, 0);
    ck_assert_int_eq(t_reap(&child), 0);
    nq_close(again);
}
END_TEST

Suite *suite_errors(void)
{
    Suite *s = suite_create("errors");
    TCase *c = t_case(s, "errors", 30);
    tcase_add_test(c, an_unknown_option_is_named);
    tcase_add_test(c, a_handle_does_not_survive_a_fork);
    if (T_MYSQL)
        return s;
    tcase_add_loop_test(c, a_bad_url_or_option_is_refused, 0,
                        (int)(sizeof errors_urls / sizeof *errors_urls));
    tcase_add_loop_test(c, a_child_of_fork_opens_the_file_anew, 0, 2);
    tcase_add_test(c, a_directory_that_does_not_exist);
    tcase_add_test(c, a_read_only_file);
    tcase_add_test(c, a_database_that_was_damaged);
    tcase_add_test(c, a_writer_that_does_not_end_is_not_waited_for_for_ever);
    tcase_add_test(c, an_in_memory_queue_works_and_ends_with_its_handle);
    TCase *empty = t_case_empty(s, "errors_empty", 30);
    tcase_add_test(empty, a_file_that_is_no_database);
    return s;
}
