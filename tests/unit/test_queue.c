/* SPDX-License-Identifier: MIT */
/* queue.c and spec.c over a store that this file plays: checks, defaults, outputs, fork, listeners. */
#include "../../src/api/api.h"
#include "unit.h"

#include <sys/wait.h>
#include <unistd.h>

/* ---- The store: remembers the last call, answers as told ---- */

static const nq_driver fake_driver = {.scheme = "sqlite", .tx_kind = NQ_TX_SQLITE};
static nq_store fake_store = {.driver = &fake_driver};
static nq_options fake_options;
static int fake_answer, fake_closed, fake_calls, fake_result;
static nq_new fake_task;
static size_t fake_n, fake_room = SIZE_MAX;
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER; /* of what a call records */
static nq_err err;

int nq_store_open(nq_store **out, const char *url, const nq_options *opts, nq_err *e)
{
    if (strcmp(url, "sqlite:good") != 0)
        return nq_err_set(e, NQ_EURL, "bad");
    fake_options = *opts;
    *out = &fake_store;
    return NQ_OK;
}

void nq_store_close(nq_store *s)
{
    ck_assert_ptr_eq(s, &fake_store);
    fake_closed++;
}

int nq_store_ready(nq_store *s, nq_err *e)
{
    (void)s;
    (void)e;
    return NQ_OK;
}

int nq_store_migration_sql(const nq_store *s, unsigned from, nq_buf *out)
{
    (void)s;
    (void)from;
    (void)out;
    return NQ_OK;
}

int nq_store_migrate(nq_store *s, nq_err *e)
{
    (void)s;
    return nq_err_set(e, NQ_ESCHEMA, "newer");
}

int nq_store_drop(nq_store *s, nq_err *e)
{
    (void)s;
    return nq_err_set(e, NQ_EDENIED, "not yours");
}

int nq_store_configure(nq_store *s, const char *url, nq_err *e)
{
    (void)s;
    (void)url;
    return nq_err_set(e, NQ_EURL, "bad");
}

int64_t nq_store_clock(const nq_store *s)
{
    (void)s;
    return 0;
}

size_t nq_store_max_payload(const nq_store *s)
{
    (void)s;
    return fake_room;
}

int nq_store_enqueue(nq_store *s, nq_tx tx, const nq_new tasks[], size_t n, nq_id ids[], int results[],
                     nq_err *e)
{
    (void)s;
    (void)tx;
    pthread_mutex_lock(&fake_lock);
    fake_calls++;
    fake_task = tasks[0];
    fake_n = n;
    pthread_mutex_unlock(&fake_lock);
    for (size_t i = 0; i < n; i++) {
        ids[i] = 100 + (nq_id)i;
        results[i] = fake_result;
    }
    return fake_answer == NQ_OK ? NQ_OK : nq_err_set(e, fake_answer, "told so");
}

/* No worker lends anything. */
bool nq_loan_fits(const nq_new *task)
{
    (void)task;
    return true;
}

int nq_loan_enqueue(nq_store *s, nq_loan *loan, nq_new *task, nq_id *id, int *result, bool *handed, nq_err *e)
{
    (void)s;
    (void)loan;
    (void)task;
    (void)id;
    (void)result;
    (void)handed;
    return nq_err_set(e, NQ_EINVAL, "lent by nobody");
}

nq_loan *nq_hints_borrow(nq_hints *h, uint64_t queue)
{
    (void)h;
    (void)queue;
    return NULL;
}

/* ---- Hints: counted ---- */

static int fake_hints; /* handles' and hints' */
static size_t hinted_n;
static uint64_t hinted[NQ_HINT_QUEUES];

int nq_hints_open(nq_hints **out, nq_store *s, nq_err *e)
{
    (void)s;
    (void)e;
    *out = (nq_hints *)(void *)&fake_hints;
    return NQ_OK;
}

void nq_hints_close(nq_hints *h)
{
    ck_assert_ptr_eq(h, &fake_hints);
}

void nq_hints_send(nq_hints *h, const uint64_t queues[], size_t n, nq_id id)
{
    (void)id;
    ck_assert_ptr_eq(h, &fake_hints);
    pthread_mutex_lock(&fake_lock);
    fake_hints++;
    hinted_n = n;
    memcpy(hinted, queues, n * sizeof *queues);
    pthread_mutex_unlock(&fake_lock);
}

