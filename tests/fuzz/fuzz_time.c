/* SPDX-License-Identifier: MIT */
/* Durations and points in time: in the limits, and the same again after they were written out. */
#include "fuzz.h"

#include "../../cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size), out[28];
    int64_t us = -1, again = -1;
    nq_err err = {0};
    if (nq_parse_duration(text, &us, &err) == NQ_OK) {
        FUZZ_CHECK(us >= 0 && us <= NQ_MAX_DURATION);
        snprintf(out, sizeof out, "%lld.%06llds", (long long)(us / 1000000), (long long)(us % 1000000));
        FUZZ_CHECK(nq_parse_duration(out, &again, &err) == NQ_OK && again == us);
    } else {
        FUZZ_CHECK(us == -1 && err.code == NQ_EINVAL);
        fuzz_check_message(err.message);
    }
    us = again = -1;
    err = (nq_err){0};
    if (cli_parse_time(text, &us, &err) == NQ_OK) {
        nq_format_time(us, out);
        FUZZ_CHECK(strlen(out) == 27);
        FUZZ_CHECK(cli_parse_time(out, &again, &err) == NQ_OK && again == us);
    } else {
        FUZZ_CHECK(us == -1 && err.code == NQ_EINVAL);
        fuzz_check_message(err.message);
    }
    free(text);
    return 0;
}
