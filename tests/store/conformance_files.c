/* SPDX-License-Identifier: MIT */
/* What somebody else does to the files of a SQLite database while it is in use. */
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static nq *files_open(const char *name)
{
    char url[400];
    nq *q = NULL;
    snprintf(url, sizeof url, "sqlite:%s/%s", t_dir, name);
    T_OK(nq_open(&q, url, NULL, &t_last));
    T_OK(nq_migrate(q, &t_last));
    return q;
}

static void files_fails(const char *name, const char *says)
{
    char url[400];
    nq *q = NULL;
    snprintf(url, sizeof url, "sqlite:%s/%s", t_dir, name);
    T_FAILS(nq_open(&q, url, NULL, &t_last), NQ_EUNSUPPORTED);
    ck_assert_msg(strstr(t_last.message, says), "%s", t_last.message);
}

static unsigned files_watch(nq_member *m)
{
    unsigned died = 99;
    T_OK(nq_member_watch(m, NQ_SECONDS(60), &died, &t_last));
    return died;
}

/* Whoever makes the file anew does so in the same tick of the kernel's clock for files: its time is that
 * before the last beat. */
static void files_made_within_a_tick(void)
{
    const int64_t made = nq_real_us() - NQ_MS(15);
    const struct timespec time = {.tv_sec = made / 1000000, .tv_nsec = made % 1000000 * 1000};
    const int fd = open("q.db-nanoq-lock", O_RDWR | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(futimens(fd, (const struct timespec[]){time, time}), 0);
    close(fd);
}

/* _i: the one whose lock is lost goes on, or is stopped for a while, from just after its beat on. */
START_TEST(a_lock_file_that_is_tidied_away_kills_nobody)
{
    nq *q = files_open("q.db"), *later = files_open("q.db");
    nq_member *a = NULL, *b = NULL;
    T_OK(nq_member_join(&a, nq_store_of(q), "a", NULL, &t_last));
    ck_assert_int_eq(unlink("q.db-nanoq-lock"), 0);
    if (_i == 2)
        files_made_within_a_tick();
    T_OK(nq_member_join(&b, nq_store_of(later), "b", NULL, &t_last));
    for (const int64_t end = t_mono() + NQ_MS(1500); t_mono() < end; t_pause_ms(50)) {
        if (_i == 0)
            ck_assert_uint_eq(files_watch(a), 0);
        ck_assert_uint_eq(files_watch(b), 0);
    }
    T_OK(nq_member_beat(a, &t_last));
    /* Now it holds a lock that others see, and that goes with it. */
    uint64_t id = nq_member_id(a);
    int8_t is_free = 9;
    nq_conn *c;
    T_OK(nq_pool_get(nq_store_of(later), &c, &t_last));
    T_OK(nq_store_of(later)->driver->lock_probe(c, &id, 1, &is_free, &t_last));
    ck_assert_int_eq(is_free, 0);
    nq_pool_put(c);
    T_OK(nq_member_leave(a, &t_last));
    T_OK(nq_member_leave(b, &t_last));
    nq_close(later);
    nq_close(q);
}
END_TEST

START_TEST(a_second_name_is_refused)
{
    nq_close(files_open("q.db"));
    ck_assert_int_eq(mkdir("other", 0700), 0);
    ck_assert_int_eq(link("q.db", "other/q.db"), 0);
    files_fails("q.db", "hard link");
    files_fails("other/q.db", "hard link");
    ck_assert_int_eq(unlink("other/q.db"), 0);
    ck_assert_int_eq(symlink("../q.db", "other/q.db"), 0);
    nq *q = files_open("q.db"), *same = files_open("other/q.db");
    nq_id id = T_ADD(q, .type = "t");
    ck_assert_int_eq(t_state(same, id), NQ_STATE_WAITING);
    nq_close(same);
    nq_close(q);
}
END_TEST

/* As docker run -v ./q.db:/app/q.db makes it. */
START_TEST(a_mount_of_the_one_file_is_refused)
{
    nq_close(files_open("q.db"));
    FILE *f = fopen("mounted.db", "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    if (unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
        mount("q.db", "mounted.db", "none", MS_BIND, NULL)) {
        printf("cannot mount here: %s\n", strerror(errno));
        return;
    }
    files_fails("mounted.db", "mount its directory");
    nq_close(files_open("q.db"));
    ck_assert_int_eq(umount("mounted.db"), 0);
}
END_TEST

START_TEST(a_file_that_is_gone_is_an_error_and_not_made_anew)
{
    nq *q = files_open("q.db");
    T_ADD(q, .type = "t");
    ck_assert_int_eq(rename("q.db", "away.db"), 0);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t2"), NULL, &t_last), NQ_ENODB);
    ck_assert_ptr_nonnull(strstr(t_last.message, "gone"));
    ck_assert_int_ne(access("q.db", F_OK), 0);
    /* Another one in its place is worked on, and is told from the one before. */
    nq_close(files_open("new.db"));
    ck_assert_int_eq(rename("new.db", "q.db"), 0);
    unlink("q.db-wal");
    unlink("q.db-shm");
    T_ADD(q, .type = "t3");
    nq *same = files_open("q.db");
    ck_assert_uint_eq(t_count(same, NQ_STATE_WAITING), 1);
    nq_close(same);
    nq_close(q);
}
END_TEST

START_TEST(a_directory_that_moves_is_an_error_until_it_is_back)
{
    ck_assert_int_eq(mkdir("here", 0700), 0);
    nq *q = files_open("here/q.db");
    ck_assert_int_eq(rename("here", "there"), 0);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENODB);
    ck_assert_int_eq(mkdir("here", 0700), 0);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_ENODB);
    ck_assert_int_eq(rmdir("here"), 0);
    ck_assert_int_eq(rename("there", "here"), 0);
    T_ADD(q, .type = "t");
    nq_close(q);
}
END_TEST

Suite *suite_files(void)
{
    Suite *s = suite_create("files");
    if (!T_SQLITE)
        return s;
    TCase *tc = t_case(s, "files", 20);
    tcase_add_loop_test(tc, a_lock_file_that_is_tidied_away_kills_nobody, 0, 3);
    tcase_add_test(tc, a_second_name_is_refused);
    tcase_add_test(tc, a_mount_of_the_one_file_is_refused);
    tcase_add_test(tc, a_file_that_is_gone_is_an_error_and_not_made_anew);
    tcase_add_test(tc, a_directory_that_moves_is_an_error_until_it_is_back);
    return s;
}
