/* SPDX-License-Identifier: MIT */
/* nanoq add --stdin: tasks from lines of JSON, enqueued in chunks. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "../text/json_input.h"
#include "../text/text.h"
#include "add.h"

#define LINES_CHUNK   500
#define LINES_BYTES   (4u << 20)                    /* of text in a chunk */
#define LINES_LONGEST (ADD_MAX_PAYLOAD * 6 + 65536) /* \u00XX makes six bytes of one */
#define LINES_WAIT_US NQ_MS(200)

struct lines_one {
    char *text;
    json_t *root;
    uint64_t line;
};

struct lines {
    nq *q;
    const nq_task_spec *defaults;
    struct text in; /* bytes read and not yet consumed, from `done` on */
    size_t done;
    bool eof;
    uint64_t line; /* the number of the line being looked at */
    struct lines_one own[LINES_CHUNK];
    nq_task_spec specs[LINES_CHUNK];
    nq_id ids[LINES_CHUNK];
    int results[LINES_CHUNK];
    size_t n, bytes;
    int64_t since;                        /* when the chunk's first line came */
    uint64_t first, enqueued, duplicates; /* line of the chunk's first task; totals */
    uint64_t last;                        /* the last line that was enqueued */
    bool progress;
    int64_t started, shown;
};

static void lines_progress(struct lines *s, bool end)
{
    int64_t now = cli_now_us(CLOCK_MONOTONIC);
    if (!s->progress || (!end && now - s->shown < 200000))
        return;
    double seconds = (double)(now - s->started) / 1e6;
    double rate = seconds > 0 ? (double)s->enqueued / seconds : 0;
    fprintf(stderr, "\r\033[K%llu enqueued, %llu duplicates, %.0f a second%s",
            (unsigned long long)s->enqueued, (unsigned long long)s->duplicates, rate, end ? "\n" : "");
    s->shown = now;
}

static void lines_clear(struct lines *s)
{
    for (size_t i = 0; i < s->n; i++) {
        line_forget(&s->specs[i], s->defaults);
        json_decref(s->own[i].root);
        free(s->own[i].text);
    }
    s->n = s->bytes = 0;
}

/* What was and what was not done, after a failure. */
static void lines_account(struct lines *s, const char *chunk)
{
    lines_progress(s, true);
    if (s->last == 0) {
        cli_complain("no line was enqueued before%s", chunk);
    } else {
        cli_complain("lines 1 to %llu were enqueued before (%llu tasks, %llu duplicates)%s",
                     (unsigned long long)s->last, (unsigned long long)s->enqueued,
                     (unsigned long long)s->duplicates, chunk);
    }
}

/* What only the library can tell of a task, it tells by its place in the chunk: 1 + that, or 0. */
static size_t lines_which(const struct lines *s, const nq_err *err, const char **why)
{
    size_t at;
    int n = 0;
    if (sscanf(err->message, "task %zu: %n", &at, &n) != 1 || n == 0 || at >= s->n)
        return 0;
    *why = err->message + n;
    return at + 1;
}

static int lines_failed(struct lines *s, const nq_err *err)
{
    const char *why = NULL;
    const size_t which = lines_which(s, err, &why);
    const int exit_code = which ? cli_exit_of(err->code) : cli_fail(err);
    if (which)
        cli_complain("line %llu: %s", (unsigned long long)s->own[which - 1].line, why);
    cli_complain("lines %llu to %llu %s", (unsigned long long)s->first, (unsigned long long)s->line,
                 err->code == NQ_EUNKNOWN ? "may or may not have been enqueued" : "were not enqueued");
    lines_account(s, "");
    return exit_code;
}

static int lines_flush(struct lines *s)
{
    nq_err err = {0};
    if (s->n == 0)
        return CLI_OK;
    if (nq_enqueue_many(s->q, NQ_OWN_TX, s->specs, s->n, s->ids, s->results, &err) < 0)
        return lines_failed(s, &err);
    for (size_t i = 0; i < s->n; i++) {
        bool duplicate = s->results[i] == NQ_DUPLICATE;
        *(duplicate ? &s->duplicates : &s->enqueued) += 1;
        if (cli.format == CLI_JSON)
            printf("{\"id\": %lld, \"duplicate\": %s}\n", (long long)s->ids[i], duplicate ? "true" : "false");
        else
            printf("%lld\n", (long long)s->ids[i]);
    }
    s->last = s->line;
    lines_clear(s);
    lines_progress(s, false);
    if (fflush(stdout) != 0) { /* main says why */
        lines_account(s, "");
        return CLI_FAILURE;
    }
    return CLI_OK;
}

