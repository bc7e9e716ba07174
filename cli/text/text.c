/* SPDX-License-Identifier: MIT */
/* Text for terminals, TSV and JSON from bytes of unknown quality. */
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#include "../cli.h"

void text_add(struct text *t, const void *p, size_t n)
{
    if (t->cap - t->n <= n || !t->p) {
        if (n > SIZE_MAX / 4 || t->n > SIZE_MAX / 4)
            n = SIZE_MAX; /* cli_realloc refuses it */
        t->cap = n == SIZE_MAX ? n : (t->n + n) * 2 + 64;
        t->p = cli_realloc(t->p, t->cap);
    }
    if (n > 0)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_int(struct text *t, int64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%" PRId64, v);
    text_add(t, digits, (size_t)n);
}

void text_free(struct text *t)
{
    free(t->p);
    *t = (struct text){0};
}

size_t text_decode(const void *bytes, size_t n, uint32_t *c)
{
    const unsigned char *p = bytes;
    if (n == 0)
        return 0;
    if (p[0] < 0x80) {
        *c = p[0];
        return 1;
    }
    size_t len = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || n < len)
        return 0;
    uint32_t v = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3Fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (v < least[len] || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF))
        return 0;
    *c = v;
    return len;
}

bool text_is_utf8(const void *bytes, size_t n)
{
    const char *p = bytes;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t used = text_decode(p + i, n - i, &c);
        if (used == 0)
            return false;
        i += used;
    }
    return true;
}

size_t text_whole(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = p[n - back];
        if (c >= 0xC0) {
            size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
            return len > back ? n - back : n;
        }
        if (c < 0x80)
            break;
    }
    return n;
}

/* Characters that move the cursor, turn the direction of text or cannot be seen. */
static bool text_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD || c == 0x61C || c == 0x115F || c == 0x1160 ||
           c == 0x17B4 || c == 0x17B5 || (c >= 0x180B && c <= 0x180F) || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0x3164 ||
           (c >= 0xE000 && c <= 0xF8FF) || (c >= 0xFE00 && c <= 0xFE0F) || c == 0xFEFF || c == 0xFFA0 ||
           (c >= 0xFFF0 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0x10FFFF);
}

bool text_is_plain(const char *p, size_t n)
{
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t c = 0;
        used = text_decode(p + i, n - i, &c);
        if (used == 0 || (text_hidden(c) && c != '\n' && c != '\t'))
            return false;
    }
    return true;
}

static void text_escape(struct text *t, uint32_t c, bool invalid)
{
    static const char *const names[] = {['\t'] = "\\t", ['\n'] = "\\n", ['\r'] = "\\r"};
    char out[16];
    if (!invalid && c <= '\r' && names[c]) {
        text_str(t, names[c]);
        return;
    }
    snprintf(out, sizeof out, invalid || c < 0x80 ? "\\x%02x" : "\\u{%x}", (unsigned)c);
    text_str(t, out);
}

static void text_escaped(struct text *t, const void *bytes, size_t n, bool backslash)
{
    const unsigned char *p = bytes;
    size_t plain = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t used = text_decode(p + i, n - i, &c);
        if (used > 0 && !text_hidden(c) && !(backslash && c == '\\')) {
            i += used;
            continue;
        }
        text_add(t, p + plain, i - plain);
        if (used == 0) {
            text_escape(t, p[i], true);
            used = 1;
        } else if (c == '\\') {
            text_str(t, "\\\\");
        } else {
            text_escape(t, c, false);
        }
        i += used;
        plain = i;
    }
    text_add(t, p + plain, n - plain);
}

void text_safe(struct text *t, const void *p, size_t n)
{
    text_escaped(t, p, n, false);
}

void text_tsv(struct text *t, const void *p, size_t n)
{
    text_escaped(t, p, n, true);
}

static void text_json_char(struct text *t, uint32_t c)
{
    char out[16];
    if (c == '"' || c == '\\') {
        snprintf(out, sizeof out, "\\%c", (int)c);
    } else if (c == '\n' || c == '\t' || c == '\r') {
        snprintf(out, sizeof out, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
    } else if (c < 0x10000) {
        snprintf(out, sizeof out, "\\u%04x", (unsigned)c);
    } else {
        c -= 0x10000;
        snprintf(out, sizeof out, "\\u%04x\\u%04x", (unsigned)(0xD800 + (c >> 10)),
                 (unsigned)(0xDC00 + (c & 0x3FF)));
    }
    text_str(t, out);
}

void text_json(struct text *t, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    text_str(t, "\"");
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t used = text_decode(p + i, n - i, &c);
        if (used == 0) {
            text_str(t, "\\ufffd");
            used = 1;
        } else if (c == '"' || c == '\\' || text_hidden(c)) {
            text_json_char(t, c);
        } else {
            text_add(t, p + i, used);
        }
        i += used;
    }
    text_str(t, "\"");
}

void text_base64(struct text *t, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                       i + 2 < n ? digits[v & 63] : '='};
        text_add(t, out, 4);
    }
}

size_t text_cut(const char *p, size_t n, size_t width)
{
    size_t i = 0;
    while (i < n) {
        uint32_t c = '?';
        size_t used = text_decode(p + i, n - i, &c);
        int columns = wcwidth((wchar_t)c);
        size_t wide = columns < 0 ? 1 : (size_t)columns;
        if (wide > width)
            break;
        width -= wide;
        i += used > 0 ? used : 1;
    }
    return i;
}

size_t text_width(const char *p, size_t n)
{
    size_t width = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = '?';
        size_t used = text_decode(p + i, n - i, &c);
        int columns = wcwidth((wchar_t)c);
        width += columns < 0 ? 1 : (size_t)columns;
        i += used > 0 ? used : 1;
    }
    return width;
}

void text_headers(struct text *out, const nq_header *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_str(out, i ? ", " : "{");
        text_json(out, all[i].name, strlen(all[i].name));
        text_str(out, ": ");
        text_json(out, all[i].value, strlen(all[i].value));
    }
    text_str(out, n ? "}" : "{}");
}

void text_array(struct text *out, const char *const all[], size_t n)
{
    text_str(out, "[");
    for (size_t i = 0; i < n; i++) {
        text_str(out, i ? ", " : "");
        text_json(out, all[i], strlen(all[i]));
    }
    text_str(out, "]");
}
