/* SPDX-License-Identifier: MIT */
/* One task as nanoq list and show print it. */
#ifndef LOOK_H
#define LOOK_H

#include "../cli.h"
#include "../text/table.h"

enum { LOOK_COLUMNS = 33 };
extern const struct table_column look_columns[LOOK_COLUMNS];
/* All columns of a task of whose payload `here` bytes are at hand. */
void look_task(struct table *t, const nq_info *info, size_t here);

#endif
