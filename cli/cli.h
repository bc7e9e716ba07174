/* SPDX-License-Identifier: MIT */
/* What the files of the nanoq command share: options, opening, exit codes. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <getopt.h>
#include <pthread.h>

#include "nanoq.h"
#include "nanoq_admin.h"

/* X(NAME, number, meaning). The last two are EX_UNAVAILABLE and EX_NOPERM of sysexits.h. */
#define CLI_EXITS(X)                                                                                         \
    X(OK, 0, "done")                                                                                         \
    X(FAILURE, 1, "failure: what it was is on standard error; doctor: a warning")                            \
    X(USAGE, 2, "wrong use or input: an option, a value, JSON, the configuration; doctor: an error")         \
    X(NOT_FOUND, 3, "no such task, queue or schedule")                                                       \
    X(DUPLICATE, 4, "add: a live task has the same unique key")                                              \
    X(DEAD, 5, "work --drain: some tasks ended dead")                                                        \
    X(NOT_DONE, 6, "wait: a task ended dead, cancelled or expired")                                          \
    X(TIMEOUT, 7, "wait, pause --wait: the time is up")                                                      \
    X(UNAVAILABLE, 69, "the database is not to be reached")                                                  \
    X(DENIED, 77, "the database denies access")
enum cli_exit {
#define CLI_EXIT(NAME, number, meaning) CLI_##NAME = (number),
    CLI_EXITS(CLI_EXIT)
#undef CLI_EXIT
};

enum cli_format { CLI_TABLE, CLI_JSON, CLI_TSV };

/* What the options that many commands have said. */
struct cli_settings {
    const char *db;     /* --db, or NULL */
    const char *config; /* --config, or NULL */
    enum cli_format format;
    bool format_said;                      /* by --format */
    const char *command;                   /* for messages: "add" */
    bool makes_database;                   /* migrate and bench: a SQLite file may be made */
    int unwritten;                         /* what it means that stdout cannot be written; 0: CLI_FAILURE */
    void (*complain)(const char *message); /* takes what would go to stderr; NULL: nobody does */
    void (*leave)(void); /* called before an end without memory: gives the terminal back; NULL: not needed */
};
extern struct cli_settings cli;

/* ---- base.c */
void *cli_alloc(size_t n); /* zeroed; exits when there is no memory, as do the next two */
void *cli_realloc(void *p, size_t n);
char *cli_format(const char *fmt, ...) NQ_PRINTF(1, 2);
/* name in the directory that the variable says, or in one below the user's home; to be freed; NULL: no home
 * directory is known. */
char *cli_user_path(const char *variable, const char *below_home, const char *name);
const char *cli_log_level(int level); /* of the log of a task */
/* Colour or cursor movement is welcome on this stream. */
bool cli_fancy(FILE *stream);
/* Start a thread that no signal comes to: they are for the main thread. 0, or an errno. */
int cli_thread(pthread_t *thread, void *(*run)(void *), void *arg);
int64_t cli_now_us(int clock); /* of a clockid_t */

/* ---- options.c -- One table per command makes both its parser and its help. */
struct cli_option {
    int key;          /* a letter is its short form too; 256 and above: long form only */
    const char *name; /* NULL ends the table */
    const char *arg;  /* name of its value; NULL: a flag; "[=X]": optional */
    const char *help;
};
enum { CLI_KEY_DB = 10000, CLI_KEY_FORMAT, CLI_KEY_CONFIG };
/* A value that is one of several words has them as its name: "table|json|tsv". */
#define CLI_OPTION_DB                                                                                        \
    {CLI_KEY_CONFIG, "config", "FILE", "read this file instead of nanoq/config; nanoq help config"},         \
    {                                                                                                        \
        CLI_KEY_DB, "db", "URL", "the database; nanoq help urls"                                             \
    }
#define CLI_OPTION_FORMAT                                                                                    \
    {                                                                                                        \
        CLI_KEY_FORMAT, "format", "table|json|tsv", "how it is printed; default table"                       \
    }
