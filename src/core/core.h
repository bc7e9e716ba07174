/* SPDX-License-Identifier: MIT */
/* The small things everything else stands on: errors, bytes, hash, clock, URL, states. */
#ifndef NQ_CORE_H
#define NQ_CORE_H

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "nanoq.h"
#include "nanoq_admin.h"
#include "nanoq_metrics.h"
#include "visibility.h"

/* ---- err.c -- Fill err (which may be NULL) and return code: `return nq_err_set(err, NQ_EURL, ...)`. */
NQ_PLUG_IN int nq_err_set(nq_err *err, int code, const char *fmt, ...) NQ_PRINTF(3, 4);
NQ_PLUG_IN int nq_err_nomem(nq_err *err);
/* Like nq_err_set, with ": strerror(errnum)" behind. */
NQ_PLUG_IN int nq_err_sys(nq_err *err, int code, int errnum, const char *fmt, ...) NQ_PRINTF(4, 5);
#ifdef __clang_analyzer__ /* it sees one file at a time, and would take a failure's answer for a possible 0  \
                           */
#define nq_err_set(err, code, ...)         ((void)nq_err_set(err, code, __VA_ARGS__), (code))
#define nq_err_nomem(err)                  ((void)nq_err_nomem(err), NQ_ENOMEM)
#define nq_err_sys(err, code, errnum, ...) ((void)nq_err_sys(err, code, errnum, __VA_ARGS__), (code))
#endif
/* Copy text into out (size bytes) as one safe line: control bytes and invalid UTF-8 as \xNN, cut to fit. */
NQ_PLUG_IN void nq_printable(char *out, size_t size, const char *text, size_t n);

/* ---- buf.c -- A growing byte string. {0} is empty; after a failed allocation `failed` stays set and appends
 * do nothing, so that only the end needs a check. p is NUL-terminated once anything was appended. */
typedef struct nq_buf {
    char *p;
    size_t n, cap;
    bool failed;
} nq_buf;
NQ_PLUG_IN void nq_buf_add(nq_buf *b, const void *p, size_t n);
NQ_PLUG_IN void nq_buf_str(nq_buf *b, const char *s);
NQ_PLUG_IN void nq_buf_fmt(nq_buf *b, const char *fmt, ...) NQ_PRINTF(2, 3);
NQ_PLUG_IN void nq_buf_u64(nq_buf *b, uint64_t v); /* decimal; for long id lists */
NQ_PLUG_IN void nq_buf_clear(nq_buf *b);           /* empty, memory kept */
NQ_PLUG_IN void nq_buf_free(nq_buf *b);

/* An array of n elements with room for one more: itself, or moved, *cap grown. NULL: out of memory, it stays.
 */
NQ_PRIVATE void *nq_grow(void *array, size_t n, size_t *cap, size_t size);

/* ---- exposition.c -- Prometheus' text format */
typedef struct nq_label {
    const char *name, *value; /* the value is anybody's text */
} nq_label;
/* The lines before the samples of a name. type: counter, gauge, histogram. */
NQ_PRIVATE void nq_family(nq_buf *b, const char *name, const char *type, const char *help);
/* A sample's name and labels, up to its value, which with its line feed is the caller's. */
NQ_PRIVATE void nq_sample(nq_buf *b, const char *name, const nq_label labels[], size_t n);
NQ_PRIVATE void nq_sample_u64(nq_buf *b, const char *name, const nq_label labels[], size_t n, uint64_t v);
NQ_PRIVATE void nq_sample_us(nq_buf *b, const char *name, const nq_label labels[], size_t n, uint64_t us);
NQ_PRIVATE void nq_exposed_us(nq_buf *b, uint64_t us); /* as seconds */

