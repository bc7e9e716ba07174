/* SPDX-License-Identifier: MIT */
/* The pages as they are compiled in. */
#ifndef ASSETS_H
#define ASSETS_H

#include <stddef.h>

struct asset {
    const char *name, *type, *etag; /* "views/tasks.js", "text/javascript", "\"...\"" */
    const unsigned char *bytes, *packed;
    size_t size, packed_size;
};
extern const struct asset assets_list[];
extern const size_t assets_count;

#endif