#define CLI_OPTION_END                                                                                       \
    {'h', "help", "[=json]", "show this help; json: for programs"},                                          \
    {                                                                                                        \
        0, NULL, NULL, NULL                                                                                  \
    }

struct cli_command {
    const char *name, *args, *summary;
    const struct cli_option *options;
    const char *notes;
    int (*run)(int argc, char **argv);
    bool stops_at_first; /* what follows the first plain argument belongs to it (work) */
    const struct cli_command *const *commands; /* its own, up to NULL; or NULL (cron) */
};
/* The commands in the order of the help: X(NAME) is cli_NAME, which commands/NAME.c defines. */
#define CLI_COMMANDS(X)                                                                                      \
    X(add)                                                                                                   \
    X(work)                                                                                                  \
    X(once)                                                                                                  \
    X(list)                                                                                                  \
    X(count)                                                                                                 \
    X(show)                                                                                                  \
    X(attempts)                                                                                              \
    X(logs)                                                                                                  \
    X(wait)                                                                                                  \
    X(why)                                                                                                   \
    X(retry)                                                                                                 \
    X(cancel)                                                                                                \
    X(delete)                                                                                                \
    X(move)                                                                                                  \
    X(priority)                                                                                              \
    X(stats)                                                                                                 \
    X(top)                                                                                                   \
    X(doctor)                                                                                                \
    X(queues)                                                                                                \
    X(workers)                                                                                               \
    X(metrics) X(pause) X(resume) X(limit) X(cron) X(migrate) X(dashboard) X(bench) X(config) X(complete)
#define CLI_DECLARE(NAME) extern const struct cli_command cli_##NAME;
CLI_COMMANDS(CLI_DECLARE)

enum { CLI_PARSE_END = -1, CLI_PARSE_BAD = -2, CLI_PARSE_HELP = -3 };
struct cli_parse {
    const struct cli_command *command;
    struct option longs[40];
    char shorts[96];
};
void cli_parse_start(struct cli_parse *p, const struct cli_command *command);
/* The next option's key with its value, or one of the enum above; --db, --config, --format and --help are
 * seen to here. At CLI_PARSE_END optind is the first plain argument, and the configuration has been read. */
int cli_parse_next(struct cli_parse *p, int argc, char **argv, const char **value);
void cli_help_of(const struct cli_command *command);

/* Each prints what is wrong and what is allowed, and answers false. */
bool cli_take_int(const char *what, const char *text, int64_t low, int64_t high, int64_t *out);
bool cli_take_duration(const char *what, const char *text, int64_t low, int64_t *out);
/* The time of a rate, as nq_parse_duration has it, or a unit by itself: "m" is "1m". Prints nothing. */
int cli_parse_rate_time(const char *text, int64_t *us, nq_err *err);
/* A time, or a duration: so long ago. */
bool cli_take_moment(const char *option, const char *value, int64_t *us);
bool cli_take_keep(const char *what, const char *text, int64_t *out); /* a duration or "forever" */
bool cli_take_id(const char *text, nq_id *out);
bool cli_take_size(const char *what, const char *text, uint64_t low, uint64_t *out); /* "512M": bytes */

/* ---- config.c -- What holds where the command line says nothing: the environment, then files. */
/* X(NAME, key, variable of the environment, what it is) */
#define CLI_CONFIG_KEYS(X)                                                                                   \
    X(DB, "db", "NANOQ_DB", "the database: a URL, nanoq help urls")                                          \
    X(FORMAT, "format", "NANOQ_FORMAT", "table, json or tsv: how commands print that have --format")         \
    X(QUEUE, "queue", "NANOQ_DEFAULT_QUEUE", "where add, once and cron add put tasks, and what work serves") \
    X(JOBS, "jobs", "NANOQ_JOBS", "work: so many at a time, 1 to 1024")                                      \
    X(LOG, "log", "NANOQ_LOG", "work: text or json")
