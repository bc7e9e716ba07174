/* SPDX-License-Identifier: MIT */
/* Prometheus' text format: families, samples, and labels of text that anybody wrote. */
#include "core.h"

void nq_family(nq_buf *b, const char *name, const char *type, const char *help)
{
    nq_buf_fmt(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Quote, backslash and line feed are escaped, which the format asks for. Other control characters and what
 * is no UTF-8 are U+FFFD: a scraper refuses the whole text for one wrong byte. */
static void exposition_value(nq_buf *b, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const size_t n = strlen(text);
    uint32_t c = 0;
    for (size_t i = 0, used; i < n; i += used) {
        used = nq_utf8(text + i, n - i, &c);
        if (used == 0) {
            used = 1;
            nq_buf_str(b, replacement);
        } else if (c == '\n') {
            nq_buf_str(b, "\\n");
        } else if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            nq_buf_str(b, replacement);
        } else {
            if (c == '"' || c == '\\')
                nq_buf_str(b, "\\");
            nq_buf_add(b, text + i, used);
        }
    }
}

void nq_sample(nq_buf *b, const char *name, const nq_label labels[], size_t n)
{
    nq_buf_str(b, name);
    for (size_t i = 0; i < n; i++) {
        nq_buf_fmt(b, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
        exposition_value(b, labels[i].value);
        nq_buf_str(b, "\"");
    }
    nq_buf_str(b, n > 0 ? "} " : " ");
}

void nq_sample_u64(nq_buf *b, const char *name, const nq_label labels[], size_t n, uint64_t v)
{
    nq_sample(b, name, labels, n);
    nq_buf_u64(b, v);
    nq_buf_str(b, "\n");
}

void nq_sample_us(nq_buf *b, const char *name, const nq_label labels[], size_t n, uint64_t us)
{
    nq_sample(b, name, labels, n);
    nq_exposed_us(b, us);
    nq_buf_str(b, "\n");
}

/* Without printf's %f, which would take the decimal point of the program's locale. */
void nq_exposed_us(nq_buf *b, uint64_t us)
{
    unsigned part = (unsigned)(us % 1000000), digits = 6;
    nq_buf_u64(b, us / 1000000);
    if (part == 0)
        return;
    for (; part % 10 == 0; part /= 10)
        digits--;
    nq_buf_fmt(b, ".%0*u", (int)digits, part);
}