/* ---- sha256.c -- FIPS 180-4 */
typedef struct nq_sha256 {
    uint32_t h[8];
    uint64_t total;
    uint8_t block[64];
} nq_sha256;
/* Takes n blocks of 64 bytes into the state. */
typedef void nq_sha256_blocks(uint32_t state[8], const uint8_t *p, size_t n);
extern NQ_PRIVATE const uint32_t nq_sha256_k[64];
NQ_PRIVATE void nq_sha256_portable(uint32_t state[8], const uint8_t *p, size_t n);
NQ_PLUG_IN void nq_sha256_init(nq_sha256 *s);
NQ_PLUG_IN void nq_sha256_add(nq_sha256 *s, const void *p, size_t n);
NQ_PLUG_IN void nq_sha256_end(nq_sha256 *s, uint8_t out[32]);
/* The unique key: SHA-256 over type, one NUL, data. A type holds no NUL, so no two pairs share an input;
 * the tables' SQL default computes the same. */
NQ_PLUG_IN void nq_unique_hash(uint8_t out[32], const char *type, const void *data, size_t n);

/* ---- sha256_cpu.c -- the same by the CPU's own instructions; NULL where this CPU has none */
NQ_PRIVATE nq_sha256_blocks *nq_sha256_cpu(void);

/* ---- clock.c */
NQ_PLUG_IN int64_t nq_mono_us(void); /* CLOCK_MONOTONIC */
/* A duration that a row holds in milliseconds, whatever it says, within the bounds of durations. */
static inline int64_t nq_us_of_ms(int64_t ms)
{
    return ms < 0 ? 0 : ms > NQ_MAX_DURATION / 1000 ? NQ_MAX_DURATION : ms * 1000;
}
/* How long before `now` the time `then` was, which may come from a row and be any: it saturates. */
static inline int64_t nq_us_since(int64_t now, int64_t then)
{
    if (then < 0 && now > INT64_MAX + then)
        return INT64_MAX;
    return then > 0 && now < INT64_MIN + then ? INT64_MIN : now - then;
}
NQ_PRIVATE int64_t nq_real_us(void); /* CLOCK_REALTIME: only where this host's clock is the database's */
NQ_PRIVATE void nq_sleep_us(int64_t us);
/* A condition variable on CLOCK_MONOTONIC; wait until a nq_mono_us() time, false when it passed. */
NQ_PRIVATE int nq_cond_init(pthread_cond_t *cond);
NQ_PRIVATE bool nq_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t mono_us);

/* ---- thread.c -- Start a thread of the library's, with the application's signals blocked. */
NQ_PRIVATE int nq_thread_start(pthread_t *thread, void *(*fn)(void *), void *arg, nq_err *err);
#define NQ_PROCESS_NAME 240
NQ_PRIVATE void nq_process_name(char out[NQ_PROCESS_NAME]); /* host:pid, as workers are called */

/* ---- atfork.c -- A descriptor that goes with this process and not with a child of fork, where /dev/null
 * takes its number. A ticket by which to forget it before it is closed; 0: no memory. */
NQ_PLUG_IN uint64_t nq_fork_leaves(int fd);
NQ_PLUG_IN void nq_fork_forgets(uint64_t ticket);

/* ---- random.c -- Not for secrets. Thread-safe. Uniform in 0..bound (inclusive). */
NQ_PLUG_IN uint64_t nq_random(uint64_t bound);

/* ---- url.c */
typedef struct nq_url_option {
    char *name, *value;
} nq_url_option;
typedef struct nq_url {
    char *scheme;                 /* "mysql", "sqlite" */
    char *user, *password, *host; /* NULL where not given */
    char *path;                   /* mysql: the database; sqlite: the file or ":memory:" */
    unsigned port;                /* 0: not given */
    nq_url_option *options;
    size_t noptions;
} nq_url;
/* Error texts never repeat the password. */
NQ_PRIVATE int nq_url_parse(nq_url *out, const char *text, nq_err *err);
NQ_PRIVATE void nq_url_free(nq_url *u); /* wipes the password */
NQ_PLUG_IN const char *nq_url_option_get(const nq_url *u, const char *name, const char *fallback);

/* ---- utf8.c */
/* Bytes of the valid UTF-8 character at the start of p[0..n), its code point in *cp; 0 when there is none. */
NQ_PRIVATE size_t nq_utf8(const char *p, size_t n, uint32_t *cp);

/* The number that a macro is, as text. */
#define NQ_STRINGIFY(x) #x
#define NQ_STRING(x)    NQ_STRINGIFY(x)

