/* SPDX-License-Identifier: MIT */
/* Addresses: where to listen, and which peers are trusted. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "dash.h"

/* "[::1]:8080" or "127.0.0.1:8080" or "8080" in its parts. */
static bool net_split(const char *text, char host[64], int64_t *port)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    const char *start = text;
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        start++;
        n -= 2;
    } else if (n > 0 && memchr(text, ':', n)) {
        return false;
    }
    if (n >= 64 || (colon && n == 0))
        return false;
    snprintf(host, 64, "%.*s", n > 0 ? (int)n : 9, n > 0 ? start : "127.0.0.1");
    if (strcmp(host, "localhost") == 0)
        snprintf(host, 64, "127.0.0.1");
    const char *digits = colon ? colon + 1 : text;
    char *end = NULL;
    *port = *digits >= '0' && *digits <= '9' ? strtol(digits, &end, 10) : -1;
    return end && *end == '\0' && *port >= 0 && *port <= 65535;
}

static bool net_address(const char *host, int64_t port, struct sockaddr_storage *out, socklen_t *size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *size = sizeof *v4;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    *size = sizeof *v6;
    return true;
}

static bool net_loopback(const struct sockaddr_storage *a)
{
    struct net_range v4, v6;
    return (net_range_parse("127.0.0.0/8", &v4) && net_range_has(&v4, (const struct sockaddr *)a)) ||
           (net_range_parse("::1", &v6) && net_range_has(&v6, (const struct sockaddr *)a));
}

int net_listen(const char *text, char told[80], bool *loopback)
{
    struct sockaddr_storage address;
    socklen_t size = 0;
    char host[64], buf[128];
    int64_t port = 0;
    const int on = 1;
    if (!net_split(text, host, &port) || !net_address(host, port, &address, &size)) {
        cli_usage("--listen takes a port, or a numeric address with one: 8080, 127.0.0.1:8080, [::1]:8080; "
                  "not '%s'",
                  text);
        return -1;
    }
    *loopback = net_loopback(&address);
    const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (address.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, (const struct sockaddr *)&address, size) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        cli_complain("cannot listen on %s: %s", text, strerror_r(errno, buf, sizeof buf));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    const bool v6 = address.ss_family == AF_INET6;
    port =
        ntohs(v6 ? ((struct sockaddr_in6 *)&address)->sin6_port : ((struct sockaddr_in *)&address)->sin_port);
    snprintf(told, 80, "%s%s%s:%d", v6 ? "[" : "", host, v6 ? "]" : "", (int)port);
    return fd;
}

/* Sixteen bytes, whatever the family. */
static bool net_bytes(const struct sockaddr *a, unsigned char out[16])
{
    memset(out, 0, 16);
    if (a->sa_family == AF_INET) {
        memset(out + 10, 0xFF, 2);
        memcpy(out + 12, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
        return true;
    }
    if (a->sa_family != AF_INET6)
        return false;
    memcpy(out, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
    return true;
}

bool net_range_parse(const char *text, struct net_range *out)
{
    struct sockaddr_storage address;
    socklen_t size;
    char host[64], *end = NULL;
    const char *slash = strchr(text, '/');
    const size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)n, text);
    if (!net_address(host, 0, &address, &size) || !net_bytes((const struct sockaddr *)&address, out->address))
        return false;
    const unsigned most = address.ss_family == AF_INET ? 32 : 128;
    const unsigned long bits = !slash                               ? most
                               : slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10)
                                                                    : 999;
    if (bits > most || (end && *end != '\0'))
        return false;
    out->bits = (unsigned)bits + 128 - most;
    return true;
}

bool net_range_has(const struct net_range *range, const struct sockaddr *address)
{
    unsigned char bytes[16];
    if (!net_bytes(address, bytes))
        return false;
    const unsigned whole = range->bits / 8, rest = range->bits % 8;
    if (memcmp(bytes, range->address, whole) != 0)
        return false;
    return rest == 0 || ((bytes[whole] ^ range->address[whole]) >> (8 - rest)) == 0;
}
