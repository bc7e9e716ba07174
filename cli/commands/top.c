/* SPDX-License-Identifier: MIT */
/* nanoq top: its keys. */
#include "../cli.h"

#ifdef CLI_WITH_TOP
#include <curses.h>
#include <signal.h>
#include <unistd.h>

#include "../top/top.h"

#define TOP_CTRL_L 12
#define TOP_ESCAPE 27

static const char top_help[] =
    "Tab 1 2 3 4      the panel: queues, running tasks, workers, dead tasks\n"
    "Up Down j k      the row; PgUp, PgDn, Home, End\n"
    "s  S             sort by the next column (*); the other way round\n"
    "/                filter the rows of all panels by text; Esc: all again\n"
    "p                pause the queue, or resume it\n"
    "c                cancel the running task\n"
    "r                retry the dead task\n"
    "w                why: what keeps the task, or what became of it\n"
    "q                quit\n"
    "\n"
    "DONE/S, WAIT50, WAIT99: of this minute and the one before; workers write it every 10 s.\n"
    "RUN/MAX: tasks that run, and the limit over all hosts; of a worker its handlers.\n"
    "It reads once a second, or less often where that takes long.\n";

struct top {
    struct top_screen screen;
    struct top_reader *reader;
    struct top_view *view;
    struct text page;
    char said[512], error[512], question[160], doing[160];
    int64_t error_us;
    enum top_verb verb; /* that is asked for */
    nq_id id;
    char queue[NQ_MAX_QUEUE + 1];
};

static void top_news_take(struct top *t)
{
    struct top_news news;
    top_reader_news(t->reader, &news);
    if (news.view) {
        top_view_free(t->view);
        t->view = news.view;
        t->screen.view = t->view;
    }
    memcpy(t->error, news.error, sizeof t->error);
    t->error_us = news.error_us;
    if (*news.said)
        memcpy(t->said, news.said, sizeof t->said);
    if (news.page.n > 0) {
        text_free(&t->page);
        t->page = news.page;
        t->screen.page = t->page.p;
        t->screen.page_top = 0;
    }
}

/* Have it done now. */
static void top_order(struct top *t)
{
    if (!top_reader_do(t->reader, t->verb, t->id, t->queue)) {
        snprintf(t->said, sizeof t->said, "not done: still busy with %s", t->doing);
        return;
    }
    snprintf(t->said, sizeof t->said, "...");
    if (*t->queue) {
        struct text name = {0};
        text_safe(&name, t->queue, strlen(t->queue));
        snprintf(t->doing, sizeof t->doing, "queue %s", name.p);
        text_free(&name);
    } else {
        snprintf(t->doing, sizeof t->doing, "task %lld", (long long)t->id);
    }
}

static void top_ask(struct top *t, enum top_verb verb, const struct top_row *row, const char *word)
{
    t->verb = verb;
    t->id = row->id;
    memcpy(t->queue, row->queue, sizeof t->queue);
    struct text name = {0};
    text_safe(&name, row->queue, strlen(row->queue));
    if (*row->queue)
        snprintf(t->question, sizeof t->question, "%s queue %s?", word, name.p);
    else
        snprintf(t->question, sizeof t->question, "%s task %lld?", word, (long long)row->id);
    text_free(&name);
    t->screen.question = t->question;
}

static void top_steer(struct top *t, int key)
{
    const struct top_row *row = top_current(&t->screen);
    const enum top_panel panel = t->screen.focus;
    if (!row) {
        snprintf(t->said, sizeof t->said, "there is no row here");
    } else if (key == 'p' && panel == TOP_QUEUES) {
        top_ask(t, row->paused ? TOP_RESUME : TOP_PAUSE, row, row->paused ? "resume" : "pause");
    } else if (key == 'c' && panel == TOP_TASKS) {
        top_ask(t, TOP_CANCEL, row, "cancel");
    } else if (key == 'r' && panel == TOP_ERRORS) {
        top_ask(t, TOP_RETRY, row, "retry");
    } else if (key == 'w' && (panel == TOP_TASKS || panel == TOP_ERRORS)) {
        t->verb = TOP_WHY;
        t->id = row->id;
        t->queue[0] = '\0';
        top_order(t);
    } else {
        snprintf(t->said, sizeof t->said, "%c is for %s", key,
                 key == 'p'   ? "a queue"
                 : key == 'c' ? "a running task"
                 : key == 'r' ? "a dead task"
                              : "a running or a dead task");
    }
}

static void top_move(struct top *t, int key)
{
    const size_t n = top_count(&t->screen), page = LINES > 6 ? (size_t)LINES / 3 : 1;
    size_t *at = &t->screen.cursor[t->screen.focus];
    if (n == 0)
        return;
    *at = *at < n ? *at : n - 1;
    if (key == KEY_DOWN || key == 'j')
        *at += 1;
    else if (key == KEY_UP || key == 'k')
        *at -= *at > 0;
    else if (key == KEY_NPAGE)
        *at += page;
    else if (key == KEY_PPAGE)
        *at -= *at < page ? *at : page;
    else
        *at = key == KEY_HOME ? 0 : n - 1;
    *at = *at < n ? *at : n - 1;
}

