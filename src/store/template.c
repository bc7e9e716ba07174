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
    const char quote = s->driver->quote;
    nq_buf_add(out, &quote, 1);
    for (const char *p = full && s->driver->full_names ? s->url.path : ""; *p; p++) {
        nq_buf_add(out, p, 1);
        if (*p == quote)
            nq_buf_add(out, p, 1);
    }
    if (full && s->driver->full_names)
        nq_buf_fmt(out, "%c.%c", quote, quote);
    nq_buf_str(out, s->prefix);
    nq_buf_add(out, token, n);
    nq_buf_add(out, &quote, 1);
}

static int sql_text(const nq_store *s, const char *text, size_t n, nq_buf *out);
static bool sql_token(const nq_store *s, const char *token, size_t n, nq_buf *out);

/* The driver's form, with what stands behind the token's colon in place of each $. {...:now} is the clock. */
static void sql_form(const nq_store *s, const char *form, const char *arg, size_t n, nq_buf *out)
{
    for (const char *hole; (hole = strchr(form, '$')); form = hole + 1) {
        nq_buf_add(out, form, (size_t)(hole - form));
        if (sql_is(arg, n, "now") ? !sql_token(s, arg, n, out) : sql_text(s, arg, n, out) != NQ_OK)
            out->failed = true;
    }
    if (sql_text(s, form, strlen(form), out))
        out->failed = true;
}

static bool sql_token(const nq_store *s, const char *token, size_t n, nq_buf *out)
{
    const char *colon = memchr(token, ':', n);
    const size_t name = colon ? (size_t)(colon - token) : n;
    const char *arg = colon ? colon + 1 : token;
    const size_t narg = colon ? n - name - 1 : 0;
    if (sql_is_table(token, n)) {
        sql_table(s, false, token, n, out);
        return true;
    }
    if (sql_is(token, name, "full") && sql_is_table(arg, narg)) {
        sql_table(s, true, arg, narg, out);
        return true;
    }
    if (sql_is(token, n, "prefix")) {
        nq_buf_str(out, s->prefix);
        return true;
    }
    for (const nq_fragment *f = s->driver->fragments; f->token; f++)
        if (sql_is(token, name, f->token)) {
            sql_form(s, f->form, arg, narg, out);
            return true;
        }
    return false;
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

NQ_PLUG_IN int nq_sql_expand(const nq_store *s, const char *template_sql, nq_buf *out)
{
    return sql_text(s, template_sql, strlen(template_sql), out);
}

NQ_PRIVATE void nq_sql_id(const nq_store *s, nq_buf *sql, nq_id id)
{
    if (s->driver->unsigned_ids)
        nq_buf_u64(sql, (uint64_t)id);
    else
        nq_buf_fmt(sql, "%lld", (long long)id);
}

NQ_PRIVATE void nq_sql_list_id(const nq_store *s, nq_buf *sql, nq_id id)
{
    if (sql->n && sql->p[sql->n - 1] != '(')
        nq_buf_str(sql, ",");
    nq_sql_id(s, sql, id);
}

NQ_PRIVATE int nq_row_any(const nq_val cols[], size_t ncols, void *arg)
{
    (void)cols;
    (void)ncols;
    *(bool *)arg = true;
    return 0;
}

NQ_PLUG_IN int nq_sql(nq_conn *c, const char *template_sql, const nq_val args[], size_t nargs, nq_row_fn row,
                      void *arg, nq_exec_result *res, nq_err *err)
{
    nq_buf sql = {0};
    nq_exec_result own;
    int rc = nq_sql_expand(c->store, template_sql, &sql);
    res = res ? res : &own;
    memset(res, 0, sizeof *res);
    if (rc == NQ_ENOMEM)
        rc = nq_err_nomem(err);
    else if (rc != NQ_OK)
        rc = nq_err_set(err, rc, "bad SQL template: %.100s", template_sql);
    else
        rc = c->store->driver->exec(c, sql.p, args, nargs, row, arg, res, err);
    if (rc == NQ_ENOMEM && !res->db_code) /* row's answer, perhaps: it says no more than that */
        nq_err_nomem(err);
    nq_buf_free(&sql);
    return rc;
}

NQ_PRIVATE int nq_sql_once(nq_conn *c, const char *template_sql, const nq_val args[], size_t nargs,
                           nq_row_fn row, void *arg, nq_err *err)
{
    c->once = true;
    const int rc = nq_sql(c, template_sql, args, nargs, row, arg, NULL, err);
    c->once = false;
    return rc;
}
