/* SPDX-License-Identifier: MIT */
/* A line of a child of nanoq work --stream, and the lines that it is sent about a task with such bytes. */
#include "fuzz.h"

#include "../../cli/text/json_input.h"
#include "../../cli/work/stream.h"

static void stream_check_answer(const char *line, size_t size)
{
    static const struct stream_answer before = {.id = -7, .text = NULL};
    struct stream_answer a = before;
    char why[STREAM_WHY] = "";
    if (!stream_parse(line, size, &a, why)) {
        FUZZ_CHECK(memcmp(&a, &before, sizeof a) == 0);
        fuzz_check_message(why);
        FUZZ_CHECK(text_is_utf8(why, strlen(why)));
        FUZZ_CHECK(fuzz_says_null((const uint8_t *)line, size) || !strstr(why, "(null)"));
        return;
    }
    FUZZ_CHECK(a.verb <= STREAM_LOG && (a.verb == STREAM_LOG ? a.id == 0 && a.text : a.id > 0));
    FUZZ_CHECK(a.delay_us >= -1 && a.delay_us <= NQ_MAX_DURATION && a.done >= 0 && a.total >= 0);
    FUZZ_CHECK(!a.text || text_is_utf8(a.text, strlen(a.text)));
    stream_answer_free(&a);
}

/* Whatever a task holds, a child gets one line of valid JSON. */
static void stream_check_task(const char *bytes, size_t size)
{
    struct text out = {0};
    char message[256], type[256], *error = fuzz_text((const uint8_t *)bytes, size);
    int line, column;
    snprintf(type, sizeof type, "%.200s", error);
    nq_task task = {.id = 1,
                    .type = type,
                    .queue = "default",
                    .last_error = error,
                    .payload = bytes,
                    .payload_size = size};
    stream_task(&out, &task, 1);
    FUZZ_CHECK(out.n > 0 && memchr(out.p, '\n', out.n) == out.p + out.n - 1 && !memchr(out.p, '\r', out.n));
    json_t *root = json_input(out.p, out.n, message, &line, &column);
    FUZZ_CHECK(json_is_object(root));
    json_decref(root);
    text_free(&out);
    free(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = fuzz_text(data, size);
    stream_check_answer(line, size);
    stream_check_task(line, size);
    free(line);
    return 0;
}
