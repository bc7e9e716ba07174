/* SPDX-License-Identifier: MIT */
/* What goes wrong at and on the way to a server: users, passwords, rights, silence, versions. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "suites.h"

#include "../../src/store/mysql/mysql_driver.h"

START_TEST(an_absent_database)
{
    t_open_fails(t_server_url(NULL, "nanoq_absent_database"), NQ_ENODB);
    ck_assert_ptr_nonnull(strstr(t_last.message, "nanoq_absent_database"));
}
END_TEST

START_TEST(a_wrong_password)
{
    t_sql("CREATE USER 'nq_%d'@'%%' IDENTIFIED BY 's3cret'", (int)getpid());
    char user[64];
    snprintf(user, sizeof user, "nq_%d:s3cretwrong", (int)getpid());
    t_open_fails(t_server_url(user, t_name), NQ_EDENIED);
    snprintf(user, sizeof user, "nq_%d", (int)getpid());
    t_open_fails(t_server_url(user, t_name), NQ_EDENIED);
    /* Known, but without a right on the database. */
    snprintf(user, sizeof user, "nq_%d:s3cret", (int)getpid());
    t_open_fails(t_server_url(user, t_name), NQ_EDENIED);
    t_sql("DROP USER 'nq_%d'@'%%'", (int)getpid());
}
END_TEST

static void servers_password_file(const char *text, unsigned mode)
{
    FILE *f = fopen("password", "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    ck_assert_int_eq(chmod("password", (mode_t)mode), 0);
}

START_TEST(a_password_from_file_environment_and_options)
{
    t_sql("CREATE USER 'nq_%d'@'%%' IDENTIFIED BY 's3:c@r/e%%t'", (int)getpid());
    t_sql("GRANT ALL ON %s.* TO 'nq_%d'@'%%'", t_name, (int)getpid());
    char user[64], url[600];
    nq *q = NULL;
    snprintf(user, sizeof user, "nq_%d", (int)getpid());
    T_OK(nq_open(&q, t_server_url(user, t_name),
                 &(nq_options){.size = sizeof(nq_options), .password = "s3:c@r/e%t"}, &t_last));
    nq_close(q);
    snprintf(url, sizeof url, "%s?password_env=NQ_TEST_PASSWORD", t_server_url(user, t_name));
    setenv("NQ_TEST_PASSWORD", "s3:c@r/e%t", 1);
    T_OK(nq_open(&q, url, NULL, &t_last));
    nq_close(q);
    setenv("NANOQ_PASSWORD", "s3:c@r/e%t", 1);
    T_OK(nq_open(&q, t_server_url(user, t_name), NULL, &t_last));
    nq_close(q);
    unsetenv("NANOQ_PASSWORD");
    servers_password_file("s3:c@r/e%t\nsecond line\n", 0600);
    snprintf(url, sizeof url, "%s?password_file=password", t_server_url(user, t_name));
    T_OK(nq_open(&q, url, NULL, &t_last));
    nq_close(q);
    snprintf(user, sizeof user, "nq_%d:s3%%3Ac%%40r%%2fe%%25t", (int)getpid());
    T_OK(nq_open(&q, t_server_url(user, t_name), NULL, &t_last));
    nq_close(q);
    t_sql("DROP USER 'nq_%d'@'%%'", (int)getpid());
}
END_TEST

START_TEST(a_password_file_that_others_may_use)
{
    static const unsigned refused[] = {0604, 0602, 0620, 0644, 0666}, allowed[] = {0600, 0400, 0640};
    char user[64], url[600];
    t_sql("CREATE USER 'nq_%d'@'%%' IDENTIFIED BY 'one'", (int)getpid());
    t_sql("GRANT ALL ON %s.* TO 'nq_%d'@'%%'", t_name, (int)getpid());
    snprintf(user, sizeof user, "nq_%d", (int)getpid());
    snprintf(url, sizeof url, "%s?password_file=password", t_server_url(user, t_name));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        servers_password_file("one", refused[i]);
        t_open_fails(url, NQ_EINVAL);
        ck_assert_ptr_nonnull(strstr(t_last.message, "password_file password may be "));
    }
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        servers_password_file("one", allowed[i]);
        nq *q = NULL;
        T_OK(nq_open(&q, url, NULL, &t_last));
        nq_close(q);
        ck_assert_int_eq(unlink("password"), 0);
    }
    t_sql("DROP USER 'nq_%d'@'%%'", (int)getpid());
}
END_TEST