uint64_t nq_hint_queue(const char *name)
{
    return 1000 + strlen(name);
}

static nq *open_queue(void)
{
    nq *q = NULL;

    ck_assert_int_eq(nq_open(&q, "sqlite:good", NULL, NULL), NQ_OK);
    return q;
}

/* ---- Opening ---- */

START_TEST(opens)
{
    nq_options opts = {.size = sizeof opts, .max_payload = 10, .connections = 4, .password = "p"};
    nq *q = NULL;

    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", NQ_VERSION_MAJOR, NQ_VERSION_MINOR, NQ_VERSION_PATCH);
    ck_assert_str_eq(nq_version(), version);
    ck_assert_int_eq(nq_open(&q, "sqlite:good", NULL, &err), NQ_OK);
    ck_assert_uint_eq(fake_options.max_payload, NQ_DEFAULT_MAX_PAYLOAD);
    ck_assert_uint_eq(fake_options.connections, 10);
    ck_assert_ptr_eq(nq_store_of(q), &fake_store);
    ck_assert_int_eq(nq_usable(q, NULL), NQ_OK);
    ck_assert_int_eq(nq_migrate(q, &err), NQ_ESCHEMA);
    nq_close(q);
    ck_assert_int_eq(fake_closed, 1);
    nq_close(NULL);
    ck_assert_int_eq(nq_open(&q, "sqlite:good", &opts, &err), NQ_OK);
    ck_assert_uint_eq(fake_options.max_payload, 10);
    ck_assert_str_eq(fake_options.password, "p");
    nq_close(q);
    nq_free(NULL);
    nq_free(malloc(1));
}
END_TEST

START_TEST(does_not_open)
{
    nq_options opts = {.size = sizeof opts, .connections = 3};
    nq *q = (nq *)&opts;

    ck_assert_int_eq(nq_open(&q, "sqlite:good", &opts, &err), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "at least 4"));
    opts.size = 0;
    ck_assert_int_eq(nq_open(&q, "sqlite:good", &opts, &err), NQ_EINVAL);
    ck_assert_int_eq(nq_open(&q, "sqlite:bad", NULL, &err), NQ_EURL);
    ck_assert_int_eq(nq_open(NULL, "sqlite:good", NULL, &err), NQ_EINVAL);
    ck_assert_ptr_eq(q, &opts);
    ck_assert_int_eq(nq_migrate(NULL, &err), NQ_EINVAL);
    ck_assert_int_eq(nq_enqueue(NULL, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL), NQ_EINVAL);
}
END_TEST

/* In a child each call answers NQ_EFORK and nothing is freed or sent. */
START_TEST(forks)
{
    nq *q = open_queue();
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        bool good = nq_usable(q, &err) == NQ_EFORK && nq_migrate(q, NULL) == NQ_EFORK &&
                    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL) == NQ_EFORK &&
                    nq_enqueue_many(q, NQ_OWN_TX, NQ_TASK(.type = "t"), 1, NULL, NULL, NULL) == NQ_EFORK;
        nq_close(q);
        _exit(good && fake_calls == 0 && fake_closed == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL), NQ_OK);
    nq_close(q);
}
END_TEST

/* ---- Specs ---- */

static void refused(nq *q, const nq_task_spec *spec, int code, const char *part)
{
    nq_id id = 7;
    int calls = fake_calls;

    ck_assert_msg(nq_enqueue(q, NQ_OWN_TX, spec, &id, &err) == code, "%s: %s", part, err.message);
    ck_assert_msg(strstr(err.message, part), "%s: %s", part, err.message);
    ck_assert_int_eq(err.code, code);
    ck_assert_int_eq(id, 7);
    ck_assert_int_eq(fake_calls, calls);
}

