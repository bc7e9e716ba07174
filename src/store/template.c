/* SPDX-License-Identifier: MIT */
/* SQL templates: one text for both databases. */
#include "store.h"

static bool sql_is(const char *token, size_t n, const char *word)
{
    return n == strlen(word) && memcmp(token, word, n) == 0;
}

static bool sql_is_table(const char *token, size_t n)
{
#define NQ_TABLE_NAME(name) #name,
    static const char *const names[] = {NQ_TABLES(NQ_TABLE_NAME) NQ_TABLES_BEFORE(NQ_TABLE_NAME)};
#undef NQ_TABLE_NAME
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sql_is(token, n, names[i]))
            return true;
    return false;
}

/* full: with its database, for the caller's connection, which may be at home in another one. */
static void sql_table(const nq_store *s, bool full, const char *token, size_t n, nq_buf *out)
{
    const bool server = s->driver->tx_kind == NQ_TX_MYSQL;
    const char *quote = server ? "`" : "\"";
    nq_buf_str(out, quote);
    for (const char *p = full && server ? s->url.path : ""; *p; p++)
        nq_buf_add(out, *p == '`' ? "``" : p, *p == '`' ? 2 : 1);
    nq_buf_str(out, full && server ? "`.`" : "");
    nq_buf_str(out, s->prefix);
    nq_buf_add(out, token, n);
    nq_buf_str(out, quote);
}

static int sql_text(const nq_store *s, const char *text, size_t n, nq_buf *out);

/* {us:COLUMN}: the driver's expression with the column in place of its %s; {us:now} is the clock. */
static void sql_us(const nq_store *s, const char *column, size_t n, nq_buf *out)
{
    const char *form = s->driver->us_of, *hole = strstr(form, "%s");
    if (!hole) {
        out->failed = true;
        return;
    }
    nq_buf_add(out, form, (size_t)(hole - form));
    if (sql_is(column, n, "now"))
        nq_buf_str(out, s->driver->now);
    else if (sql_text(s, column, n, out))
        out->failed = true;
    nq_buf_str(out, hole + 2);
}

/* {bytes:COLUMN}: SQLite measures and cuts text in characters unless told that it is bytes. */
static void sql_bytes(const nq_store *s, const char *column, size_t n, nq_buf *out)
{
    const bool cast = s->driver->tx_kind == NQ_TX_SQLITE;
    nq_buf_str(out, cast ? "CAST(" : "");
    nq_buf_add(out, column, n);
    nq_buf_str(out, cast ? " AS BLOB)" : "");
}

/* {size:COLUMN}: SQLite knows it of bytes without reading them. */
static void sql_size(bool server, const char *column, size_t n, nq_buf *out)
{
    const int k = (int)n;
    if (server)
        nq_buf_fmt(out, "LENGTH(%.*s)", k, column);
    else
        nq_buf_fmt(out, "CASE typeof(%.*s) WHEN 'blob' THEN length(%.*s) ELSE length(CAST(%.*s AS BLOB)) END",
                   k, column, k, column, k, column);
}

/* {exact:COLUMN} */
static void sql_exact(bool server, const char *column, size_t n, nq_buf *out)
{
    nq_buf_str(out, server ? "CAST(" : "");
    nq_buf_add(out, column, n);
    nq_buf_str(out, server ? " AS BINARY)" : "");
}

/* {same_key}: of tables t (the tasks) and f (the follow-ups). SQLite's is made of its indexes' expressions.
 */
static void sql_same_key(bool server, nq_buf *out)
{
    static const char key[] = "CASE typeof(%c.unique_key) WHEN 'integer' THEN CAST(%c.payload AS BLOB) "
                              "ELSE CAST(%c.unique_key AS BLOB) END";
    if (server) {
        nq_buf_str(out, "t.unique_key = f.unique_key");
        return;
    }
    nq_buf_str(out, "t.unique_key IS NOT NULL AND t.type = f.type AND ");
    nq_buf_fmt(out, key, 't', 't', 't');
    nq_buf_str(out, " = ");
    nq_buf_fmt(out, key, 'f', 'f', 'f');
}

/* {at_most:N}. To the server's planner a scan of a small table is cheaper than several keys, and the scan
 * waits for every row that somebody holds, though it is none of the N. With a LIMIT below the table's rows it
 * keeps to the keys; a DELETE takes no {by_id}. */
