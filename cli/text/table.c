/* SPDX-License-Identifier: MIT */
/* Records on stdout as a table, JSON or TSV. */
#include "table.h"

#include <ctype.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

static size_t table_terminal(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO))
        return 0; /* no limit */
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void table_start(struct table *t, const struct table_column *columns, size_t ncolumns, bool single)
{
    *t = (struct table){.columns = columns, .ncolumns = ncolumns, .single = single};
}

/* What comes before the first record. */
static void table_head(const struct table *t)
{
    if (cli.format == CLI_JSON && !t->single)
        fputs("[", stdout);
    for (size_t i = 0; cli.format == CLI_TSV && i < t->ncolumns; i++)
        if (!t->columns[i].people)
            printf("%s%s", i > 0 ? "\t" : "", t->columns[i].name);
    if (cli.format == CLI_TSV)
        putchar('\n');
}

/* Where the next cell's text goes; NULL when the table does not show it. */
static struct text *table_cell(struct table *t)
{
    const struct table_column *column = &t->columns[t->at++];
    if (column->people && cli.format != CLI_TABLE)
        return NULL;
    if (cli.format == CLI_JSON) {
        text_str(&t->out, t->at > 1 ? ", \"" : "\"");
        text_str(&t->out, column->name);
        text_str(&t->out, "\": ");
        return &t->out;
    }
    if (cli.format == CLI_TSV) {
        if (t->at > 1)
            text_str(&t->out, "\t");
        return &t->out;
    }
    if (column->machine)
        return NULL;
    if (t->ncells == t->capcells) {
        t->capcells = t->capcells * 2 + 64;
        t->cells = cli_realloc(t->cells, t->capcells * sizeof t->cells[0]);
    }
    t->cells[t->ncells] = (struct text){0};
    text_str(&t->cells[t->ncells], "");
    return &t->cells[t->ncells++];
}

static void table_bytes(struct text *cell, const char *s, size_t n)
{
    if (cell)
        (cli.format == CLI_JSON ? text_json : cli.format == CLI_TSV ? text_tsv : text_safe)(cell, s, n);
}

void table_text(struct table *t, const char *s)
{
    table_bytes(table_cell(t), s, strlen(s));
}

void table_chars(struct table *t, const char *p, size_t n)
{
    table_bytes(table_cell(t), p, n);
}

static void table_nothing(struct text *cell)
{
    if (cell)
        text_str(cell, cli.format == CLI_JSON ? "null" : "");
}

void table_optional(struct table *t, const char *s)
{
    if (!s || *s == '\0')
        table_nothing(table_cell(t));
    else
        table_text(t, s);
}

void table_none(struct table *t)
{
    table_nothing(table_cell(t));
}

