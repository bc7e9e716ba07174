/* SPDX-License-Identifier: MIT */
/* Values that nobody is to see: those of some keys in JSON, wherever it stands, also where it is cut off, has
 * other text around it, or stands as text within JSON. */
#include <ctype.h>

#include "dash.h"

#define MASK_KEYS  32
#define MASK_NAME  64
#define MASK_SHOWN "***"

static struct {
    char names[MASK_KEYS][MASK_NAME + 1];
    size_t n, longest;
} mask;

bool mask_start(const char *keys)
{
    for (const char *at = keys; at && *at;) {
        const size_t n = strcspn(at, ",");
        if (n == 0 || n > MASK_NAME || mask.n == MASK_KEYS) {
            cli_usage("--mask takes up to %d names of keys, each of at most %d bytes, with commas between",
                      MASK_KEYS, MASK_NAME);
            return false;
        }
        memcpy(mask.names[mask.n++], at, n);
        mask.longest = n > mask.longest ? n : mask.longest;
        at += n + (at[n] == ',');
    }
    return true;
}

bool mask_any(void)
{
    return mask.n > 0;
}

void mask_names(struct out *j)
{
    out_open(j, '[');
    for (size_t i = 0; i < mask.n; i++)
        out_str(j, mask.names[i]);
    out_close(j, ']');
}

bool mask_key(const char *p, size_t n)
{
    for (size_t i = 0; i < mask.n; i++)
        if (strlen(mask.names[i]) == n && strncasecmp(mask.names[i], p, n) == 0)
            return true;
    return false;
}

/* How many backslashes stand before p[i]. */
static size_t mask_slashes(const char *p, size_t i)
{
    size_t n = 0;
    while (n < i && p[i - 1 - n] == '\\')
        n++;
    return n;
}

/*
 * JSON as text within JSON has its quotes behind 1 backslash, within that behind 3, and so on: 2^level - 1 =
 * k. A quote with k before it bounds a string of that level; so does one with k + 2(k+1) before it, behind an
 * escaped backslash.
 */
static bool mask_bounds(const char *p, size_t i, size_t k)
{
    return p[i] == '"' && mask_slashes(p, i) % (2 * (k + 1)) == k;
}

/* The quote that ends the string that begins at i, or n. */
static size_t mask_string_end(const char *p, size_t n, size_t i, size_t k)
{
    while (i < n && !mask_bounds(p, i, k))
        i++;
    return i;
}

static size_t mask_space(const char *p, size_t n, size_t i)
{
    while (i < n) {
        size_t next = i;
        while (next < n && p[next] == '\\')
            next++;
        if (next > i && next < n && p[next] && strchr("nrt", p[next]))
            i = next + 1; /* of JSON within JSON */
        else if (isspace((unsigned char)p[i]))
            i++;
        else
            break;
    }
    return i;
}

/* The end of the value that begins at i: a string, what stands in brackets, or a word. */
static size_t mask_value_end(const char *p, size_t n, size_t i, size_t k)
{
    size_t depth = 0;
    const size_t quote = i + k;
    if (quote < n && mask_bounds(p, quote, k)) {
        const size_t end = mask_string_end(p, n, quote + 1, k);
        return end < n ? end + 1 : n;
    }
    if (i < n && p[i] != '{' && p[i] != '[') {
        while (i < n && !strchr(",}] \t\r\n\\", p[i]))
            i++;
        return i;
    }
    for (; i < n; i++) {
        if (mask_bounds(p, i, k)) {
            i = mask_string_end(p, n, i + 1, k);
        } else if (p[i] == '{' || p[i] == '[') {
            depth++;
        } else if ((p[i] == '}' || p[i] == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return n;
}

static int mask_hex(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = (char)tolower((unsigned char)p[i]);
        if (!isxdigit((unsigned char)c))
            return -1;
        v = v * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return v;
}

/* The escape behind backslashes, "u0061" or "n", at p[*i], which becomes its last byte: a character, or half
 * of one. */
static int mask_escape(const char *p, size_t n, size_t *i)
{
    const int letter = p[*i] == 'u' && n - *i > 4 ? mask_hex(p + *i + 1) : -1;
    *i += letter >= 0 ? 4 : 0;
    return letter > 0 ? letter : (unsigned char)p[*i];
}

/* A character as UTF-8. */
static size_t mask_utf8(int c, char out[4])
{
    const size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    for (size_t k = more; k > 0; k--, c >>= 6)
        out[k] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(more ? ((0xff00 >> (more + 1)) & 0xff) | c : c);
    return more + 1;
}

/* A key may be written with escapes: "p\u0061ssword". */
static bool mask_is_key(const char *p, size_t n)
{
    char plain[MASK_NAME + 4];
    size_t length = 0;
    int high = 0; /* the first half of a character of two */
    for (size_t i = 0; i < n && length <= MASK_NAME; i++) {
        if (p[i] != '\\') {
            plain[length++] = p[i];
            continue;
        }
        while (i < n && p[i] == '\\')
            i++;
        if (i == n)
            break;
        const int c = mask_escape(p, n, &i);
        if (c >= 0xd800 && c < 0xdc00)
            high = c;
        else
            length += mask_utf8(c < 0xdc00 || c > 0xdfff ? c : 0x10000 + ((high & 0x3ff) << 10) + (c & 0x3ff),
                                plain + length);
    }
    return length <= MASK_NAME && mask_key(plain, length);
}

/* Where the value of the masked key begins whose first quote is p[i]; 0: there is none. */
static size_t mask_found(const char *p, size_t n, size_t i, size_t *k)
{
    *k = mask_slashes(p, i);
    if ((*k & (*k + 1)) != 0 || *k > 15)
        return 0;
    const size_t most = i + 1 + (mask.longest + 1) * (6 + *k), until = most < n ? most : n;
    const size_t end = mask_string_end(p, until, i + 1, *k);
    if (end >= until || end - i - 1 < *k || !mask_is_key(p + i + 1, end - i - 1 - *k))
        return 0;
    const size_t colon = mask_space(p, n, end + 1);
    return colon < n && p[colon] == ':' ? mask_space(p, n, colon + 1) : 0;
}

bool mask_text(struct text *out, const void *bytes, size_t n)
{
    const char *p = bytes;
    size_t copied = 0, k = 0;
    bool any = false;
    for (size_t i = 0; i < n && mask.n > 0; i++) {
        size_t value = p[i] == '"' ? mask_found(p, n, i, &k) : 0;
        if (value == 0)
            continue;
        text_add(out, p + copied, value - copied);
        for (int quote = 0; quote < 2; quote++) {
            for (size_t s = 0; s < k; s++)
                text_str(out, "\\");
            text_str(out, quote ? "\"" : "\"" MASK_SHOWN);
        }
        copied = mask_value_end(p, n, value, k);
        i = copied > 0 ? copied - 1 : 0;
        any = true;
    }
    text_add(out, p + copied, n - copied);
    return any;
}
