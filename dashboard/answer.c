/* SPDX-License-Identifier: MIT */
/* Answers, and the headers that all of them have. */
#include "dash.h"

#define ANSWER_CSP                                                                                           \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "    \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

void answer_headers(struct MHD_Response *response)
{
    static const char *const all[][2] = {{"Content-Security-Policy", ANSWER_CSP},
                                         {"X-Content-Type-Options", "nosniff"},
                                         {"Referrer-Policy", "no-referrer"},
                                         {"X-Frame-Options", "DENY"},
                                         {"Cross-Origin-Opener-Policy", "same-origin"},
                                         {"Cross-Origin-Resource-Policy", "same-origin"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        MHD_add_response_header(response, all[i][0], all[i][1]);
}

enum MHD_Result answer(struct dash_request *r)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(r->out.text.n, r->out.text.p, MHD_RESPMEM_MUST_FREE);
    if (!response)
        return MHD_NO;
    r->out.text = (struct text){0}; /* it is the response's */
    answer_headers(response);
    MHD_add_response_header(response, "Content-Type", r->type ? r->type : "application/json");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (r->cookie[0])
        MHD_add_response_header(response, "Set-Cookie", r->cookie);
    r->conn->state = DASH_ANSWERING;
    r->conn->since_us = dash_clock_us();
    const enum MHD_Result queued = MHD_queue_response(r->connection, r->status ? r->status : 200, response);
    MHD_destroy_response(response);
    return queued;
}