enum cli_config_key {
#define CLI_CONFIG_ENUM(NAME, key, variable, what) CLI_CONFIG_##NAME,
    CLI_CONFIG_KEYS(CLI_CONFIG_ENUM)
#undef CLI_CONFIG_ENUM
        CLI_CONFIG_COUNT
};
struct cli_config_row {
    const char *key, *variable, *what;
};
extern const struct cli_config_row cli_config_rows[CLI_CONFIG_COUNT];
/* Read the files; false after a message: one of them or a variable is not to be used. Again is fine: the
 * values from before are gone. */
bool cli_config_load(void);
/* What the environment or a file says, or NULL; *from (may be NULL): where, "PATH:3" or "NANOQ_DB". Valid
 * until the next load. */
const char *cli_configured(enum cli_config_key key, const char **from);
/* The place of the n-th file, from 0, where that name comes from, and whether it was read, in words; NULL:
 * there is none. */
const char *cli_config_file(size_t n, const char **from, const char **state);

/* ---- describe.c -- The same tables for programs: one object of JSON. */
void cli_describe(const struct cli_command *command, FILE *to);

/* ---- commands/pause.c -- Say so where workers live that heed no settings of queues. */
void cli_warn_of_old_workers(nq *q);

/* ---- text/nearest.c */
/* The nearest of names (NULL-terminated) to a word, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *names);

/* ---- text/time.c */
/* A point in time: "2026-01-31T12:00:00Z", with a fraction, with an offset (+02:00), with a space for the
 * T; without a zone it is UTC; "2026-01-31" is its midnight UTC; "@1769860800" is seconds since 1970.
 * NQ_EINVAL says what was wrong and what is allowed. */
int cli_parse_time(const char *text, int64_t *us, nq_err *err);

/* ---- text/report.c */
/* "nanoq add: message" on stderr, control bytes escaped, the password of a URL hidden; answers CLI_USAGE. */
int cli_usage(const char *fmt, ...) NQ_PRINTF(1, 2);
void cli_complain(const char *fmt, ...) NQ_PRINTF(1, 2);
/* Put x for each byte of PASSWORD in ...://user:PASSWORD@; where more than one @ follows, the last one ends
 * it. */
void cli_hide_password(char *text);
/* Print an error of the library and answer the exit code for it. */
int cli_fail(const nq_err *err);
int cli_exit_of(int code);
/* The worse of two exit codes, for commands that go on after a failure. */
int cli_worse(int a, int b);

/* ---- input.c */
struct text;
/* Add all of stdin to out, or until that is longer than most; an exit code after a message. */
int cli_read_stdin(struct text *out, size_t most);
/* A file to read lines of, or "-": stdin, which is read into room; that is to be freed after it, also where
 * the answer is NULL, after a message. */
FILE *cli_open_input(const char *name, struct text *room);

/* ---- database.c */
/* Open --db, NANOQ_DB or the user's own file, which alone is migrated unasked. 0, or an exit code after a
 * message. */
int cli_open(nq **q);
int cli_open_logging(nq **q, nq_log_fn log);
/* The file of a SQLite URL, to be freed; NULL: it is of none, or nq_open says what is wrong with it. */
char *cli_sqlite_file(const char *url);
/* The URL that cli_open would take, to be freed; NULL after a message, with *exit_code set. *own: the user's
 * file.
 */
char *cli_url(int *exit_code, bool *own);
/* Print the statements that make writes for that URL and arg; the exit code. It opens no database. */
int cli_print_sql(int (*make)(char **sql, const char *url, int64_t arg, nq_err *err), int64_t arg);
/* The URL of the user's own file, to be freed; NULL: no home directory is known. */
char *cli_own_url(void);
/* sqlite:PATH with the bytes escaped that mean something in a URL; to be freed. */
char *cli_sqlite_url(const char *path);

#endif
