/* SPDX-License-Identifier: MIT */
/* Membership: beats, and how soon the dead are told from the living; what becomes of their tasks. */
#include <fcntl.h>
#include <sys/stat.h>

#include "suites.h"

#include <signal.h>

#include "../../src/store/mysql/mysql_driver.h"

static nq_member *members_join(nq *q, const char *name)
{
    nq_member *m = NULL;
    T_OK(nq_member_join(&m, nq_store_of(q), name, NULL, &t_last));
    ck_assert_uint_gt(nq_member_id(m), 0);
    return m;
}

static unsigned members_watch(nq_member *m, int64_t lease_us)
{
    unsigned died = 99;
    T_OK(nq_member_watch(m, lease_us, &died, &t_last));
    return died;
}

/* Long enough to show that a lock told of the death, where there are any. */
static int64_t members_lease(void)
{
    return t_is_cluster ? NQ_SECONDS(3) : NQ_SECONDS(60);
}

/* Watch as a worker does, until somebody was declared dead; how long it took. */
static int64_t members_until_death(nq_member *m, int64_t lease_us, double seconds)
{
    int64_t start = t_mono();
    T_WAIT(members_watch(m, lease_us) > 0, seconds);
    return t_mono() - start;
}

/* As the driver names them. */
#define MEMBERS_LOCK                                                                                         \
    "CONCAT('nanoq:', LEFT(SHA2(CONCAT('%s:', (SELECT MAX(secret) FROM nanoq_schema)), 256), 32), ':', %d)"

/* An account without any right on the database takes all locks whose names it can know, and that keeps nobody
 * from having its own. */
