/* SPDX-License-Identifier: MIT */
/* A spec, a line feed, and the bytes of a zone file: whatever they are, time goes forward. */
#include "fuzz.h"

#include "../../src/core/zone.h"

static void zone_follow(const nq_cron *c, const nq_zone *z)
{
    int64_t at = NQ_DAYS(20000);
    for (int i = 0; i < 3 && at != INT64_MAX; i++) {
        const int64_t next = nq_cron_after(c, z, at);
        FUZZ_CHECK(next > at);
        at = next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
    const size_t n = line ? (size_t)(line - data) : size, behind = line ? size - n - 1 : 0;
    char *const spec = fuzz_text(data, n);
    uint8_t *const file = malloc(behind + 1);
    nq_err err = {0};
    nq_cron c;
    nq_zone z;
    FUZZ_CHECK(file);
    memcpy(file, data + size - behind, behind);
    uint8_t *const exact = realloc(file, behind ? behind : 1); /* a sanitizer sees each byte beyond */
    FUZZ_CHECK(exact);
    const int zone = nq_zone_parse(&z, exact, behind, &err);
    FUZZ_CHECK(zone == NQ_OK || (zone == NQ_EINVAL && z.n == 0 && !z.at));
    for (int64_t t = -4000000000; zone == NQ_OK && t < 8000000000; t += 900000001) {
        const int32_t offset = nq_zone_offset(&z, t);
        FUZZ_CHECK(offset <= 26 * 3600 && offset >= -26 * 3600);
        (void)nq_zone_utc(&z, t);
    }
    err = (nq_err){0};
    if (nq_cron_parse(&c, spec, &err) == NQ_OK) {
        zone_follow(&c, &z); /* UTC where the file is none */
    } else {
        FUZZ_CHECK(err.code == NQ_EINVAL);
        fuzz_check_message(err.message);
    }
    nq_zone_free(&z);
    free(exact);
    free(spec);
    return 0;
}
