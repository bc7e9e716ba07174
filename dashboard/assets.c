/* SPDX-License-Identifier: MIT */
/* The pages, which are compiled in: tools/embed-web makes assets_list of them. */
#include "assets.h"
#include "dash.h"

/* "br;q=1.0, gzip": whether gzip is named. q=0, which nobody sends, is not read. */
static bool assets_gzip(struct MHD_Connection *connection)
{
    const char *accepted = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept-Encoding");
    return accepted && strstr(accepted, "gzip");
}

enum MHD_Result assets_answer(struct dash_request *r, const char *url, bool *found)
{
    const struct asset *a = NULL;
    const char *name = strcmp(url, "/") == 0 ? "/index.html" : url;
    for (size_t i = 0; i < assets_count; i++)
        if (strcmp(assets_list[i].name, name + 1) == 0)
            a = &assets_list[i];
    *found = a;
    if (!a)
        return MHD_NO;
    const char *known = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-None-Match");
    const bool same = known && strstr(known, a->etag), gzip = assets_gzip(r->connection);
    struct MHD_Response *response = MHD_create_response_from_buffer(
        same   ? 0
        : gzip ? a->packed_size
               : a->size,
        (void *)(uintptr_t)(gzip ? a->packed : a->bytes), MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    answer_headers(response);
    MHD_add_response_header(response, "Content-Type", a->type);
    MHD_add_response_header(response, "ETag", a->etag);
    MHD_add_response_header(response, "Vary", "Accept-Encoding");
    /* Names stay while contents change: asked for each time, and mostly answered with 304. */
    MHD_add_response_header(response, "Cache-Control", "no-cache");
    if (gzip && !same)
        MHD_add_response_header(response, "Content-Encoding", "gzip");
    const enum MHD_Result queued = MHD_queue_response(r->connection, same ? 304 : 200, response);
    MHD_destroy_response(response);
    return queued;
}