void table_headers(struct table *t, const nq_header *all, size_t n)
{
    struct text *cell = table_cell(t), line = {0};
    if (!cell || n == 0) {
        table_nothing(cell);
        return;
    }
    if (cli.format == CLI_JSON) {
        text_headers(cell, all, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        text_str(&line, i ? ", " : "");
        text_str(&line, all[i].name);
        text_str(&line, "=");
        text_str(&line, all[i].value);
    }
    table_bytes(cell, line.p, line.n);
    text_free(&line);
}

void table_words(struct table *t, const char *const all[], size_t n)
{
    struct text *cell = table_cell(t), line = {0};
    if (cell && cli.format == CLI_JSON) {
        text_array(cell, all, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        text_str(&line, i ? "," : "");
        text_str(&line, all[i]);
    }
    table_bytes(cell, line.p, line.n);
    text_free(&line);
}

void table_int(struct table *t, int64_t v)
{
    struct text *cell = table_cell(t);
    if (cell)
        text_int(cell, v);
}

void table_bool(struct table *t, bool v)
{
    struct text *cell = table_cell(t);
    if (cell)
        text_str(cell, v ? "true" : "false");
}

void table_time(struct table *t, int64_t us)
{
    char when[28];
    struct text *cell = table_cell(t);
    if (!cell)
        return;
    if (us == 0) {
        table_nothing(cell);
        return;
    }
    nq_format_time(us, when);
    if (cli.format == CLI_TABLE && !t->single && strlen(when) > 20)
        memcpy(when + 19, "Z", 2); /* whole seconds do in a list */
    table_bytes(cell, when, strlen(when));
}

void table_short_duration(int64_t us, char out[32])
{
    int64_t s = us / 1000000;
    if (us < 1000000)
        snprintf(out, 32, "%.3gms", (double)us / 1e3);
    else if (us < 10000000)
        snprintf(out, 32, "%.3gs", (double)us / 1e6);
    else if (s < 600)
        snprintf(out, 32, "%" PRId64 "s", s);
    else if (s < 36000)
        snprintf(out, 32, "%" PRId64 "m%02ds", s / 60, (int)(s % 60));
    else if (s < 172800)
        snprintf(out, 32, "%" PRId64 "h%02dm", s / 3600, (int)(s / 60 % 60));
    else
        snprintf(out, 32, "%" PRId64 "d%02dh", s / 86400, (int)(s / 3600 % 24));
}

void table_duration(struct table *t, int64_t us)
{
    char out[32];
    struct text *cell = table_cell(t);
    if (!cell)
        return;
    if (cli.format == CLI_TABLE)
        table_short_duration(us, out);
    else if (us % 1000000 == 0)
        snprintf(out, sizeof out, "%" PRId64, us / 1000000);
    else
        snprintf(out, sizeof out, "%" PRId64 ".%06d", us / 1000000, (int)(us % 1000000));
    text_str(cell, out);
}

void table_payload(struct table *t, const void *p, size_t here, size_t size)
{
    struct text *cell = table_cell(t);
    if (here < size && text_is_utf8(p, text_whole(p, here)))
        here = text_whole(p, here);
    if (cli.format == CLI_JSON) {
        bool utf8 = text_is_utf8(p, here);
        if (utf8) {
            text_json(cell, p, here);
        } else {
            text_str(cell, "\"");
            text_base64(cell, p, here);
            text_str(cell, "\"");
        }
        text_str(cell, utf8 ? ", \"payload_encoding\": \"utf-8\"" : ", \"payload_encoding\": \"base64\"");
        text_str(cell, here < size ? ", \"payload_truncated\": true" : ", \"payload_truncated\": false");
        return;
    }
    table_bytes(cell, p, here);
    if (here < size && cell)
        text_str(cell, "...");
}

void table_result(struct table *t, const void *p, size_t n)
{
    const char *name = t->columns[t->at].name;
    struct text *cell = table_cell(t);
    const bool utf8 = p && text_is_utf8(p, n);
    if (cli.format != CLI_JSON) {
        table_bytes(cell, p ? p : "", p ? n : 0);
        return;
    }
    if (!p)
        text_str(cell, "null");
    else if (utf8)
        text_json(cell, p, n);
    else {
        text_str(cell, "\"");
        text_base64(cell, p, n);
        text_str(cell, "\"");
    }
    text_str(cell, ", \"");
    text_str(cell, name);
    text_str(cell, !p ? "_encoding\": null" : utf8 ? "_encoding\": \"utf-8\"" : "_encoding\": \"base64\"");
}

void table_row(struct table *t)
{
    t->at = 0;
    if (t->rows++ == 0)
        table_head(t);
    if (cli.format == CLI_TABLE)
        return;
    if (cli.format == CLI_JSON)
        fputs(t->single ? "{" : t->rows > 1 ? ",\n {" : "\n {", stdout);
    fwrite(t->out.p, 1, t->out.n, stdout);
    if (cli.format == CLI_JSON && t->more)
        printf(", %s", t->more);
    fputs(cli.format == CLI_JSON ? (t->single ? "}\n" : "}") : "\n", stdout);
    t->out.n = 0;
}

static const char *table_colour(const char *cell)
{
    static const char *const colours[][2] = {
        {"running", "\033[36m"}, {"done", "\033[32m"}, {"dead", "\033[31m"}, {"cancelled", "\033[33m"}};
    for (size_t i = 0; i < sizeof colours / sizeof colours[0]; i++)
        if (strcmp(cell, colours[i][0]) == 0)
            return colours[i][1];
    return NULL;
}

static void table_put(const struct table_column *column, const char *s, size_t n, size_t width, bool last)
{
    size_t wide = text_width(s, n);
    int pad = wide < width ? (int)(width - wide) : 0;
    const char *colour = strcmp(column->name, "state") == 0 && cli_fancy(stdout) ? table_colour(s) : NULL;
    if (column->right)
        printf("%*s", pad, "");
    fputs(colour ? colour : "", stdout);
    fwrite(s, 1, n, stdout);
    fputs(colour ? "\033[0m" : "", stdout);
    if (!last)
        printf("%*s", (column->right ? 0 : pad) + 2, "");
}

static void table_capitals(const char *name, char out[32])
{
    size_t i = 0;
    for (; name[i] != '\0' && i < 31; i++)
        out[i] = name[i] == '_' ? ' ' : (char)toupper((unsigned char)name[i]);
    out[i] = '\0';
}

static void table_list(const struct table *t)
{
    const struct table_column *shown[32];
    size_t width[32] = {0}, n = 0, used = 0, limit = table_terminal();
    for (size_t i = 0; i < t->ncolumns && n < 32; i++) {
        if (!t->columns[i].machine) {
            width[n] = strlen(t->columns[i].name);
            shown[n++] = &t->columns[i];
        }
    }
    if (n == 0)
        return;
    for (size_t i = 0; i < t->ncells; i++) {
        size_t wide = text_width(t->cells[i].p, t->cells[i].n);
        width[i % n] = wide > width[i % n] ? wide : width[i % n];
    }
    if (t->ncells == 0) {
        printf("no %s\n", t->of ? t->of : "tasks");
        return;
    }
    for (size_t i = 0; i + 1 < n; i++)
        used += width[i] + 2;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        table_capitals(shown[i]->name, name);
        table_put(shown[i], name, strlen(name), width[i], i + 1 == n);
    }
    for (size_t i = 0; i < t->ncells; i++) {
        const struct text *cell = &t->cells[i];
        size_t bytes = cell->n;
        if (shown[i % n]->wide && limit > 0)
            bytes = text_cut(cell->p, cell->n, limit > used + 10 ? limit - used : 10);
        fputs(i % n == 0 ? "\n" : "", stdout);
        table_put(shown[i % n], cell->p, bytes, width[i % n], i % n + 1 == n);
    }
    putchar('\n');
}

static void table_record(const struct table *t)
{
    size_t i = 0;
    for (size_t c = 0; c < t->ncolumns && i < t->ncells; c++) {
        if (!t->columns[c].machine) {
            printf("%-13s", t->columns[c].name);
            table_put(&(struct table_column){.name = t->columns[c].name}, t->cells[i].p, t->cells[i].n, 0,
                      true);
            putchar('\n');
            i++;
        }
    }
}

void table_finish(struct table *t, bool ok)
{
    bool shown = ok || t->rows > 0;
    if (shown && t->rows == 0)
        table_head(t);
    if (shown && cli.format == CLI_JSON && !t->single)
        fputs(t->rows > 0 ? "\n]\n" : "]\n", stdout);
    else if (shown && cli.format == CLI_TABLE)
        (t->single ? table_record : table_list)(t);
    for (size_t i = 0; i < t->ncells; i++)
        text_free(&t->cells[i]);
    free(t->cells);
    text_free(&t->out);
    *t = (struct table){0};
}