START_TEST(defaults)
{
    nq *q = open_queue();
    nq_id id = 0;

    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), &id, NULL), NQ_OK);
    ck_assert_int_eq(id, 100);
    ck_assert_str_eq(fake_task.queue, "default");
    ck_assert_str_eq(fake_task.type, "t");
    ck_assert(fake_task.payload && fake_task.payload_size == 0);
    ck_assert(fake_task.data == fake_task.payload && fake_task.data_size == 0);
    ck_assert(fake_task.timeout_ms == 60000 && fake_task.max_retries == 10 && fake_task.priority == 0);
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX,
                                NQ_TASK(.type = "t", NQ_BYTES("pay"), .queue = "q", .priority = -100,
                                        .timeout_us = 1000001, .max_retries = NQ_ZERO, .delay_us = 7,
                                        .unique = NQ_UNIQUE_DATA, .unique_data = "key", .unique_size = 3),
                                NULL, NULL),
                     NQ_OK);
    ck_assert(fake_task.timeout_ms == 1001 && fake_task.max_retries == 0 && fake_task.priority == -100);
    ck_assert(fake_task.delay_us == 7 && fake_task.data_size == 3 && memcmp(fake_task.data, "key", 3) == 0);
    ck_assert(fake_task.payload_size == 3 && memcmp(fake_task.payload, "pay", 3) == 0);
    ck_assert_int_eq(
        nq_enqueue(q, NQ_OWN_TX,
                   NQ_TASK(.type = "t", .max_retries = NQ_ZERO, .delay_us = NQ_ZERO, .priority = NQ_ZERO),
                   NULL, NULL),
        NQ_OK);
    ck_assert(fake_task.max_retries == 0 && fake_task.delay_us == 0 && fake_task.priority == 0);
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .run_at_us = NQ_ZERO), NULL, NULL),
                     NQ_OK); /* long past, and given */
    ck_assert_int_eq(fake_task.run_at_us, 1);
    refused(q, NQ_TASK(.type = "t", .run_at_us = NQ_ZERO, .delay_us = 1), NQ_EINVAL, "both");
    refused(q, NQ_TASK(.type = "t", .timeout_us = NQ_ZERO), NQ_EINVAL, "timeout_us");
    nq_close(q);
}
END_TEST

START_TEST(refuses)
{
    nq_options opts = {.size = sizeof opts, .max_payload = 10};
    nq *q = NULL;

    ck_assert_int_eq(nq_open(&q, "sqlite:good", &opts, NULL), NQ_OK);
    refused(q, NULL, NQ_EINVAL, "NULL");
    refused(q, &(nq_task_spec){.type = "t"}, NQ_EINVAL, "nq_task_spec.size is 0");
    refused(q, NQ_TASK(.type = NULL), NQ_EINVAL, "type is missing");
    refused(q, NQ_TASK(.type = "a\tb"), NQ_EINVAL, "control character");
    refused(q, NQ_TASK(.type = "t", .queue = "a b"), NQ_EINVAL, "queue name 'a b'");
    refused(q, NQ_TASK(.type = "t", .queue = ""), NQ_EINVAL, "queue name is empty");
    refused(q, NQ_TASK(.type = "t", .payload_size = 1), NQ_EINVAL, "payload is NULL");
    refused(q, NQ_TASK(.type = "t", NQ_BYTES("01234567890")), NQ_ETOOBIG,
            "payload is 11 bytes long, at most 10 are allowed");
    refused(q, NQ_TASK(.type = "t", .priority = 101), NQ_EINVAL, "priority is 101, allowed are -100 to 100");
    refused(q, NQ_TASK(.type = "t", .priority = -101), NQ_EINVAL, "priority");
    refused(q, NQ_TASK(.type = "t", .delay_us = -1), NQ_EINVAL, "delay_us is -1");
    refused(q, NQ_TASK(.type = "t", .delay_us = NQ_MAX_DURATION + 1), NQ_EINVAL, "3650 days");
    refused(q, NQ_TASK(.type = "t", .delay_us = INT64_MIN), NQ_EINVAL, "delay_us");
    refused(q, NQ_TASK(.type = "t", .run_at_us = -1), NQ_EINVAL, "run_at_us is -1");
    refused(q, NQ_TASK(.type = "t", .run_at_us = 253402300800000000), NQ_EINVAL, "9999-12-31");
    refused(q, NQ_TASK(.type = "t", .run_at_us = 1, .delay_us = 1), NQ_EINVAL, "both");
    refused(q, NQ_TASK(.type = "t", .timeout_us = 999999), NQ_EINVAL, "timeout_us is 999999");
    refused(q, NQ_TASK(.type = "t", .timeout_us = -1), NQ_EINVAL, "timeout_us is -1");
    refused(q, NQ_TASK(.type = "t", .timeout_us = INT64_MAX), NQ_EINVAL, "timeout_us");
    refused(q, NQ_TASK(.type = "t", .max_retries = -1), NQ_EINVAL, "NQ_ZERO");
    refused(q, NQ_TASK(.type = "t", .max_retries = 1001), NQ_EINVAL, "max_retries is 1001");
    refused(q, NQ_TASK(.type = "t", .unique = NQ_UNIQUE_DATA), NQ_EINVAL, "unique_data is empty");
    refused(q, NQ_TASK(.type = "t", .unique_data = "x", .unique_size = 1), NQ_EINVAL, "unique_data is given");
    refused(q,
            NQ_TASK(.type = "t", .unique = NQ_UNIQUE_DATA, .unique_data = "01234567890", .unique_size = 11),
            NQ_ETOOBIG, "unique_data is 11 bytes");
    fake_room = 5;
    refused(q, NQ_TASK(.type = "t", NQ_BYTES("012345")), NQ_ETOOBIG, "the database takes at most 5");
    nq_close(q);
}
END_TEST