START_TEST(locks_that_others_can_guess)
{
    if (t_is_cluster) /* there are no named locks */
        return;
    nq *q = NULL;
    nq_member *m = NULL;
    T_OK(nq_open(&q, t_url_with("read_timeout=2s"), NULL, &t_last));
    nq_store *s = nq_store_of(q);
    const char *lock = nq_mysql_data_of(s)->lock_name;
    t_sql("SELECT GET_LOCK('%s:migrate', 0)", lock);
    for (int i = 1; i < 20; i++) {
        t_sql("SELECT GET_LOCK('%s:%d', 0)", lock, i);
        t_sql("SELECT GET_LOCK(CONCAT('nanoq:', LEFT(SHA2('%s:', 256), 32), ':', %d), 0)", lock, i);
    }
    T_OK(nq_migrate(q, &t_last));
    T_OK(nq_member_join(&m, s, "locked", NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE beat >= 4611686018427387904"), 0);
    ck_assert_int_eq(t_sql("SELECT IS_FREE_LOCK(" MEMBERS_LOCK ")", lock, (int)nq_member_id(m)), 0);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

/* One that may read the tables takes the locks, and lets go of them again. */
START_TEST(locks_that_others_have_taken)
{
    if (t_is_cluster)
        return;
    nq *q = NULL;
    nq_member *m = NULL, *watcher = NULL;
    unsigned died = 0;
    T_OK(nq_open(&q, t_url_with("read_timeout=2s"), NULL, &t_last));
    nq_store *s = nq_store_of(q);
    const char *lock = nq_mysql_data_of(s)->lock_name;
    for (int i = 1; i < 20; i++)
        t_sql("SELECT GET_LOCK(" MEMBERS_LOCK ", 0)", lock, i);
    T_OK(nq_member_join(&m, s, "lockless", NULL, &t_last));
    t_sql("SELECT RELEASE_ALL_LOCKS()");
    T_OK(nq_member_join(&watcher, s, "watcher", NULL, &t_last));
    /* It does not beat, its lock is free, and it is alive. */
    const int64_t until = t_mono() + NQ_MS(1500);
    while (t_mono() < until) {
        T_OK(nq_member_watch(watcher, NQ_SECONDS(30), &died, &t_last));
        ck_assert_uint_eq(died, 0);
        ck_assert_uint_eq(nq_member_suspects(watcher), 0);
        t_pause_ms(100);
    }
    /* With its next beat it has the lock, and is judged by it. */
    T_OK(nq_member_beat(m, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE beat >= 4611686018427387904"), 0);
    ck_assert_int_eq(t_sql("SELECT IS_FREE_LOCK(" MEMBERS_LOCK ")", lock, (int)nq_member_id(m)), 0);
    T_OK(nq_member_leave(m, &t_last));
    T_OK(nq_member_leave(watcher, &t_last));
    nq_close(q);
}
END_TEST

static const struct {
    mode_t database, there, expected; /* there: of a lock file that is there already, or 0 */
} members_modes[] = {
    {0644, 0, 0600}, {0664, 0, 0660}, {0666, 0, 0666}, {0600, 0, 0600}, {0640, 0, 0600}, {0666, 0600, 0600},
};

/* A lock for reading, by who may not write, would keep all workers from theirs. */
START_TEST(who_may_lock_is_who_may_write)
{
    char lock[600];
    struct stat st;
    nq_member *m = NULL;
    nq *q = t_open();
    snprintf(lock, sizeof lock, "%s-nanoq-lock", t_url + 7);
    ck_assert_int_eq(chmod(t_url + 7, members_modes[_i].database), 0);
    unlink(lock);
    if (members_modes[_i].there)
        close(open(lock, O_RDWR | O_CREAT | O_EXCL, members_modes[_i].there));
    T_OK(nq_member_join(&m, nq_store_of(q), "locker", NULL, &t_last));
    ck_assert_int_eq(stat(lock, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, members_modes[_i].expected);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(members_have_ids_of_their_own_and_a_row)
{
    nq *q = t_open();
    nq_member *a = members_join(q, "host:1"), *b = members_join(q, "it's;--");
    ck_assert_uint_ne(nq_member_id(a), nq_member_id(b));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers"), 2);
    for (int i = 0; i < 5; i++)
        T_OK(nq_member_beat(a, &t_last));
    uint64_t was = nq_member_id(b);
    T_OK(nq_member_leave(b, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers"), 1);
    b = members_join(q, "again");
    ck_assert_uint_gt(nq_member_id(b), was); /* an id is never used again: it is in the leases */
    T_OK(nq_member_leave(a, &t_last));
    T_OK(nq_member_leave(b, &t_last));
    nq_member_free(NULL);
    nq_close(q);
}
END_TEST

START_TEST(a_running_task_shows_its_workers_name)
{
    nq *q = t_open();
    nq_member *a = members_join(q, "host:42");
    nq_id id = T_ADD(q, .type = "t");
    nq_claimed *c = t_claim_one(q, NQ_LEASE(nq_member_id(a), 1));
    t_task t;
    ck_assert_int_eq(t_get(q, id, &t), NQ_OK);
    ck_assert_str_eq(t.worker, "host:42");
    t_task_free(&t);
    ck_assert_int_eq(t_finish(q, c, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(c);
    T_OK(nq_member_leave(a, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(the_living_are_left_alone)
{
    nq *q = t_open(), *other = t_open();
    nq_member *a = members_join(q, "a"), *b = members_join(other, "b"), *c = members_join(q, "c");
    int64_t end = t_mono() + NQ_MS(3500);
    int64_t beat = 0;
    while (t_mono() < end) { /* longer than the lease, so what keeps them alive are the beats */
        if (t_mono() - beat > NQ_MS(800)) {
            T_OK(nq_member_beat(b, &t_last));
            T_OK(nq_member_beat(c, &t_last));
            T_OK(nq_member_beat(a, &t_last));
            beat = t_mono();
        }
        ck_assert_uint_eq(members_watch(a, NQ_SECONDS(3)), 0);
        ck_assert_uint_eq(members_watch(b, NQ_SECONDS(3)), 0);
        t_pause_ms(100);
    }
    T_OK(nq_member_leave(a, &t_last));
    T_OK(nq_member_leave(b, &t_last));
    T_OK(nq_member_leave(c, &t_last));
    nq_close(q);
    nq_close(other);
}
END_TEST

static void members_victim(int fd, void *arg)
{
    nq *q = t_open();
    nq_member *m = members_join(q, "victim");
    const uint64_t *claims = arg;
    size_t n = 0;
    if (*claims)
        t_claim(q, NQ_LEASE(nq_member_id(m), 1), *claims, &n);
    t_tell(fd, (int64_t)nq_member_id(m));
    t_tell(fd, (int64_t)n);
    for (;;)
        pause();
}

START_TEST(a_killed_process_is_found_by_its_lock_long_before_its_lease)
{
    t_child child;
    uint64_t claims = 0;
    t_fork(&child, members_victim, &claims);
    uint64_t victim = (uint64_t)t_hear(child.fd, 20);
    t_hear(child.fd, 5);
    nq *q = t_open();
    nq_member *m = members_join(q, "watcher");
    ck_assert_uint_eq(members_watch(m, NQ_SECONDS(60)), 0);
    t_kill(&child, SIGKILL);
    int64_t took = members_until_death(m, members_lease(), 10);
    ck_assert_int_lt(took, NQ_SECONDS(5) * T_SLOW_FACTOR);
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_workers WHERE id = %llu", (unsigned long long)victim),
                     0);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

/* A host that forks without exec: its child has the lock's descriptor too, unless that is taken from it. */
static void members_forks(int fd, void *arg)
{
    nq *q = t_open();
    members_join(q, "victim");
    const pid_t pid = fork();
    if (pid == 0) {
        t_tell(fd, (int64_t)getpid());
        alarm(60);
        for (;;)
            pause();
    }
    (void)arg;
    for (;;)
        pause();
}

START_TEST(a_child_of_fork_does_not_keep_its_parents_lock)
{
    t_child child;
    t_fork(&child, members_forks, NULL);
    const pid_t left = (pid_t)t_hear(child.fd, 20);
    nq *q = t_open();
    nq_member *m = members_join(q, "watcher");
    ck_assert_uint_eq(members_watch(m, NQ_SECONDS(60)), 0);
    t_kill(&child, SIGKILL);
    ck_assert_int_eq(kill(left, 0), 0);
    members_until_death(m, members_lease(), 10);
    ck_assert_int_eq(kill(left, SIGKILL), 0);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(a_stopped_process_holds_its_lock_but_not_its_lease)
{
    t_child child;
    uint64_t claims = 0;
    t_fork(&child, members_victim, &claims);
    t_hear(child.fd, 20);
    t_hear(child.fd, 5);
    t_stop(&child);
    nq *q = t_open();
    nq_member *m = members_join(q, "watcher");
    int64_t start = t_mono();
    T_WAIT(members_watch(m, NQ_SECONDS(3)) > 0 || (t_pause_ms(200), false), 20);
    int64_t took = t_mono() - start;
    ck_assert_int_ge(took, NQ_MS(2900)); /* never before the lease */
    ck_assert_int_lt(took, NQ_SECONDS(8) * T_SLOW_FACTOR);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
    t_kill(&child, SIGKILL);
}
END_TEST

START_TEST(who_was_declared_dead_learns_it_at_the_next_beat)
{
    nq *q = t_open();
    nq_member *m = members_join(q, "a");
    T_OK(nq_member_beat(m, &t_last));
    t_sql("DELETE FROM nanoq_workers");
    T_FAILS(nq_member_beat(m, &t_last), NQ_ELEASE);
    nq_member_free(m);
    m = members_join(q, "a"); /* and joins anew */
    T_OK(nq_member_beat(m, &t_last));
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

START_TEST(tasks_of_the_dead_are_orphans_and_those_of_the_living_are_not)
{
    nq *setup = t_open();
    for (int i = 0; i < 7; i++)
        T_ADD(setup, .type = "t", .queue = i < 4 ? "default" : "more", .unique = NQ_UNIQUE_NONE);
    nq_close(setup);
    t_child child;
    uint64_t claims = 2;
    t_fork(&child, members_victim, &claims);
    uint64_t victim = (uint64_t)t_hear(child.fd, 20);
    ck_assert_int_eq(t_hear(child.fd, 10), 2);
    nq *q = t_open();
    nq_store *s = nq_store_of(q);
    nq_member *m = members_join(q, "watcher");
    size_t n = 0;
    nq_claimed *mine = t_claim(q, NQ_LEASE(nq_member_id(m), 1), 1, &n);
    nq_claimed *dead_elsewhere = t_claim_queue(q, "more", NQ_LEASE(victim, 77), 3, &n);
    ck_assert_uint_eq(n, 3);
    nq_claimed *orphans = NULL;
    T_OK(nq_store_orphans(s, NULL, 100, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 0); /* it lives */
    t_kill(&child, SIGKILL);
    members_until_death(m, members_lease(), 20);
    T_OK(nq_store_orphans(s, NULL, 2, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 2); /* the limit */
    t_free_claimed(orphans);
    T_OK(nq_store_orphans(s, NULL, 100, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 5);
    for (const nq_claimed *c = orphans; c; c = c->next) {
        ck_assert_uint_eq(NQ_LEASE_WORKER(c->lease), victim);
        ck_assert_uint_eq(c->task.attempt, 1);
        ck_assert_str_eq(c->task.type, "t");
        nq_outcome o = {.id = c->task.id,
                        .lease = c->lease,
                        .kind = NQ_OUT_RETRY,
                        .crashed = true,
                        .error = "died",
                        .error_size = 4,
                        .result = 1};
        nq_outcome *list[] = {&o};
        T_OK(nq_store_finish(s, list, 1, &t_last));
        ck_assert_int_eq(o.result, NQ_OK);
    }
    ck_assert_int_eq(
        t_sql("SELECT COUNT(*) FROM nanoq_tasks WHERE state = 0 AND attempts = 1 AND crashes = 1"), 5);
    /* A second finder comes too late, and nothing is counted twice. */
    ck_assert_int_eq(t_finish(q, orphans, NQ_OUT_RETRY, 0, "again"), NQ_ELEASE);
    t_free_claimed(orphans);
    T_OK(nq_store_orphans(s, NULL, 100, &orphans, &n, &t_last));
    ck_assert_uint_eq(n, 0);
    ck_assert_ptr_null(orphans);
    ck_assert_int_eq(t_finish(q, mine, NQ_OUT_DONE, 0, NULL), NQ_OK);
    t_free_claimed(mine);
    t_free_claimed(dead_elsewhere);
    T_OK(nq_member_leave(m, &t_last));
    nq_close(q);
}
END_TEST

/* One queue a call where it may take no time, or 64 on a server: each call goes on where the one before
 * stopped. */
START_TEST(a_pass_over_many_queues_goes_on_where_it_stopped)
{
    enum { QUEUES = 150, EACH = 3 };
    nq *q = t_open();
    for (int i = 0; i < QUEUES * EACH; i++) {
        char queue[16];
        snprintf(queue, sizeof queue, "q%d", i % QUEUES);
        T_ADD(q, .type = "t", .queue = queue, .unique = NQ_UNIQUE_NONE);
    }
    t_sql("UPDATE nanoq_tasks SET state = 1, lease = %llu WHERE queue IN ('q0', 'q77', 'q99')",
          (unsigned long long)NQ_LEASE(7, 1));
    nq_scan scan = {0};
    size_t calls = 0, found = 0, n = 0;
    do {
        nq_claimed *orphans = NULL;
        T_OK(nq_store_orphans(nq_store_of(q), &scan, 2, &orphans, &n, &t_last));
        ck_assert_uint_le(n, 2);
        for (const nq_claimed *c = orphans; c; c = c->next)
            T_OK(nq_store_finish(
                nq_store_of(q),
                (nq_outcome *[]){&(nq_outcome){.id = c->task.id, .lease = c->lease, .kind = NQ_OUT_DONE}}, 1,
                &t_last));
        t_free_claimed(orphans);
        found += n;
    } while (++calls < 1000 && scan.more);
    ck_assert_uint_eq(found, (size_t)3 * EACH);
    ck_assert_uint_gt(calls, QUEUES / 64);
    ck_assert_uint_lt(calls, 1000);
    T_OK(nq_store_orphans(nq_store_of(q), &scan, 2, &(nq_claimed *){NULL}, &n, &t_last)); /* anew */
    ck_assert(scan.more);
    nq_buf_free(&scan.queue);
    nq_close(q);
}
END_TEST

START_TEST(a_member_that_lost_its_connection_only_stays_a_member)
{
    nq *q = t_open(), *other = t_open();
    nq_member *a = members_join(q, "a"), *b = members_join(other, "b");
    ck_assert_int_gt(t_kill_sessions(), 0);
    /* Its lock went with the connection, but its beat takes it back before anybody may call it dead. */
    T_OK(nq_member_beat(a, &t_last));
    T_OK(nq_member_beat(b, &t_last));
    int64_t end = t_mono() + NQ_MS(1500);
    while (t_mono() < end) {
        ck_assert_uint_eq(members_watch(b, NQ_SECONDS(60)), 0);
        t_pause_ms(50);
    }
    T_OK(nq_member_beat(a, &t_last));
    T_OK(nq_member_leave(a, &t_last));
    T_OK(nq_member_leave(b, &t_last));
    nq_close(q);
    nq_close(other);
}
END_TEST

START_TEST(two_watchers_do_not_count_a_death_twice)
{
    t_child child;
    uint64_t claims = 0;
    t_fork(&child, members_victim, &claims);
    t_hear(child.fd, 20);
    t_hear(child.fd, 5);
    nq *q = t_open();
    nq_member *a = members_join(q, "a"), *b = members_join(q, "b");
    t_kill(&child, SIGKILL);
    unsigned died = 0;
    int64_t end = t_mono() + (t_is_cluster ? NQ_SECONDS(5) : NQ_SECONDS(3));
    while (t_mono() < end) {
        T_OK(nq_member_beat(a, &t_last));
        T_OK(nq_member_beat(b, &t_last));
        died += members_watch(a, members_lease());
        died += members_watch(b, members_lease());
        t_pause_ms(20);
    }
    ck_assert_uint_eq(died, 1);
    T_OK(nq_member_leave(a, &t_last));
    T_OK(nq_member_leave(b, &t_last));
    nq_close(q);
}
END_TEST

/* Ids begin anew after a restore: two workers had the same one, and each kept the other alive. */
START_TEST(a_row_of_another_with_our_id_is_not_ours)
{
    nq *q = t_open();
    nq_member *m = members_join(q, "host:1");
    const uint64_t id = nq_member_id(m);
    const int64_t since = nq_member_since_us(m);
    ck_assert_int_gt(since, 0);
    T_OK(nq_member_beat(m, &t_last));
    T_OK(nq_member_pulse(nq_store_of(q), id, since, &t_last));
    t_sql("DELETE FROM nanoq_workers");
    t_sql(
        "INSERT INTO nanoq_workers (id, name, beat, started_at, beat_at) VALUES (%llu, 'host:2', 7, %s, %s)",
        (unsigned long long)id, T_SQLITE ? "77" : "'2030-01-01 00:00:00'",
        T_SQLITE ? "77" : "UTC_TIMESTAMP(6)");
    ck_assert_int_eq(nq_member_pulse(nq_store_of(q), id, since, &t_last), NQ_ELEASE);
    ck_assert_int_eq(nq_member_beat(m, &t_last), NQ_ELEASE);
    T_OK(nq_member_leave(m, &t_last));
    ck_assert_int_eq(t_sql("SELECT beat FROM nanoq_workers"), 7);
    nq_close(q);
}
END_TEST

Suite *suite_members(void)
{
    Suite *s = suite_create("members");
    TCase *c = t_case(s, "members", 60);
    tcase_add_test(c, members_have_ids_of_their_own_and_a_row);
    if (T_MYSQL) {
        tcase_add_test(c, locks_that_others_can_guess);
        tcase_add_test(c, locks_that_others_have_taken);
    }
    if (T_SQLITE)
        tcase_add_loop_test(c, who_may_lock_is_who_may_write, 0,
                            (int)(sizeof members_modes / sizeof *members_modes));
    tcase_add_test(c, a_running_task_shows_its_workers_name);
    tcase_add_test(c, the_living_are_left_alone);
    tcase_add_test(c, a_killed_process_is_found_by_its_lock_long_before_its_lease);
    tcase_add_test(c, a_child_of_fork_does_not_keep_its_parents_lock);
    tcase_add_test(c, a_stopped_process_holds_its_lock_but_not_its_lease);
    tcase_add_test(c, who_was_declared_dead_learns_it_at_the_next_beat);
    tcase_add_test(c, a_row_of_another_with_our_id_is_not_ours);
    tcase_add_test(c, tasks_of_the_dead_are_orphans_and_those_of_the_living_are_not);
    tcase_add_test(c, a_pass_over_many_queues_goes_on_where_it_stopped);
    tcase_add_test(c, two_watchers_do_not_count_a_death_twice);
    if (T_MYSQL)
        tcase_add_test(c, a_member_that_lost_its_connection_only_stays_a_member);
    return s;
}