static int lines_take(struct lines *s, const char *p, size_t n)
{
    struct line_fault fault = {.column = 1};
    int line;
    s->line++;
    if (strspn(p, " \t\r") >= n)
        return CLI_OK; /* an empty line */
    char *text = cli_alloc(n + 1);
    memcpy(text, p, n);
    json_t *root = json_input(text, n, fault.message, &line, &fault.column);
    nq_task_spec spec = *s->defaults;
    if (!root || !line_task(&spec, text, root, NULL, &fault)) {
        cli_complain("line %llu, column %d: %s", (unsigned long long)s->line, fault.column, fault.message);
        lines_account(s, s->n > 0 ? "; of the chunk with that line nothing was" : "");
        line_forget(&spec, s->defaults);
        json_decref(root);
        free(text);
        return CLI_USAGE;
    }
    if (s->n == 0) {
        s->since = cli_now_us(CLOCK_MONOTONIC);
        s->first = s->line;
    }
    s->specs[s->n] = spec;
    s->own[s->n++] = (struct lines_one){text, root, s->line};
    s->bytes += n;
    return s->n == LINES_CHUNK || s->bytes >= LINES_BYTES ? lines_flush(s) : CLI_OK;
}

/* ---- input */

/* Read more; waits no longer than the chunk that is open may. *later: that time has passed. */
static int lines_read(struct lines *s, bool *later)
{
    char chunk[65536];
    int wait = -1;
    if (s->n > 0) {
        int64_t left = s->since + LINES_WAIT_US - cli_now_us(CLOCK_MONOTONIC);
        wait = left <= 0 ? 0 : (int)(left / 1000 + 1);
    }
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = poll(&fd, 1, wait);
    *later = ready == 0;
    if (ready <= 0)
        return CLI_OK;
    ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        char buf[128];
        cli_complain("cannot read stdin: %s", strerror_r(errno, buf, sizeof buf));
        lines_account(s, "");
        return CLI_FAILURE;
    }
    s->eof = n == 0;
    text_add(&s->in, chunk, n > 0 ? (size_t)n : 0);
    return CLI_OK;
}

/* Take every whole line that is there, and at the end what stands behind the last newline. */
static int lines_consume(struct lines *s)
{
    int exit_code = CLI_OK;
    while (exit_code == CLI_OK && s->done < s->in.n) {
        char *from = s->in.p + s->done, *end = memchr(from, '\n', s->in.n - s->done);
        if (!end && !s->eof)
            break;
        size_t n = end ? (size_t)(end - from) : s->in.n - s->done;
        s->done += n + (end ? 1 : 0);
        from[n] = '\0';
        exit_code = lines_take(s, from, n);
    }
    memmove(s->in.p, s->in.p + s->done, s->in.n - s->done);
    s->in.n -= s->done;
    s->done = 0;
    if (exit_code == CLI_OK && s->in.n > LINES_LONGEST) {
        cli_complain("line %llu is longer than %zu bytes", (unsigned long long)s->line + 1, LINES_LONGEST);
        lines_account(s, s->n > 0 ? "; of the chunk with that line nothing was" : "");
        exit_code = CLI_USAGE;
    }
    return exit_code;
}

int add_lines(const nq_task_spec *defaults)
{
    struct lines *s = cli_alloc(sizeof *s);
    signal(SIGPIPE, SIG_IGN); /* who stops reading the ids learns how many lines were enqueued, too */
    s->defaults = defaults;
    s->progress = isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO);
    s->started = cli_now_us(CLOCK_MONOTONIC);
    int exit_code = cli_open(&s->q);
    while (exit_code == CLI_OK && !s->eof) {
        bool later = false;
        exit_code = lines_read(s, &later);
        if (exit_code == CLI_OK && later)
            exit_code = lines_flush(s);
        else if (exit_code == CLI_OK && (s->in.n > 0))
            exit_code = lines_consume(s);
    }
    if (exit_code == CLI_OK)
        exit_code = lines_flush(s);
    if (exit_code == CLI_OK) {
        lines_progress(s, true);
        exit_code = s->duplicates > 0 ? CLI_DUPLICATE : CLI_OK; /* as for a single task */
    }
    lines_clear(s);
    nq_close(s->q);
    text_free(&s->in);
    free(s);
    return exit_code;
}