/* The value of an option: the fallback for 0, 0 for NQ_ZERO. */
static inline int64_t nq_option(int64_t value, int64_t fallback)
{
    return value == 0 ? fallback : value == NQ_ZERO ? 0 : value;
}

/* ---- validate.c -- names and options as the public header allows them */
NQ_PRIVATE int nq_check_queue(const char *queue, nq_err *err);
NQ_PRIVATE int nq_check_type(const char *type, nq_err *err);
/* Words for people: UTF-8 without control characters. what: how the message calls them. */
#define NQ_MAX_WHY 255
NQ_PRIVATE int nq_check_words(const char *what, const char *text, size_t most, nq_err *err);
NQ_PRIVATE int nq_check_prefix(const char *prefix, nq_err *err);
/* A copy of an options struct of the caller's, which may be older (smaller) than ours, or NULL. Refuses
 * size 0 and a bigger one whose extra bytes are not zero. */
NQ_PRIVATE int nq_options_copy(void *out, size_t ours, const void *theirs, const char *what, nq_err *err);

/* ---- headers.c -- the "name: value" lines of a task */
typedef struct nq_headers {
    const char *group; /* the text of one that is told by its hash, or the group that a task had before it was
                          set apart; NULL: not said */
    const nq_header *all; /* without the library's */
    size_t n;
    int64_t expires_at_us; /* 0: never */
    nq_id dead_id;         /* 0: it is no dead letter */
    bool until_start;      /* its unique key goes when it is claimed */
    const char *schedule;  /* NULL: it comes of none */
    int64_t due_at_us;     /* of which time of it */
    int64_t keep_us;       /* it is kept so long when it is done; NQ_FOREVER; 0: not said */
    const char *const *tags;
    size_t ntags;
} nq_headers;
/* Bytes that nq_headers_read needs for a text; 0: there is nothing to be read. */
NQ_PLUG_IN size_t nq_headers_room(const void *text, size_t n);
/* Read any text. What is read lies in room, which is aligned as malloc's; answers what is behind it. */
NQ_PLUG_IN char *nq_headers_read(nq_headers *out, char *room, const void *text, size_t n);
/* Is it the text of a dead letter? */
NQ_PRIVATE bool nq_headers_dead(const void *text, size_t n);
/* Append the text without its time of expiry; false: it has none. */
NQ_PRIVATE bool nq_headers_without_expiry(nq_buf *out, const void *text, size_t n);
/* Append what a dead letter has of the text: neither its time of expiry nor the group, which is not its own.
 */
NQ_PRIVATE void nq_headers_of_letter(nq_buf *out, const void *text, size_t n);
/* Put the group's text before them. */
NQ_PRIVATE int nq_headers_group(nq_buf *headers, const char *group, nq_err *err);
/* Put "nq-unique: how" before them. */
NQ_PRIVATE int nq_headers_unique(nq_buf *headers, const char *how, nq_err *err);
/* Put "nq-keep: us" before them. */
NQ_PRIVATE int nq_headers_keep(nq_buf *headers, int64_t us, nq_err *err);
/* Check tags, and put them behind the headers. */
NQ_PRIVATE int nq_headers_tags(nq_buf *headers, const char *const tags[], size_t n, nq_err *err);
/* Where the next tag of the text is, from *at on; *at: behind it. NULL: there is none. */
NQ_PRIVATE const char *nq_headers_next_tag(const void *text, size_t n, size_t *at, size_t *size);
/* Check headers, and make a text of them. */
NQ_PRIVATE int nq_headers_write(nq_buf *out, const nq_header all[], size_t n, nq_err *err);

/* ---- hint_name.c -- what a queue is called in a hint; a queue's name is never NQ_HINT_ANY */
#define NQ_HINT_ANY      ((uint64_t)0)
#define NQ_HINT_CANCEL   UINT64_MAX       /* no queue: somebody asked to cancel a running task */
#define NQ_HINT_SETTINGS (UINT64_MAX - 1) /* nor is this: settings of queues were changed */
#define NQ_HINT_WAITER   (UINT64_MAX - 2) /* nor this: somebody waits for the end of tasks */
#define NQ_HINT_QUEUES   8                /* of one hint; more of them are NQ_HINT_ANY */
NQ_PRIVATE uint64_t nq_fnv1a(const char *text);
NQ_PRIVATE uint64_t nq_hint_queue(const char *name);
/* This host, as datagrams see it; 0: cannot tell. */
NQ_PRIVATE uint64_t nq_hint_host(void);

