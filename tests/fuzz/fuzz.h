/* SPDX-License-Identifier: MIT */
/* What the fuzz targets share. Each is one function of some bytes; libFuzzer calls it (make fuzz), and
 * replay.c does with the seeds and changed copies of them in every test run. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In every build, unlike assert. */
#define FUZZ_CHECK(cond)                                                                                     \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* A copy with a NUL behind, of exactly that size, so that a sanitizer sees each byte beyond; the caller's. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    FUZZ_CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

/* "(null)" in a message is a NULL that was printed, unless the input says it. */
static inline bool fuzz_says_null(const uint8_t *data, size_t size)
{
    return size >= 6 && memmem(data, size, "(null)", 6);
}

/* A message for people: there is one, on one line, without control characters. */
static inline void fuzz_check_message(const char *message)
{
    FUZZ_CHECK(message[0] != '\0');
    for (const char *c = message; *c != '\0'; c++)
        FUZZ_CHECK((unsigned char)*c >= 0x20 && *c != 0x7F);
}

#endif