static bool no_tx(void *conn)
{
    (void)conn;
    return false;
}

static int no_exec(void *conn, const char *sql, const nq_val args[], size_t nargs, nq_row_fn row, void *arg,
                   nq_exec_result *res)
{
    (void)conn, (void)sql, (void)args, (void)nargs, (void)row, (void)arg, (void)res;
    return -1;
}

START_TEST(transactions)
{
    static const struct nq_tx_ops mysql = {sizeof mysql, NQ_TX_MYSQL, no_exec, no_tx};
    static const struct nq_tx_ops sqlite = {sizeof sqlite, NQ_TX_SQLITE, no_exec, no_tx};
    static const struct nq_tx_ops old = {1, NQ_TX_SQLITE, no_exec, no_tx};
    nq *q = open_queue();
    int conn = 0;

    ck_assert_int_eq(nq_enqueue(q, (nq_tx){&conn, &sqlite}, NQ_TASK(.type = "t"), NULL, NULL), NQ_OK);
    ck_assert_int_eq(nq_enqueue(q, (nq_tx){&conn, &mysql}, NQ_TASK(.type = "t"), NULL, &err), NQ_EINVAL);
    ck_assert_str_eq(err.message, "the transaction handle is of MySQL, this queue is on SQLite");
    ck_assert_int_eq(nq_enqueue(q, (nq_tx){&conn, &old}, NQ_TASK(.type = "t"), NULL, NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_enqueue(q, (nq_tx){NULL, &sqlite}, NQ_TASK(.type = "t"), NULL, NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_enqueue(q, (nq_tx){&conn, NULL}, NQ_TASK(.type = "t"), NULL, NULL), NQ_EINVAL);
    ck_assert_int_eq(nq_enqueue_many(q, (nq_tx){&conn, &mysql}, NULL, 0, NULL, NULL, NULL), NQ_EINVAL);
    ck_assert_int_eq(fake_calls, 1);
    nq_close(q);
}
END_TEST

START_TEST(duplicates)
{
    nq *q = open_queue();
    nq_id id = 0;

    fake_result = NQ_DUPLICATE;
    memset(&err, 0, sizeof err);
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "mail"), &id, &err), NQ_DUPLICATE);
    ck_assert_int_gt(NQ_DUPLICATE, 0);
    ck_assert_int_eq(id, 100);
    ck_assert_int_eq(err.code, NQ_OK); /* a success leaves it alone */
    ck_assert_str_eq(err.message, "");
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "mail"), NULL, NULL), NQ_DUPLICATE);
    id = 7;
    fake_answer = NQ_EUNAVAILABLE;
    ck_assert_int_eq(nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "mail"), &id, &err), NQ_EUNAVAILABLE);
    ck_assert_int_eq(id, 7);
    nq_close(q);
}
END_TEST

/* ---- Many ---- */

