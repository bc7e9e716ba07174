/* SPDX-License-Identifier: MIT */
/* Database URLs: what is taken is in order, what is refused has a reason, and no reason tells the password.
 */
#include "fuzz.h"

#include "../../src/core/core.h"

#define URL_SECRET "s3cr3t-w0rd"

static void url_check(const char *text)
{
    nq_url u;
    nq_err err = {0};
    if (nq_url_parse(&u, text, &err) != NQ_OK) {
        FUZZ_CHECK(err.code == NQ_EURL);
        fuzz_check_message(err.message);
        FUZZ_CHECK(!strstr(err.message, URL_SECRET));
        return;
    }
    const bool mysql = strcmp(u.scheme, "mysql") == 0;
    FUZZ_CHECK(mysql || strcmp(u.scheme, "sqlite") == 0);
    FUZZ_CHECK(u.path && u.path[0] != '\0' && u.port <= 65535);
    FUZZ_CHECK(mysql || (!u.user && !u.password && !u.host && u.port == 0));
    for (size_t i = 0; i < u.noptions; i++)
        FUZZ_CHECK(nq_url_option_get(&u, u.options[i].name, NULL));
    nq_url_free(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size), *secret = malloc(size + 64);
    FUZZ_CHECK(secret);
    url_check(text);
    /* The same bytes behind a password, and before one. */
    snprintf(secret, size + 64, "mysql://user:" URL_SECRET "@%s", text);
    url_check(secret);
    snprintf(secret, size + 64, "mysql://%s:" URL_SECRET "@h/d", text);
    url_check(secret);
    free(secret);
    free(text);
    return 0;
}