/* A handle that is open connects with the new password. */
START_TEST(a_password_that_is_rotated)
{
    char user[64], url[600];
    nq *q = NULL;
    nq_id id = 0;
    t_sql("CREATE USER 'nq_%d'@'%%' IDENTIFIED BY 'one'", (int)getpid());
    t_sql("GRANT ALL ON %s.* TO 'nq_%d'@'%%'", t_name, (int)getpid());
    snprintf(user, sizeof user, "nq_%d", (int)getpid());
    snprintf(url, sizeof url, "%s?password_file=password&hints=none", t_server_url(user, t_name));
    servers_password_file("one\n", 0600);
    T_OK(nq_open(&q, url, NULL, &t_last));
    t_sql("ALTER USER 'nq_%d'@'%%' IDENTIFIED BY 'two'", (int)getpid());
    servers_password_file("two\n", 0600);
    t_kill_sessions();
    T_OK(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), &id, &t_last));
    nq_close(q);
    t_sql("DROP USER 'nq_%d'@'%%'", (int)getpid());
}
END_TEST

START_TEST(a_user_that_may_only_read)
{
    t_sql("CREATE USER 'nr_%d'@'%%' IDENTIFIED BY 's3cret'", (int)getpid());
    t_sql("GRANT SELECT ON %s.* TO 'nr_%d'@'%%'", t_name, (int)getpid());
    char user[64];
    snprintf(user, sizeof user, "nr_%d:s3cret", (int)getpid());
    nq *owner = t_open(), *q = NULL;
    nq_id id = T_ADD(owner, .type = "there");
    T_OK(nq_open(&q, t_server_url(user, t_name), NULL, &t_last));
    ck_assert_int_eq(t_state(q, id), NQ_STATE_WAITING);
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, &t_last), NQ_EDENIED);
    T_FAILS(nq_delete(q, id, &t_last), NQ_EDENIED);
    nq_close(q);
    nq_close(owner);
    t_sql("DROP USER 'nr_%d'@'%%'", (int)getpid());
}
END_TEST

static unsigned servers_listen(int *fd, int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(*fd, (struct sockaddr *)&a, sizeof a), 0);
    if (backlog >= 0)
        ck_assert_int_eq(listen(*fd, backlog), 0);
    ck_assert_int_eq(getsockname(*fd, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin_port);
}

START_TEST(nobody_listens_and_somebody_listens_but_says_nothing)
{
    int fd = -1;
    char url[200];
    unsigned port = servers_listen(&fd, -1); /* bound, not listening: refused at once */
    snprintf(url, sizeof url, "mysql://u:s3cret@127.0.0.1:%u/db", port);
    int64_t start = t_mono();
    t_open_fails(url, NQ_EUNAVAILABLE);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(4));
    close(fd);
    port = servers_listen(&fd, 5); /* accepts by the kernel and never greets */
    snprintf(url, sizeof url, "mysql://u:s3cret@127.0.0.1:%u/db?connect_timeout=1s&read_timeout=1s", port);
    start = t_mono();
    t_open_fails(url, NQ_EUNAVAILABLE);
    ck_assert_int_lt(t_mono() - start, NQ_SECONDS(10)); /* two tries, no retrying for ever */
    close(fd);
    t_open_fails("mysql://u:s3cret@/db?socket=/nonexistent/mysqld.sock", NQ_EUNAVAILABLE);
}
END_TEST

START_TEST(a_server_that_restarts_its_connections_is_met_again)
{
    nq *q = t_open();
    T_ADD(q, .type = "a");
    for (int round = 0; round < 3; round++) {
        t_kill_sessions();
        T_ADD(q, .type = "b", .unique = NQ_UNIQUE_NONE); /* a new connection, before anything was sent */
    }
    nq_close(q);
}
END_TEST

/* As after a handover, by whose end the name or proxy leads to another primary. */
START_TEST(a_session_of_a_server_that_takes_no_writes_is_not_used_again)
{
    nq *q = t_open();
    T_ADD(q, .type = "a");
    t_sql("CREATE TRIGGER read_only BEFORE INSERT ON nanoq_tasks FOR EACH ROW BEGIN "
          "DECLARE said TEXT DEFAULT CONCAT('--super-read-only, session ', CONNECTION_ID()); "
          "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = said; END");
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "b"), NULL, &t_last), NQ_EREADONLY);
    const char *said = strstr(t_last.message, "session ");
    ck_assert_msg(said, "%s", t_last.message);
    const int64_t session = strtoll(said + strlen("session "), NULL, 10);
    ck_assert_int_gt(session, 0);
    t_sql("DROP TRIGGER read_only");
    T_WAIT(t_sql("SELECT COUNT(*) FROM %s WHERE id = %lld", t_sessions(), (long long)session) == 0, 5);
    T_ADD(q, .type = "b");
    nq_close(q);
}
END_TEST

