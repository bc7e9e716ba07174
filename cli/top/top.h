/* SPDX-License-Identifier: MIT */
/* nanoq top: what is shown, who reads it, and who draws it. */
#ifndef TOP_H
#define TOP_H

#include "../cli.h"
#include "../text/text.h"

enum top_panel { TOP_QUEUES, TOP_TASKS, TOP_WORKERS, TOP_ERRORS, TOP_PANELS };
#define TOP_COLUMNS 12
#define TOP_ROWS    200 /* of a panel, most; of queues all are read and these shown */

/* Where there is not room for all, those with the highest `last` go first; 0 stays. */
struct top_column {
    const char *name;
    size_t width; /* 0: what is left */
    int last;
    bool right; /* a number: sorted as one, the highest first */
};
struct top_shape {
    const char *title;
    const struct top_column *columns;
    size_t ncolumns;
};
extern const struct top_shape top_shapes[TOP_PANELS];

/* A line of a panel. Texts are safe for a terminal. */
struct top_row {
    struct text cells[TOP_COLUMNS];
    double values[TOP_COLUMNS];   /* of the right ones */
    nq_id id;                     /* of tasks */
    char queue[NQ_MAX_QUEUE + 1]; /* of queues */
    bool alarm, paused;
};
struct top_rows {
    struct top_row *all;
    size_t n, cap;
};
/* One reading of the database. */
struct top_view {
    struct top_rows panels[TOP_PANELS];
    int64_t took_us;
};

/* ---- top_read.c */
/* Read all into *out. Any thread. */
int top_read(nq *q, struct top_view *out, nq_err *err);
void top_view_free(struct top_view *v);

/* ---- top_rows.c: pure */
/* The rows whose cells have this text in them, in order of that column; `shown` has room for all. Answers how
 * many. */
size_t top_arrange(const struct top_rows *rows, const struct top_shape *shape, const char *filter,
                   size_t column, bool reverse, const struct top_row *shown[]);
/* How wide each column is in so many columns of the terminal; 0: there is no room for it. */
void top_widths(const struct top_shape *shape, size_t width, size_t out[TOP_COLUMNS]);

/* ---- top_reader.c: a thread that alone talks to the database, so that keys are heard while it does not
 * answer */
enum top_verb { TOP_PAUSE, TOP_RESUME, TOP_CANCEL, TOP_RETRY, TOP_WHY };
struct top_reader;
/* A byte is written to `wake` when there is news. NULL: no thread. */
struct top_reader *top_reader_start(nq *q, int wake, int64_t every_us);
/* False: it still waits for the database, and the process has to end without it. */
bool top_reader_end(struct top_reader *r);
/* Have it do that, once. False: not that, it is still busy with what it was to do before. */
bool top_reader_do(struct top_reader *r, enum top_verb verb, nq_id id, const char *queue);
struct top_news {
    struct top_view *view; /* NULL: the one before still holds; else the caller's */
    char error[512];       /* "": the database answers */
    int64_t error_us;      /* since then, monotonic */
    char said[512];        /* of what it was to do; "": nothing new */
    struct text page;      /* or that: several lines, the caller's */
};
void top_reader_news(struct top_reader *r, struct top_news *out);

/* ---- top_terminal.c */
enum top_event { TOP_NOTHING, TOP_NEWS, TOP_KEY, TOP_END };
/* Take the terminal. False after a message. */
bool top_terminal_start(void);
void top_terminal_end(void); /* as it was */
int top_terminal_wake(void); /* the descriptor for `wake` */
/* Wait for a key, news, a resize, at most so long. A stop (Ctrl-Z) is seen to here. *key: of curses. */
enum top_event top_terminal_wait(int64_t most_us, int *key);
int top_terminal_signal(void); /* the one that asked to end; 0: none did */

/* ---- top_draw.c */
struct top_screen {
    const struct top_view *view; /* NULL: nothing was read yet */
    enum top_panel focus;
    size_t cursor[TOP_PANELS], sort[TOP_PANELS];
    bool reverse[TOP_PANELS];
    char filter[64];
    bool typing;          /* the filter */
    const char *question; /* "pause mail?", or NULL */
    const char *said;     /* of the last key, or "" */
    const char *error;    /* the database is away, or "" */
    int64_t away_us;
    const char *page; /* several lines instead of all else, or NULL */
    size_t page_top;
};
void top_draw(const struct top_screen *s);
/* The row that the cursor is on, or NULL. */
const struct top_row *top_current(const struct top_screen *s);
/* How many rows the focused panel has. */
size_t top_count(const struct top_screen *s);

#endif
