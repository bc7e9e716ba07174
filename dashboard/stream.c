/* SPDX-License-Identifier: MIT */
/* Streams of events: what the sampler saw, to every browser that listens. */
#include "dash.h"

#define STREAM_BLOCK 512 /* held by each, and not used where parts have their lengths before them */
#define STREAM_QUIET NQ_SECONDS(15) /* then a comment: a proxy may end what is silent */

static const char stream_hello[] = "retry: 2000\n\n", stream_comment[] = ": still here\n\n";

struct stream {
    struct MHD_Connection *connection;
    struct sample *sample; /* what is being sent, or NULL: */
    const char *text;
    size_t n, at;
    uint64_t number; /* of the last sample */
    int64_t sent_us;
    bool suspended;
    char session[65];
    struct stream *next, **self;
};

static struct {
    struct stream *all;
    unsigned n;
    bool stop;
} streams;

/* The next thing to send; false: there is none. */
static bool stream_next(struct stream *s)
{
    sample_free(s->sample);
    s->sample = sampler_newest(s->number);
    s->text = NULL;
    s->at = 0;
    if (s->sample) {
        s->number = s->sample->number;
        s->text = s->sample->text;
        s->n = s->sample->n;
    } else if (s->sent_us == 0 || dash_clock_us() - s->sent_us > STREAM_QUIET) {
        s->text = s->sent_us == 0 ? stream_hello : stream_comment;
        s->n = strlen(s->text);
    }
    if (s->text)
        s->sent_us = dash_clock_us();
    return s->text;
}

static bool stream_over(const struct stream *s)
{
    return streams.stop || !access_still(s->session);
}

static ssize_t stream_read(void *udata, uint64_t pos, char *buf, size_t max)
{
    struct stream *s = udata;
    (void)pos;
    if (s->text && s->at == s->n)
        s->text = NULL;
    if (!s->text && stream_over(s))
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!s->text && !stream_next(s)) {
        s->suspended = true;
        MHD_suspend_connection(s->connection);
        return 0;
    }
    const size_t n = s->n - s->at < max ? s->n - s->at : max;
    memcpy(buf, s->text + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static void stream_free(void *udata)
{
    struct stream *s = udata;
    *s->self = s->next;
    if (s->next)
        s->next->self = s->self;
    sample_free(s->sample);
    free(s);
    streams.n--;
    sampler_viewers(-1);
}

enum MHD_Result stream_answer(struct dash_request *r)
{
    if (streams.n >= DASH_STREAMS) {
        api_fail(r, 429, "EBUSY", "%d streams are open, more are not allowed", DASH_STREAMS);
        return answer(r);
    }
    struct stream *s = cli_alloc(sizeof *s);
    s->connection = r->connection;
    access_session_of(r->connection, s->session);
    if (!access_still(s->session))
        s->session[0] = '\0'; /* it came by another way */
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_read, s, stream_free);
    if (!response) {
        free(s);
        return MHD_NO;
    }
    s->next = streams.all;
    s->self = &streams.all;
    if (s->next)
        s->next->self = &s->next;
    streams.all = s;
    streams.n++;
    sampler_viewers(1);
    answer_headers(response);
    MHD_add_response_header(response, "Content-Type", "text/event-stream");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Accel-Buffering", "no");
    r->conn->state = DASH_STREAMING;
    const enum MHD_Result queued = MHD_queue_response(r->connection, 200, response);
    MHD_destroy_response(response);
    return queued;
}

void stream_tick(void)
{
    for (struct stream *s = streams.all; s; s = s->next) {
        if (s->suspended && (stream_over(s) || stream_next(s))) {
            s->suspended = false;
            MHD_resume_connection(s->connection);
        }
    }
}

void stream_stop(void)
{
    streams.stop = true;
    stream_tick();
}
