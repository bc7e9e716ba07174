/* SPDX-License-Identifier: MIT */
/* MySQL and MariaDB: the tasks that a claim selected. */
#include "../claimed.h"
#include "../groups.h"
#include "mysql_driver.h"

void nq_mysql_batch_free(nq_mysql_batch *batch)
{
    nq_claimed_free(batch->list.head);
    free(batch->ids);
    nq_buf_free(&batch->followed);
    *batch = (nq_mysql_batch){0};
}

static nq_val mysql_batch_bytes(const char *p, unsigned long n)
{
    return p ? nq_blob(p, n) : nq_null();
}

static nq_val mysql_batch_number(const char *text)
{
    return nq_int(text ? (int64_t)strtoull(text, NULL, 10) : 0); /* a sign is minded here too */
}

#define MYSQL_BATCH_ID(i)       mysql_batch_number(row[i])
#define MYSQL_BATCH_INT(i)      mysql_batch_number(row[i])
#define MYSQL_BATCH_COUNT(i)    mysql_batch_number(row[i])
#define MYSQL_BATCH_ATTEMPTS(i) mysql_batch_number(row[i])
#define MYSQL_BATCH_MS(i)       mysql_batch_number(row[i])
#define MYSQL_BATCH_TIME(i)     mysql_batch_number(row[i])
#define MYSQL_BATCH_NAME(i)     nq_blob(row[i], len[i])
#define MYSQL_BATCH_TEXT(i)     mysql_batch_bytes(row[i], len[i])
#define MYSQL_BATCH_HEADERS(i)  mysql_batch_bytes(row[i], len[i])
#define MYSQL_BATCH_VALUE(column, kind, ...)                                                                 \
    NQ_IF_READ_##kind(cols[NQ_AT_##column] = MYSQL_BATCH_##kind(NQ_AT_##column);)

/* A row of text as values. */
static void mysql_batch_values(MYSQL_ROW row, const unsigned long *len, nq_val cols[NQ_AT_COUNT])
{
    cols[NQ_AT_SIZE] = mysql_batch_number(row[NQ_AT_SIZE]);
    cols[NQ_AT_PAYLOAD] = mysql_batch_bytes(row[NQ_AT_PAYLOAD], len[NQ_AT_PAYLOAD]);
    NQ_COLUMNS(MYSQL_BATCH_VALUE)
}

/* By the name in the row: what the task says of its group need not be it. */
static size_t mysql_batch_turn(const nq_claim_args *a, const char *queue)
{
    size_t i = 0;
    while (a->gate && i < a->nturns && strcmp(a->turns[i].queue, queue) != 0)
        i++;
    return i;
}

int nq_mysql_batch_read(nq_mysql_batch *batch, const nq_claim_args *a, size_t most, bool changed,
                        MYSQL_RES *r)
{
    MYSQL_ROW row;
    const size_t cap = batch->list.n + (size_t)mysql_num_rows(r);
    uint64_t *ids = realloc(batch->ids, (cap ? cap : 1) * sizeof *ids);
    if (!ids)
        return NQ_ENOMEM;
    batch->ids = ids;
    batch->list.room = most;
    batch->list.most = a->bytes;
    batch->list.some = a->some;
    while ((row = mysql_fetch_row(r)) && batch->list.n < cap) {
        nq_val cols[NQ_AT_COUNT];
        mysql_batch_values(row, mysql_fetch_lengths(r), cols);
        const int rc = nq_claimed_read(&batch->list, cols, a->lease);
        if (rc == NQ_ETOOBIG) {
            batch->cut = true;
            break;
        }
        if (rc != NQ_OK)
            return rc;
        batch->list.tail->task.generation += !changed;
        batch->list.tail->turn = mysql_batch_turn(a, row[NQ_AT_queue]);
        batch->ids[batch->list.n - 1] = (uint64_t)batch->list.tail->task.id;
        if (mysql_num_fields(r) > NQ_AT_COUNT && row[NQ_AT_COUNT] && row[NQ_AT_COUNT][0] == '1')
            nq_buf_fmt(&batch->followed, "%s%s", batch->nfollowed++ ? "," : "", row[NQ_AT_id]);
    }
    return NQ_OK;
}

void nq_mysql_batch_sort(nq_mysql_batch *batch)
{
    if (batch->list.n > 0)
        qsort(batch->ids, batch->list.n, sizeof *batch->ids, nq_mysql_cmp_u64);
}

void nq_mysql_batch_keep(nq_mysql_batch *batch, const uint64_t *have, size_t n)
{
    nq_claimed_list *l = &batch->list;
    nq_claimed *next = l->head, **at = &l->head;
    l->tail = NULL;
    l->n = 0;
    for (nq_claimed *c; (c = next);) {
        const uint64_t id = (uint64_t)c->task.id;
        next = c->next;
        if (!bsearch(&id, have, n, sizeof id, nq_mysql_cmp_u64)) {
            free(c);
            continue;
        }
        *at = l->tail = c;
        at = &c->next;
        l->n++;
    }
    *at = NULL;
}
