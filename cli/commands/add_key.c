/* SPDX-License-Identifier: MIT */
/* nanoq add: how long a key is taken, and what a duplicate does. */
#include "add.h"

static int add_key_named(const char *name, const char *const names[], int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return -1;
}

bool add_until(const char *name, nq_task_spec *spec)
{
    static const char *const names[] = {"done", "start", "window"};
    const int until = add_key_named(name, names, 3);
    spec->until = until < 0 ? spec->until : until;
    return until >= 0;
}

bool add_duplicate(const char *name, nq_task_spec *spec)
{
    static const char *const names[] = {"refuse", "replace", "debounce", "append"};
    const int duplicate = add_key_named(name, names, 4);
    spec->duplicate = duplicate < 0 ? spec->duplicate : duplicate;
    return duplicate >= 0;
}

/* The rules of nq_task_spec, in the words of options and of members of a line. */
bool add_key_good(const nq_task_spec *s, const char *p, char *why, size_t size)
{
    const bool window = s->until == NQ_UNTIL_WINDOW, debounce = s->duplicate == NQ_DEBOUNCE;
    *why = '\0';
    if (s->unique == NQ_UNIQUE_NONE && (s->until != NQ_UNTIL_DONE || s->duplicate != NQ_REFUSE))
        snprintf(why, size, "%suntil, replace, debounce and append are about a key, and there is none", p);
    else if (window && s->window_us == 0)
        snprintf(why, size, "%suntil window needs %swindow, such as 1h", p, p);
    else if (!window && s->window_us != 0)
        snprintf(why, size, "%swindow needs %suntil window", p, p);
    else if (window && s->duplicate != NQ_REFUSE)
        snprintf(why, size, "%suntil window refuses duplicates: no replace, debounce or append beside it", p);
    else if (debounce && s->delay_us == 0)
        snprintf(why, size, "debounce needs %sin, by which each puts the start off", p);
    else if (!debounce && s->max_wait_us != 0)
        snprintf(why, size, "%s%s needs debounce", p, *p ? "max-wait" : "max_wait");
    else if (debounce && s->max_wait_us != 0 && s->max_wait_us < s->delay_us)
        snprintf(why, size, "%s%s is below %sin", p, *p ? "max-wait" : "max_wait", p);
    else if (s->duplicate == NQ_APPEND && s->unique != NQ_UNIQUE_DATA)
        snprintf(why, size, "append needs %s: the payload changes, and cannot be the key",
                 *p ? "--unique-key" : "unique_key");
    return *why == '\0';
}
