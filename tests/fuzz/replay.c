/* SPDX-License-Identifier: MIT */
/* A fuzz target without libFuzzer: replay DIRECTORY [CHANGES] calls it with every file there, then with
 * changed copies of them. NANOQ_SEED repeats a run. */
#include "fuzz.h"

#include <dirent.h>
#include <inttypes.h>
#include <time.h>

#define REPLAY_LONGEST 65536
#define REPLAY_MOST    200

struct replay_file {
    uint8_t *p;
    size_t n;
};

static uint64_t replay_state;

static uint64_t replay_random(uint64_t below) /* xorshift64* */
{
    replay_state ^= replay_state >> 12;
    replay_state ^= replay_state << 25;
    replay_state ^= replay_state >> 27;
    return (replay_state * 0x2545F4914F6CDD1DU >> 11) % below;
}

static bool replay_read(const char *path, struct replay_file *file)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    file->p = malloc(REPLAY_LONGEST);
    FUZZ_CHECK(file->p);
    file->n = fread(file->p, 1, REPLAY_LONGEST, f);
    fclose(f);
    return true;
}

/* A few changes: a bit, a byte, a piece taken out, doubled, or taken from another file. */
static size_t replay_change(uint8_t *p, size_t n, const struct replay_file *other)
{
    for (uint64_t left = 1 + replay_random(4); left > 0; left--) {
        const size_t at = n > 0 ? (size_t)replay_random(n) : 0, len = (size_t)replay_random(n - at + 1) % 40;
        switch (replay_random(5)) {
        case 0:
            if (n > 0)
                p[at] ^= (uint8_t)(1U << replay_random(8));
            break;
        case 1:
            if (n > 0)
                p[at] = (uint8_t)replay_random(256);
            break;
        case 2:
            memmove(p + at, p + at + len, n - at - len);
            n -= len;
            break;
        case 3:
            if (n + len <= REPLAY_LONGEST) {
                memmove(p + at + len, p + at, n - at);
                n += len;
            }
            break;
        default: {
            const size_t from = other->n > 0 ? (size_t)replay_random(other->n) : 0, most = n - at;
            const size_t take = other->n - from < most ? other->n - from : most;
            memcpy(p + at, other->p + from, take);
        }
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    static struct replay_file files[REPLAY_MOST];
    static uint8_t changed[REPLAY_LONGEST];
    size_t n = 0;
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: replay DIRECTORY [CHANGES]\n");
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (entry->d_name[0] != '.' && n < REPLAY_MOST && replay_read(path, &files[n]))
            n++;
    }
    closedir(dir);
    FUZZ_CHECK(n > 0);
    const char *seed = getenv("NANOQ_SEED");
    replay_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000003;
    replay_state += replay_state == 0;
    const long changes = argc > 2 ? strtol(argv[2], NULL, 10) : 20000;
    fprintf(stderr, "%zu seeds and %ld changes of them, NANOQ_SEED=%" PRIu64 "\n", n, changes, replay_state);
    for (size_t i = 0; i < n; i++)
        LLVMFuzzerTestOneInput(files[i].p, files[i].n);
    for (long i = 0; i < changes; i++) {
        const struct replay_file *from = &files[replay_random(n)], *other = &files[replay_random(n)];
        memcpy(changed, from->p, from->n);
        LLVMFuzzerTestOneInput(changed, replay_change(changed, from->n, other));
    }
    for (size_t i = 0; i < n; i++)
        free(files[i].p);
    return 0;
}