START_TEST(many)
{
    nq_task_spec tasks[5];
    nq_id ids[5] = {0};
    int results[5] = {9, 9, 9, 9, 9};
    nq *q = open_queue();
    char longer[301];

    memset(longer, 'x', 300);
    longer[300] = '\0';
    for (int i = 0; i < 5; i++)
        tasks[i] = (nq_task_spec){.size = sizeof tasks[i], .type = "t"};
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, 5, ids, results, NULL), NQ_OK);
    ck_assert(fake_n == 5 && ids[0] == 100 && ids[4] == 104 && results[4] == NQ_OK);
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, 5, NULL, NULL, NULL), NQ_OK);
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, NULL, 0, NULL, NULL, NULL), NQ_OK);
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, NULL, 1, NULL, NULL, &err), NQ_EINVAL);
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, SIZE_MAX / 2, NULL, NULL, &err), NQ_ENOMEM);
    ck_assert_int_eq(fake_calls, 2);
    ids[0] = 7;
    tasks[3].type = longer;
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, 5, ids, results, &err), NQ_EINVAL);
    ck_assert_str_eq(err.message, "task 3: type is 300 bytes long, at most 255 are allowed");
    tasks[3].size = 0;
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, 5, ids, results, &err), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "task 3: size is 0"));
    tasks[0].size = 0;
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks, 5, ids, results, &err), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "task 0: nq_task_spec.size is 0"));
    ck_assert_int_eq(fake_calls, 2);
    ck_assert_int_eq(ids[0], 7);
    fake_answer = NQ_EFULL;
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, tasks + 1, 2, ids, results, &err), NQ_EFULL);
    ck_assert_int_eq(ids[0], 7);
    nq_close(q);
}
END_TEST

/* An array as another header lays it out: the stride is the caller's. */
START_TEST(strides)
{
    struct {
        nq_task_spec spec;
        int64_t later;
    } newer[3];
    struct {
        size_t size;
        const char *type;
    } older[3];
    const void *volatile opaque = older; /* else the compiler sees that the elements are too small */
    nq_id ids[3] = {0};
    nq *q = open_queue();

    memset(newer, 0, sizeof newer);
    for (int i = 0; i < 3; i++) {
        newer[i].spec.size = sizeof newer[i];
        newer[i].spec.type = "new";
        older[i].size = sizeof older[i];
        older[i].type = "old";
    }
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, &newer[0].spec, 3, ids, NULL, &err), NQ_OK);
    ck_assert_str_eq(fake_task.type, "new");
    newer[2].later = 1;
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, &newer[0].spec, 3, ids, NULL, &err), NQ_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "task 2: "));
    ck_assert_int_eq(nq_enqueue_many(q, NQ_OWN_TX, opaque, 3, ids, NULL, &err), NQ_OK);
    ck_assert_str_eq(fake_task.type, "old");
    ck_assert_int_eq(fake_task.timeout_ms, 60000);
    nq_close(q);
}
END_TEST

/* ---- Listeners ---- */

static void count(void *arg)
{
    ++*(int *)arg;
}

static void count_told(void *arg, uint64_t queue, nq_id id)
{
    (void)queue;
    (void)id;
    count(arg);
}

static void count_look(void *arg)
{
    *(int *)arg += 100;
}

START_TEST(listeners)
{
    static const struct nq_tx_ops sqlite = {sizeof sqlite, NQ_TX_SQLITE, no_exec, no_tx};
    int a = 0, b = 0, conn = 0;
    nq_listener la = {.wake = count_told, .look = count_look, .settings = count_look, .arg = &a},
                lb = {.wake = count_told, .look = count_look, .settings = count_look, .arg = &b};
    nq *q = open_queue();

    nq_listen(q, &la);
    nq_listen(q, &lb);
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
    ck_assert(a == 1 && b == 1);
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .delay_us = NQ_HOURS(1)), NULL, NULL);
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .run_at_us = nq_real_us() + NQ_HOURS(1)), NULL, NULL);
    nq_enqueue(q, (nq_tx){&conn, &sqlite}, NQ_TASK(.type = "t"), NULL, NULL);
    ck_assert(a == 1 && b == 1);
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t", .run_at_us = 1), NULL, NULL);
    ck_assert(a == 2 && b == 2);
    nq_unlisten(q, &lb);
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
    ck_assert(a == 3 && b == 2);
    fake_result = NQ_DUPLICATE;
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
    fake_answer = NQ_EUNKNOWN;
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
    ck_assert_int_eq(a, 3);
    nq_unlisten(q, &la);
    nq_unlisten(q, &la);
    nq_close(q);
}
END_TEST

struct guard {
    pthread_mutex_t mutex;
    int woken;
    bool gone;
};

