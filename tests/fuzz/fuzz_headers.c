/* SPDX-License-Identifier: MIT */
/* The column of headers, into which plain SQL may write anything. */
#include "fuzz.h"

#include "../../src/core/core.h"

static void headers_check(const nq_headers *h)
{
    FUZZ_CHECK(h->n <= NQ_MAX_HEADERS && h->expires_at_us >= 0);
    for (size_t i = 0; i < h->n; i++) {
        FUZZ_CHECK(strncmp(h->all[i].name, "nq-", 3) != 0);
        for (size_t j = 0; j < i; j++)
            FUZZ_CHECK(strcmp(h->all[i].name, h->all[j].name) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *const text = fuzz_text(data, size);
    const size_t need = nq_headers_room(text, size);
    char *const room = malloc(need + 1), *again = NULL;
    nq_headers read, second;
    nq_buf written = {0}, rest = {0};
    nq_err err = {0};
    FUZZ_CHECK(nq_headers_read(&read, room, text, size) == room + need);
    FUZZ_CHECK(memcmp(text, data, size) == 0);
    headers_check(&read);
    /* What was read is what the library takes, and is read again, unless it is as long as plain SQL alone
     * makes it. */
    if (nq_headers_write(&written, read.all, read.n, &err) == NQ_OK) {
        again = malloc(nq_headers_room(written.p, written.n) + 1);
        nq_headers_read(&second, again, written.p, written.n);
        FUZZ_CHECK(second.n == read.n && second.expires_at_us == 0);
        for (size_t i = 0; i < read.n; i++)
            FUZZ_CHECK(strcmp(read.all[i].name, second.all[i].name) == 0 &&
                       strcmp(read.all[i].value, second.all[i].value) == 0);
    } else {
        FUZZ_CHECK(err.code == NQ_ETOOBIG);
    }
    free(again);
    const bool had = nq_headers_without_expiry(&rest, text, size);
    FUZZ_CHECK(!rest.failed && rest.n <= size && (had || read.expires_at_us == 0));
    again = malloc(nq_headers_room(rest.p, rest.n) + 1);
    nq_headers_read(&second, again, rest.p, rest.n);
    FUZZ_CHECK(second.expires_at_us == 0 && (size > NQ_MAX_HEADERS_SIZE || second.n == read.n));
    free(again);
    free(room);
    free(text);
    nq_buf_free(&written);
    nq_buf_free(&rest);
    return 0;
}
