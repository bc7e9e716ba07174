/* SPDX-License-Identifier: MIT */
/* Names of groups: of producers, of types, and of the rows of settings, which plain SQL may call anything. */
#include "fuzz.h"

#include "../../src/store/store.h"

#define GROUPS_PARTS 8

/* A name that a task may have, made of a queue and a text. */
static void groups_made(const char *name, const char *queue, char first)
{
    char copy[NQ_MAX_QUEUE + 1];
    nq_err err = {0};
    FUZZ_CHECK(strlen(name) <= NQ_MAX_QUEUE && nq_check_queue(name, &err) == NQ_OK);
    FUZZ_CHECK(nq_setting_named(name, strlen(name)));
    FUZZ_CHECK(nq_group_base(name) == strlen(queue) && nq_queue_base(name) == strlen(queue));
    memcpy(copy, name, strlen(name) + 1);
    const char *group = nq_group_split(copy);
    FUZZ_CHECK(group && strcmp(copy, queue) == 0 && (first ? *group == first : *group != ':'));
}

/* Whatever a name is, looking up what holds for it ends, and what is found is of its queue. */
static void groups_look_up(const nq_settings *s, const char *name, const char *type)
{
    const nq_setting *rows[NQ_SETTINGS_TYPES];
    nq_setting set;
    size_t n = 0;
    const size_t base = nq_queue_base(name);
    const nq_setting *paused = nq_settings_paused(s, name), *found = nq_settings_find(s, name);
    FUZZ_CHECK(!paused || (paused->paused && strncmp(paused->name, name, base) == 0));
    FUZZ_CHECK(!found || strcmp(found->name, name) == 0);
    FUZZ_CHECK(!nq_settings_group(s, name, &set) || strncmp(set.name, name, base) == 0);
    const nq_setting *all = nq_settings_groups(s, name, &n);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(strncmp(all[i].name, name, strlen(name)) == 0);
    n = nq_settings_types(s, name, rows, NQ_SETTINGS_TYPES);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(rows[i]->type && strncmp(rows[i]->name, name, base) == 0 &&
                   strncmp(rows[i]->name + base, "//:", 3) == 0);
    const nq_setting *of = nq_settings_type(s, name, type);
    FUZZ_CHECK(!of || strcmp(of->type, type) == 0);
}

static int groups_compare(const void *a, const void *b)
{
    return strcmp(((const nq_setting *)a)->name, ((const nq_setting *)b)->name);
}

static void groups_settings(char *const parts[], size_t n)
{
    nq_settings *s = calloc(1, sizeof *s + n * sizeof s->rows[0]);
    for (size_t i = 0; i < n; i++) {
        if (!nq_setting_named(parts[i], strlen(parts[i])))
            continue;
        nq_setting *row = &s->rows[s->n++];
        memcpy(row->name, parts[i], strlen(parts[i]) + 1);
        row->type = i % 2 ? parts[n - 1 - i] : NULL;
        row->type = row->type && row->type[0] ? row->type : NULL;
        row->paused = i % 3 == 0;
        row->max_running = (int64_t)i;
        s->types += row->type ? 1 : 0;
    }
    qsort(s->rows, s->n, sizeof s->rows[0], groups_compare);
    for (size_t i = 0; i < n; i++)
        groups_look_up(s, parts[i], parts[n - 1 - i]);
    free(s);
}

/* The parts of the input, by line feeds and zeros. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *const text = fuzz_text(data, size), *parts[GROUPS_PARTS];
    char name[NQ_MAX_QUEUE + 1], again[NQ_MAX_QUEUE + 1];
    size_t n = 0;
    nq_err err = {0};
    for (size_t at = 0; n < GROUPS_PARTS && at <= size; at += strlen(text + at) + 1) {
        parts[n++] = text + at;
        text[at + strcspn(text + at, "\n")] = '\0';
    }
    for (size_t i = 0; i < n; i++) {
        const char *other = parts[n - 1 - i];
        FUZZ_CHECK(nq_group_base(parts[i]) <= strlen(parts[i]));
        (void)nq_group_shown(parts[i], other);
        if (nq_check_queue(parts[i], &err) != NQ_OK)
            continue;
        if (nq_group_name(name, parts[i], other, &err) == NQ_OK) {
            groups_made(name, parts[i], '\0');
            FUZZ_CHECK(nq_group_name(again, parts[i], other, &err) == NQ_OK && strcmp(name, again) == 0);
        }
        if (nq_check_type(other, &err) == NQ_OK && nq_group_of_type(name, parts[i], other, &err) == NQ_OK)
            groups_made(name, parts[i], ':');
    }
    groups_settings(parts, n);
    free(text);
    return 0;
}
