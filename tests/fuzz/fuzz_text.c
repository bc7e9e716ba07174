/* SPDX-License-Identifier: MIT */
/* Bytes out of the database on their way to a terminal, a table, a log or JSON. */
#include "fuzz.h"

#include "../../cli/text/json_input.h"
#include "../../cli/text/text.h"
#include "../../src/core/core.h"

/* No control character, C1 and bidi ones included, and valid UTF-8. */
static void text_check_harmless(const char *p, size_t n)
{
    uint32_t c;
    for (size_t i = 0, used; i < n; i += used) {
        used = text_decode(p + i, n - i, &c);
        FUZZ_CHECK(used > 0 && c >= 0x20 && !(c >= 0x7F && c <= 0x9F));
        FUZZ_CHECK(!(c >= 0x200B && c <= 0x200F) && !(c >= 0x2028 && c <= 0x202E) &&
                   !(c >= 0x2066 && c <= 0x2069));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text safe = {0}, tsv = {0}, json = {0};
    char message[256], line[64];
    int row, column;
    text_safe(&safe, data, size);
    text_check_harmless(safe.n > 0 ? safe.p : "", safe.n);
    FUZZ_CHECK(text_cut(safe.n > 0 ? safe.p : "", safe.n, 20) <= safe.n);
    FUZZ_CHECK(safe.n == 0 || text_width(safe.p, text_cut(safe.p, safe.n, 20)) <= 20);
    text_tsv(&tsv, data, size);
    text_check_harmless(tsv.n > 0 ? tsv.p : "", tsv.n);
    text_json(&json, data, size);
    json_t *root = json_input(json.p, json.n, message, &row, &column);
    FUZZ_CHECK(json_is_string(root));
    /* Valid text comes back as it was. */
    FUZZ_CHECK(!text_is_utf8(data, size) ||
               (json_string_length(root) == size && memcmp(json_string_value(root), data, size) == 0));
    json_decref(root);
    nq_printable(line, sizeof line, (const char *)data, size);
    FUZZ_CHECK(strlen(line) < sizeof line && text_is_utf8(line, strlen(line)));
    for (const char *c = line; *c != '\0'; c++)
        FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7F);
    FUZZ_CHECK(text_whole(data, size) <= size);
    text_free(&safe);
    text_free(&tsv);
    text_free(&json);
    return 0;
}