static void wake_guard(void *arg)
{
    struct guard *g = arg;

    pthread_mutex_lock(&g->mutex);
    ck_assert(!g->gone);
    g->woken++;
    pthread_mutex_unlock(&g->mutex);
}

static void wake_guard_told(void *arg, uint64_t queue, nq_id id)
{
    (void)queue;
    (void)id;
    wake_guard(arg);
}

/* Producers that never stop: every nq_unlisten returns, and no wake comes after it. */
static bool producers_stop;
static pthread_mutex_t producers_lock = PTHREAD_MUTEX_INITIALIZER;

static void *produce(void *arg)
{
    for (bool stop = false; !stop;) {
        nq_enqueue(arg, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
        pthread_mutex_lock(&producers_lock);
        stop = producers_stop;
        pthread_mutex_unlock(&producers_lock);
    }
    return NULL;
}

START_TEST(unlisten_is_final)
{
    nq *q = open_queue();
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, produce, q), 0);
    for (int round = 0; round < 2000; round++) {
        struct guard g[2];
        nq_listener l[2];
        for (int i = 0; i < 2; i++) {
            g[i] = (struct guard){PTHREAD_MUTEX_INITIALIZER, 0, false};
            l[i] = (nq_listener){
                .wake = wake_guard_told, .look = wake_guard, .settings = wake_guard, .arg = &g[i]};
            nq_listen(q, &l[i]);
        }
        for (int i = round % 2, n = 0; n < 2; n++, i = !i) {
            nq_unlisten(q, &l[i]);
            pthread_mutex_lock(&g[i].mutex);
            g[i].gone = true;
            pthread_mutex_unlock(&g[i].mutex);
        }
        memset(l, 0x55, sizeof l);
    }
    pthread_mutex_lock(&producers_lock);
    producers_stop = true;
    pthread_mutex_unlock(&producers_lock);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    nq_close(q);
}
END_TEST

/* A wake in progress keeps nq_unlisten waiting, and nothing else does. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool waking, open, left;
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void gate_set(bool *what)
{
    pthread_mutex_lock(&gate.mutex);
    *what = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

/* False when it did not come about in time. */
static bool gate_wait(const bool *what, int64_t us)
{
    int64_t until = nq_mono_us() + us;
    bool came;

    pthread_mutex_lock(&gate.mutex);
    while (!*what && nq_cond_wait_until(&gate.changed, &gate.mutex, until))
        ;
    came = *what;
    pthread_mutex_unlock(&gate.mutex);
    return came;
}

static void gate_wake(void *arg)
{
    (void)arg;
    gate_set(&gate.waking);
    gate_wait(&gate.open, NQ_SECONDS(30));
}

static void gate_wake_told(void *arg, uint64_t queue, nq_id id)
{
    (void)queue;
    (void)id;
    gate_wake(arg);
}

static nq_listener gate_listener = {.wake = gate_wake_told, .look = gate_wake, .settings = gate_wake};

static void *gate_produce(void *q)
{
    nq_enqueue(q, NQ_OWN_TX, NQ_TASK(.type = "t"), NULL, NULL);
    return NULL;
}

static void *gate_leave(void *q)
{
    nq_unlisten(q, &gate_listener);
    gate_set(&gate.left);
    return NULL;
}

START_TEST(unlisten_waits)
{
    nq *q = open_queue();
    pthread_t producer, leaver;

    ck_assert_int_eq(nq_cond_init(&gate.changed), 0);
    nq_listen(q, &gate_listener);
    ck_assert_int_eq(pthread_create(&producer, NULL, gate_produce, q), 0);
    ck_assert(gate_wait(&gate.waking, NQ_SECONDS(30)));
    ck_assert_int_eq(pthread_create(&leaver, NULL, gate_leave, q), 0);
    ck_assert(!gate_wait(&gate.left, NQ_MS(50)));
    gate_set(&gate.open);
    ck_assert(gate_wait(&gate.left, NQ_SECONDS(30)));
    pthread_join(producer, NULL);
    pthread_join(leaver, NULL);
    nq_close(q);
}
END_TEST

UNIT_MAIN("queue", opens, does_not_open, forks, defaults, refuses, transactions, duplicates, many, strides,
          listeners, unlisten_is_final, unlisten_waits)
