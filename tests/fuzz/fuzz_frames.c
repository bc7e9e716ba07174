/* SPDX-License-Identifier: MIT */
/* What a child process may send to its worker: any bytes, in any pieces. */
#include "fuzz.h"

#include "../../src/worker/isolate/isolate.h"

/* The first frame of p[0..n) as the worker reads it; 0: refused, or not all there. */
static size_t frames_one(const char *p, size_t n, bool *refused, bool *more)
{
    nq_frame head = {0};
    nq_answer answer;
    nq_reported told;
    int64_t us;
    int scope;
    nq_buf again = {0};
    *refused = !nq_frame_heard(p, n, &head, more);
    if (*refused || *more)
        return 0;
    const char *body = p + sizeof head;
    FUZZ_CHECK(head.size <= NQ_FRAME_SAID_MAX && sizeof head + head.size <= n);
    if (nq_frame_read_answer(&head, body, &answer)) {
        FUZZ_CHECK(answer.message >= body && answer.message + answer.message_size == body + head.size);
        FUZZ_CHECK(answer.delay_us >= -1 && answer.delay_us <= NQ_MAX_DURATION);
        nq_frame_answer(&again, head.seq, &answer);
    } else if (nq_frame_read_progress(&head, body, &told)) {
        FUZZ_CHECK(told.note >= body && told.note + told.note_size == body + head.size);
        nq_frame_progress(&again, head.seq, &told);
    } else if (nq_frame_read_hold(&head, body, &scope, &us)) {
        FUZZ_CHECK(us >= 0 && us <= NQ_MAX_DURATION);
        nq_frame_hold(&again, head.seq, scope, us);
    } else {
        *refused = true;
        return 0;
    }
    /* What was read is what was written. */
    FUZZ_CHECK(again.n == sizeof head + head.size && memcmp(again.p, p, sizeof head) == 0);
    nq_buf_free(&again);
    return sizeof head + head.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *p = fuzz_text(data, size);
    size_t at = 0, used;
    bool refused = false, more = false;
    while ((used = frames_one(p + at, size - at, &refused, &more)) > 0) {
        /* The same frame cut anywhere is not whole yet, and never another one. */
        for (size_t cut = 0; cut < used; cut += 1 + used / 16) {
            bool bad, part;
            FUZZ_CHECK(frames_one(p + at, cut, &bad, &part) == 0 && !bad && part);
        }
        at += used;
    }
    FUZZ_CHECK(refused || more);
    free(p);
    return 0;
}