static void sql_at_most(bool server, const char *count, size_t n, nq_buf *out)
{
    if (server)
        nq_buf_fmt(out, "LIMIT %.*s", (int)n, count);
}

/* Tokens that stand for a fixed text, on a server and in SQLite. */
static bool sql_fixed(bool server, const char *token, size_t n, nq_buf *out)
{
    static const struct {
        const char *name, *server, *sqlite;
    } texts[] = {{"lock", "FOR UPDATE", ""},
                 {"lock_free", "FOR UPDATE SKIP LOCKED", ""},
                 {"by_id", "FORCE INDEX (PRIMARY)", ""},
                 {"by_key", "FORCE INDEX (unique_key)", ""},
                 {"claim", "FORCE INDEX (claim)", ""}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!sql_is(token, n, texts[i].name))
            continue;
        nq_buf_str(out, server ? texts[i].server : texts[i].sqlite);
        return true;
    }
    return false;
}

static bool sql_token(const nq_store *s, const char *token, size_t n, nq_buf *out)
{
    const bool server = s->driver->tx_kind == NQ_TX_MYSQL;
    if (sql_is_table(token, n))
        sql_table(s, false, token, n, out);
    else if (n > 5 && memcmp(token, "full:", 5) == 0 && sql_is_table(token + 5, n - 5))
        sql_table(s, true, token + 5, n - 5, out);
    else if (sql_is(token, n, "prefix"))
        nq_buf_str(out, s->prefix);
    else if (sql_is(token, n, "now"))
        nq_buf_str(out, s->driver->now);
    else if (sql_is(token, n, "after"))
        nq_buf_str(out, s->driver->after);
    else if (sql_is(token, n, "at"))
        nq_buf_str(out, s->driver->at);
    else if (sql_is(token, n, "least"))
        nq_buf_str(out, s->driver->least);
    else if (sql_is(token, n, "same_key"))
        sql_same_key(server, out);
    else if (n > 8 && memcmp(token, "at_most:", 8) == 0)
        sql_at_most(server, token + 8, n - 8, out);
    else if (n > 3 && memcmp(token, "us:", 3) == 0)
        sql_us(s, token + 3, n - 3, out);
    else if (n > 5 && memcmp(token, "size:", 5) == 0)
        sql_size(server, token + 5, n - 5, out);
    else if (n > 6 && memcmp(token, "exact:", 6) == 0)
        sql_exact(server, token + 6, n - 6, out);
    else if (n > 6 && memcmp(token, "bytes:", 6) == 0)
        sql_bytes(s, token + 6, n - 6, out);
    else
        return sql_fixed(server, token, n, out);
    return true;
}

/* The brace that closes the one at p, or NULL: {us:...} may hold tokens itself. */
static const char *sql_close(const char *p, const char *end)
{
    for (int depth = 0; p < end; p++) {
        depth += (*p == '{') - (*p == '}');
        if (depth == 0)
            return p;
    }
    return NULL;
}

static int sql_text(const nq_store *s, const char *text, size_t n, nq_buf *out)
{
    const char *p = text, *const end = text + n;
    while (p < end) {
        const char *open = memchr(p, '{', (size_t)(end - p)), *close;
        nq_buf_add(out, p, (size_t)((open ? open : end) - p));
        if (!open)
            break;
        if (!(close = sql_close(open, end)) || !sql_token(s, open + 1, (size_t)(close - open) - 1, out))
            return NQ_EINVAL;
        p = close + 1;
    }
    return out->failed ? NQ_ENOMEM : NQ_OK;
}

NQ_PRIVATE int nq_sql_expand(const nq_store *s, const char *template_sql, nq_buf *out)
{
    return sql_text(s, template_sql, strlen(template_sql), out);
}

NQ_PRIVATE int nq_sql(nq_conn *c, const char *template_sql, const nq_val args[], size_t nargs, nq_row_fn row,
                      void *arg, nq_exec_result *res, nq_err *err)
{
    nq_buf sql = {0};
    nq_exec_result own;
    int code = nq_sql_expand(c->store, template_sql, &sql);
    if (code == NQ_ENOMEM)
        code = nq_err_nomem(err);
    else if (code)
        code = nq_err_set(err, code, "bad SQL template: %.100s", template_sql);
    else
        code = c->store->driver->exec(c, sql.p, args, nargs, row, arg, res ? res : &own, err);
    nq_buf_free(&sql);
    return code;
}