/* ---- group.c -- BASE//GROUP: a group of the queue BASE */
/* Bytes of a queue's name that are its base: all, where it names no group. */
NQ_PRIVATE size_t nq_group_base(const char *queue);
/* Cut the group off a name; the group, or NULL: it has none. */
NQ_PLUG_IN char *nq_group_split(char *queue);
/* May a queue of this name have groups? One that names a group has none. */
NQ_PRIVATE bool nq_group_may_have(const char *queue);
/* The name of a group, which may be any text; one that does not fit is told by its hash. */
NQ_PRIVATE int nq_group_name(char out[NQ_MAX_QUEUE + 1], const char *queue, const char *group, nq_err *err);

/* The group into which a queue's tasks of one type are set apart. NQ_EINVAL: the queue can have none. */
NQ_PRIVATE int nq_group_of_type(char out[NQ_MAX_QUEUE + 1], const char *queue, const char *type, nq_err *err);
/* Is this name that of such a group? */
NQ_PRIVATE bool nq_group_is_type(const char *name);
/* Is this name that of a group which is told by its hash? */
NQ_PRIVATE bool nq_group_hashed(const char *name);
/* The group as people know it, by the name in the tables and the header nq-group (NULL: there is none). */
NQ_PLUG_IN const char *nq_group_shown(const char *group, const char *header);

/* ---- rate.c -- at most so many starts in a time. Times are of the database's clock, since 1970. */
#define NQ_RATE_HORIZON_US INT64_C(20000)   /* so far ahead a claim takes what may start */
#define NQ_RATE_AHEAD_US   INT64_C(2000000) /* most that a claim takes until its tasks are there to start */
#define NQ_RATE_MAX_BURST  1000000
typedef struct nq_rate {
    int64_t every_ns; /* one start in this time; 0: no limit */
    int64_t burst;    /* at once after a quiet time; 1 at least */
} nq_rate;
/* Of a row of settings, whatever it says; burst 0: the default. */
NQ_PRIVATE nq_rate nq_rate_of(int64_t rate, int64_t rate_us, int64_t burst);
typedef struct nq_tokens {
    int64_t first_ns; /* the time of the first start */
    size_t n;
    int64_t wait_us; /* n 0: so long until there are some */
} nq_tokens;
/* What may start, up to `most`; now_us: when the claim will have been made. tat_ns: what nq_rate_next said
 * last. */
NQ_PRIVATE nq_tokens nq_rate_tokens(const nq_rate *r, int64_t tat_ns, int64_t now_us, size_t most);
/* When the i-th of them starts, and what is kept when so many were taken. */
NQ_PRIVATE int64_t nq_rate_start(const nq_rate *r, const nq_tokens *t, size_t i, int64_t now_us);
NQ_PRIVATE int64_t nq_rate_next(const nq_rate *r, const nq_tokens *t, size_t taken);
/* How many could start now, for people. */
NQ_PRIVATE int64_t nq_rate_left(const nq_rate *r, int64_t tat_ns, int64_t now_us);
/* What our clock shows more than another one, which showed theirs_us between two readings of ours: within
 * what they allow, and else as it was known before, so that a pause between them changes nothing. */
NQ_PRIVATE void nq_clock_offset(int64_t *offset_us, bool *known, int64_t before_us, int64_t theirs_us,
                                int64_t after_us);

/* ---- state.c -- states and legal moves as one table */
enum nq_move {
    NQ_MOVE_CLAIM,
    NQ_MOVE_COMPLETE,
    NQ_MOVE_FAIL,
    NQ_MOVE_SNOOZE,
    NQ_MOVE_RELEASE,
    NQ_MOVE_BURY,
    NQ_MOVE_RETRY,
    NQ_MOVE_CANCEL,
    NQ_MOVE_DELETE
};
/* Where a move leads from a state: an nq_state, -1 not allowed, -2 the row goes. */
NQ_PRIVATE int nq_state_move(enum nq_state from, enum nq_move move);

#endif
