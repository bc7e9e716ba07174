/* SPDX-License-Identifier: MIT */
/* A suggestion when a word is nearly right. */
#include "../cli.h"

#define NEAREST_WORD 32 /* longer words are never "nearly" another */

/* longer words are never "nearly" an option */

static size_t nearest_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b), row[3][NEAREST_WORD + 1];
    if (na > NEAREST_WORD || nb > NEAREST_WORD)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = row[i % 3], *last = row[(i - 1) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1; /* two letters swapped */
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

const char *cli_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    size_t least = strlen(word) / 3 + 2;
    for (; *names; names++) {
        size_t distance = nearest_distance(word, *names);
        if (strlen(word) >= 3 && strncmp(word, *names, strlen(word)) == 0)
            distance = 1;
        if (distance < least) {
            least = distance;
            best = *names;
        }
    }
    return best;
}