static const struct {
    const char *version;
    bool mariadb, good;
} servers_versions[] = {
    {"8.0.13", false, true},
    {"8.0.41-0ubuntu0.22.04.1", false, true},
    {"8.4.3", false, true},
    {"9.7.0", false, true},
    {"10.6.0-MariaDB", true, true},
    {"5.5.5-10.11.6-MariaDB-0+deb12u1", true, true},
    {"11.8.1-MariaDB-log", true, true},
    {"8.0.12", false, false},
    {"5.7.44-log", false, false},
    {"10.5.28-MariaDB", true, false},
    {"5.5.5-10.5.9-MariaDB", true, false},
    {"5.5.68-MariaDB", true, false},
    {"8.0.11-TiDB-v7.5.0", false, false},
    {"5.7.25-TiDB-v6.1.0", false, false},
    {"", false, false},
    {"mysql", false, false},
};

START_TEST(versions_are_told_apart)
{
    bool mariadb = servers_versions[_i].mariadb;
    int rc = nq_mysql_check_version(servers_versions[_i].version, mariadb, &t_last);
    ck_assert_msg(rc == (servers_versions[_i].good ? NQ_OK : NQ_EUNSUPPORTED), "%s: %s",
                  servers_versions[_i].version, nq_code_name(rc));
    if (strstr(servers_versions[_i].version, "TiDB"))
        ck_assert_ptr_nonnull(strstr(t_last.message, "TiDB"));
}
END_TEST

/* Kill this database's connection that waits for a row lock. */
static void *servers_kill_waiting(void *arg)
{
    t_conn *look = t_connect();
    int64_t id = 0, until = t_mono() + NQ_SECONDS(10);
    while (id == 0 && t_mono() < until) {
        t_pause_ms(130);
        id = t_lock_waiter(look);
    }
    if (id)
        t_run(look, "KILL %" PRId64, id);
    t_disconnect(look);
    *(int64_t *)arg = id;
    return NULL;
}

START_TEST(a_commit_without_an_answer_is_unknown)
{
    nq *q = t_open();
    t_conn *rival = t_connect();
    int64_t killed = 0;
    t_begin(rival);
    T_OK(nq_enqueue(q, t_tx(rival), NQ_TASK(.type = "t", NQ_BYTES("same")), NULL, &t_last));
    pthread_t thread;
    t_thread(&thread, servers_kill_waiting, &killed);
    /* An INSERT that commits itself, and waits for the rival's. */
    T_FAILS(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("same")), NULL, &t_last), NQ_EUNKNOWN);
    ck_assert_ptr_nonnull(strstr(t_last.message, "may or may not"));
    pthread_join(thread, NULL);
    ck_assert_int_gt(killed, 0);
    t_run(rival, "ROLLBACK");
    /* As the header says: enqueue again with the same key. */
    T_OK(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", NQ_BYTES("same")), NULL, &t_last));
    ck_assert_int_eq(t_sql("SELECT COUNT(*) FROM nanoq_tasks"), 1);
    t_disconnect(rival);
    nq_close(q);
}
END_TEST

/* Uptime is whole seconds less whole seconds. Who last beat before a restart must not seem to have beaten
 * after it. */
START_TEST(a_server_is_taken_for_no_older_than_it_is)
{
    nq *q = t_open();
    nq_store *s = nq_store_of(q);
    nq_conn *c = NULL;
    int64_t us = -1;
    T_OK(nq_pool_get(s, &c, &t_last));
    T_OK(s->driver->uptime(c, &us, &t_last));
    nq_pool_put(c);
    char *text = t_text(t_side(), "SHOW GLOBAL STATUS LIKE 'Uptime'");
    const int64_t said = strtoll(strchr(text, '|') + 1, NULL, 10);
    ck_assert(us >= 0 && us <= NQ_SECONDS(said > 0 ? said - 1 : 0));
    free(text);
    nq_close(q);
}
END_TEST

Suite *suite_servers(void)
{
    Suite *s = suite_create("servers");
    if (T_SQLITE)
        return s;
    TCase *c = t_case(s, "servers", 30);
    tcase_add_test(c, an_absent_database);
    tcase_add_test(c, a_wrong_password);
    tcase_add_test(c, a_password_from_file_environment_and_options);
    tcase_add_test(c, a_password_file_that_others_may_use);
    tcase_add_test(c, a_password_that_is_rotated);
    tcase_add_test(c, a_user_that_may_only_read);
    tcase_add_test(c, nobody_listens_and_somebody_listens_but_says_nothing);
    tcase_add_test(c, a_server_that_restarts_its_connections_is_met_again);
    tcase_add_test(c, a_session_of_a_server_that_takes_no_writes_is_not_used_again);
    tcase_add_test(c, a_commit_without_an_answer_is_unknown);
    tcase_add_test(c, a_server_is_taken_for_no_older_than_it_is);
    tcase_add_loop_test(c, versions_are_told_apart, 0,
                        (int)(sizeof servers_versions / sizeof *servers_versions));
    return s;
}