/* Behind the filter there is nothing but NUL, so that one more character has its NUL. */
static void top_typed(struct top *t, int key)
{
    const size_t n = strlen(t->screen.filter);
    if (key == TOP_ESCAPE)
        memset(t->screen.filter, 0, sizeof t->screen.filter);
    if (key == '\r' || key == '\n' || key == KEY_ENTER || key == TOP_ESCAPE)
        t->screen.typing = false;
    else if ((key == KEY_BACKSPACE || key == 127 || key == 8) && n > 0)
        t->screen.filter[n - 1] = '\0';
    else if (key >= ' ' && key < 127 && n + 1 < sizeof t->screen.filter)
        t->screen.filter[n] = (char)key;
}

static void top_answered(struct top *t, int key)
{
    t->screen.question = NULL;
    if (key == 'y' || key == 'Y')
        top_order(t);
}

static void top_sort(struct top_screen *s)
{
    size_t widths[TOP_COLUMNS];
    const struct top_shape *shape = &top_shapes[s->focus];
    top_widths(shape, (size_t)COLS, widths);
    do
        s->sort[s->focus] = (s->sort[s->focus] + 1) % shape->ncolumns;
    while (!widths[s->sort[s->focus]]);
    s->reverse[s->focus] = false;
}

/* False: it is to end. */
static bool top_key(struct top *t, int key)
{
    struct top_screen *s = &t->screen;
    if (s->page) {
        s->page = NULL;
        return true;
    }
    if (s->question || s->typing) {
        (s->question ? top_answered : top_typed)(t, key);
        return true;
    }
    t->said[0] = '\0';
    switch (key) {
    case 'q':
        return false;
    case '\t':
    case KEY_RIGHT:
        s->focus = (s->focus + 1) % TOP_PANELS;
        return true;
    case KEY_BTAB:
    case KEY_LEFT:
        s->focus = (s->focus + TOP_PANELS - 1) % TOP_PANELS;
        return true;
    case 's':
        top_sort(s);
        return true;
    case 'S':
        s->reverse[s->focus] = !s->reverse[s->focus];
        return true;
    case '/':
        s->typing = true;
        return true;
    case TOP_ESCAPE:
        memset(s->filter, 0, sizeof s->filter);
        return true;
    case '?':
    case 'h':
        s->page = top_help;
        s->page_top = 0;
        return true;
    case TOP_CTRL_L:
        clearok(stdscr, TRUE);
        return true;
    default:
        break;
    }
    if (key >= '1' && key < '1' + TOP_PANELS)
        s->focus = (enum top_panel)(key - '1');
    else if (key == 'p' || key == 'c' || key == 'r' || key == 'w')
        top_steer(t, key);
    else if (key == KEY_DOWN || key == KEY_UP || key == 'j' || key == 'k' || key == KEY_NPAGE ||
             key == KEY_PPAGE || key == KEY_HOME || key == KEY_END)
        top_move(t, key);
    return true;
}

static void top_loop(struct top *t)
{
    for (bool goes_on = true; goes_on;) {
        int key = 0;
        t->screen.said = t->said;
        t->screen.error = t->error;
        t->screen.away_us = cli_now_us(CLOCK_MONOTONIC) - t->error_us;
        top_draw(&t->screen);
        switch (top_terminal_wait(*t->error ? NQ_SECONDS(1) : NQ_SECONDS(60), &key)) {
        case TOP_NEWS:
            top_news_take(t);
            break;
        case TOP_KEY:
            goes_on = top_key(t, key);
            break;
        case TOP_END:
            goes_on = false;
            break;
        case TOP_NOTHING:
            break;
        }
    }
}

static int top_show(nq *q, int64_t every_us)
{
    struct top t = {0};
    for (size_t p = 0; p < TOP_PANELS; p++)
        t.screen.sort[p] = p == TOP_QUEUES ? 2 : 0; /* what is due; the newest; names */
    if (!top_terminal_start())
        return CLI_USAGE;
    t.reader = top_reader_start(q, top_terminal_wake(), every_us);
    if (t.reader)
        top_loop(&t);
    top_terminal_end();
    top_view_free(t.view);
    text_free(&t.page);
    const bool ended = !t.reader || top_reader_end(t.reader);
    if (!t.reader)
        cli_complain("cannot start a thread");
    if (top_terminal_signal() != 0) { /* die of it, as who sent it expects */
        signal(top_terminal_signal(), SIG_DFL);
        raise(top_terminal_signal());
    }
    if (!ended)
        _exit(CLI_OK); /* its thread waits for a database that does not answer */
    return t.reader ? CLI_OK : CLI_FAILURE;
}
#else
static int top_show(nq *q, int64_t every_us)
{
    (void)q, (void)every_us;
    cli_complain("this nanoq was built without ncurses; for any terminal there is: nanoq stats --watch");
    return CLI_FAILURE;
}
#endif

static int top_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    int64_t every = NQ_SECONDS(1);
    nq *q = NULL;
    int key;
    cli_parse_start(&parse, &cli_top);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        if (!cli_take_duration("--every", value, NQ_SECONDS(1), &every))
            return CLI_USAGE;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    exit_code = top_show(q, every);
    nq_close(q);
    return exit_code;
}

static const struct cli_option top_options[] = {
    {'d', "every", "DURATION", "read so often; default and least: 1s"}, CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_top = {
    .name = "top",
    .args = "[OPTION...]",
    .summary = "Watch queues, running tasks and workers, and steer them",
    .options = top_options,
    .notes = "On a terminal of 40 columns or more; the key ? shows the others, q ends it. docs/top.md.\n",
    .run = top_run,
};
