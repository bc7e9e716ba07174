/* SPDX-License-Identifier: MIT */
/* Time zones: the compiled file that libc reads (RFC 8536), without libc's one zone for the whole process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "zone.h"

#define ZONE_DIR       "/usr/share/zoneinfo"
#define ZONE_FILE_MOST 65536
#define ZONE_NAME_MOST 60
#define ZONE_DAY       ((int64_t)86400)
/* Bounds of what is believed of a file: no zone is near them, and no sum of them overflows. */
#define ZONE_TIMES_MOST  100000
#define ZONE_OFFSET_MOST 93600 /* 26 hours */

/* ---- The footer: a POSIX TZ string, for the time behind the last transition ---- */

static const char *zone_rule_name(const char *p)
{
    if (*p == '<') {
        p = strchr(p, '>');
        return p ? p + 1 : NULL;
    }
    const char *start = p;
    while ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z'))
        p++;
    return p - start >= 3 ? p : NULL;
}

/* Up to three digits, of a number of at most `most`. */
static const char *zone_rule_number(const char *p, int most, int *out)
{
    int n = 0;
    const char *start = p;
    for (; *p >= '0' && *p <= '9' && p - start < 3; p++)
        n = n * 10 + (*p - '0');
    *out = n;
    return p > start && n <= most ? p : NULL;
}

/* [+-]h[h[h]][:mm[:ss]] */
static const char *zone_rule_time(const char *p, int32_t *out)
{
    int sign = 1, part[3] = {0, 0, 0};
    if (*p == '+' || *p == '-')
        sign = *p++ == '-' ? -1 : 1;
    for (int i = 0; i < 3; i++) {
        p = zone_rule_number(p, i == 0 ? 167 : 59, &part[i]);
        if (!p)
            return NULL;
        if (i == 2 || *p != ':')
            break;
        p++;
    }
    *out = sign * (part[0] * 3600 + part[1] * 60 + part[2]);
    return p;
}

static const char *zone_rule_offset(const char *p, int32_t *out)
{
    int32_t west;
    p = zone_rule_time(p, &west);
    if (!p || west > ZONE_OFFSET_MOST || west < -ZONE_OFFSET_MOST)
        return NULL;
    *out = -west; /* POSIX counts to the west */
    return p;
}

static const char *zone_rule_date(const char *p, struct nq_zone_rule *r)
{
    if (*p == 'M') {
        r->kind = NQ_ZONE_WEEKDAY;
        if (!(p = zone_rule_number(p + 1, 12, &r->month)) || *p != '.' ||
            !(p = zone_rule_number(p + 1, 5, &r->week)) || *p != '.' ||
            !(p = zone_rule_number(p + 1, 6, &r->day)) || r->month < 1 || r->week < 1)
            return NULL;
    } else {
        r->kind = *p == 'J' ? NQ_ZONE_JULIAN : NQ_ZONE_DAY;
        p = zone_rule_number(p + (*p == 'J'), 365, &r->day);
        if (!p || (r->kind == NQ_ZONE_JULIAN && r->day < 1))
            return NULL;
    }
    r->at = 7200;
    return *p == '/' ? zone_rule_time(p + 1, &r->at) : p;
}

static bool zone_rule_read(nq_zone *z, const char *p)
{
    if (*p == '\0')
        return true;
    if (!(p = zone_rule_name(p)) || !(p = zone_rule_offset(p, &z->std)))
        return false;
    z->has_rule = true;
    if (*p == '\0')
        return true;
    if (!(p = zone_rule_name(p)))
        return false;
    z->dst = z->std + 3600;
    if (*p != ',' && !(p = zone_rule_offset(p, &z->dst)))
        return false;
    if (*p != ',' || !(p = zone_rule_date(p + 1, &z->start)) || *p != ',' ||
        !(p = zone_rule_date(p + 1, &z->end)) || *p != '\0')
        return false;
    z->has_dst = true;
    return true;
}

/* When a change of that year comes, in seconds of local time since 1970. */
static int64_t zone_rule_local(const struct nq_zone_rule *r, int64_t year)
{
    const int64_t first = nq_days_from_civil(year, 1, 1);
    int64_t day = first + r->day;
    if (r->kind == NQ_ZONE_JULIAN) { /* counted as if no year had a 29 February */
        const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        day = first + r->day - 1 + (leap && r->day >= 60);
    } else if (r->kind == NQ_ZONE_WEEKDAY) {
        const int64_t month = nq_days_from_civil(year, r->month, 1);
        const int64_t next = nq_days_from_civil(year + (r->month == 12), r->month % 12 + 1, 1);
        day = month + (r->day - nq_weekday(month) + 7) % 7 + (int64_t)7 * (r->week - 1);
        if (day >= next) /* the fifth is the last one */
            day -= 7;
    }
    return day * ZONE_DAY + r->at;
}

/* The last change before utc says. */
static int32_t zone_rule_at(const nq_zone *z, int64_t utc)
{
    int64_t year, last = INT64_MIN;
    int month, day;
    bool dst = false;
    if (!z->has_dst)
        return z->std;
    nq_civil_from_days(nq_floor_div(utc + z->std, ZONE_DAY), &year, &month, &day);
    for (int64_t y = year - 1; y <= year + 1; y++) {
        const int64_t on = zone_rule_local(&z->start, y) - z->std;
        const int64_t off = zone_rule_local(&z->end, y) - z->dst;
        if (on <= utc && on > last) {
            last = on;
            dst = true;
        }
        if (off <= utc && off >= last) {
            last = off;
            dst = false;
        }
    }
    return dst ? z->dst : z->std;
}

/* ---- The file ---- */

static int64_t zone_number(const unsigned char *p, int n)
{
    uint64_t v = p[0] & 0x80 ? UINT64_MAX : 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

/* The counts of a block's header, in the order of the file. */
enum { ZONE_ISUT, ZONE_ISSTD, ZONE_LEAPS, ZONE_TIMES, ZONE_TYPES, ZONE_CHARS, ZONE_COUNTS };
#define ZONE_HEADER 44

/* The counts of the block at the start of b[0..n), and the bytes behind its header; 0: there is none. */
static size_t zone_block(const unsigned char *b, size_t n, size_t width, size_t count[ZONE_COUNTS])
{
    if (n < ZONE_HEADER || memcmp(b, "TZif", 4) != 0 || b[4] < '2')
        return 0;
    for (int i = 0; i < ZONE_COUNTS; i++) {
        count[i] = (size_t)(zone_number(b + 20 + (ptrdiff_t)4 * i, 4) & 0xffffffff);
        if (count[i] > ZONE_TIMES_MOST)
            return 0;
    }
    const size_t size = count[ZONE_TIMES] * (width + 1) + count[ZONE_TYPES] * 6 + count[ZONE_CHARS] +
                        count[ZONE_LEAPS] * (width + 4) + count[ZONE_ISSTD] + count[ZONE_ISUT];
    return count[ZONE_TYPES] > 0 && count[ZONE_TYPES] <= 256 && n - ZONE_HEADER >= size ? size : 0;
}

static int zone_transitions(nq_zone *z, const unsigned char *times, const size_t count[ZONE_COUNTS])
{
    const unsigned char *index = times + count[ZONE_TIMES] * 8, *types = index + count[ZONE_TIMES];
    for (size_t i = 0; i < count[ZONE_TYPES]; i++) {
        const int64_t offset = zone_number(types + 6 * i, 4);
        if (offset > ZONE_OFFSET_MOST || offset < -ZONE_OFFSET_MOST)
            return NQ_EINVAL;
    }
    z->first = (int32_t)zone_number(types, 4);
    z->at = calloc(count[ZONE_TIMES] + 1, sizeof *z->at);
    if (!z->at)
        return NQ_ENOMEM;
    for (size_t i = 0; i < count[ZONE_TIMES]; i++) {
        if (index[i] >= count[ZONE_TYPES])
            return NQ_EINVAL;
        z->at[i].utc = zone_number(times + 8 * i, 8);
        z->at[i].offset = (int32_t)zone_number(types + (ptrdiff_t)6 * index[i], 4);
        if (i > 0 && z->at[i].utc <= z->at[i - 1].utc)
            return NQ_EINVAL;
    }
    z->n = count[ZONE_TIMES];
    return NQ_OK;
}

static int zone_parse(nq_zone *z, const unsigned char *b, size_t n)
{
    size_t count[ZONE_COUNTS];
    char rule[64];
    const size_t old = zone_block(b, n, 4, count); /* of 32 bits: stepped over */
    if (old == 0)
        return NQ_EINVAL;
    b += ZONE_HEADER + old;
    n -= ZONE_HEADER + old;
    const size_t size = zone_block(b, n, 8, count);
    if (size == 0 || count[ZONE_LEAPS] > 0) /* "right/": its seconds are not those of a database */
        return NQ_EINVAL;
    const int rc = zone_transitions(z, b + ZONE_HEADER, count);
    if (rc != NQ_OK)
        return rc;
    b += ZONE_HEADER + size;
    n -= ZONE_HEADER + size;
    const unsigned char *end = n > 1 && b[0] == '\n' ? memchr(b + 1, '\n', n - 1) : NULL;
    if (!end || (size_t)(end - b) > sizeof rule)
        return NQ_EINVAL;
    memcpy(rule, b + 1, (size_t)(end - b) - 1);
    rule[end - b - 1] = '\0';
    return zone_rule_read(z, rule) ? NQ_OK : NQ_EINVAL;
}

NQ_PRIVATE int nq_zone_parse(nq_zone *z, const void *bytes, size_t n, nq_err *err)
{
    memset(z, 0, sizeof *z);
    const int rc = zone_parse(z, bytes, n);
    if (rc == NQ_OK)
        return NQ_OK;
    nq_zone_free(z);
    return rc == NQ_ENOMEM ? nq_err_nomem(err)
                           : nq_err_set(err, NQ_EINVAL, "it is no time zone file of version 2 or above");
}

NQ_PRIVATE void nq_zone_free(nq_zone *z)
{
    free(z->at);
    memset(z, 0, sizeof *z);
}

/* A name becomes a part of a path: it stays below the directory. */
static int zone_check_name(const char *name, nq_err *err)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/";
    char shown[128];
    const size_t n = strnlen(name, ZONE_NAME_MOST + 1);
    if (n > 0 && n <= ZONE_NAME_MOST && name[0] != '/' && name[n - 1] != '/' && !strstr(name, "//") &&
        strspn(name, allowed) == n)
        return NQ_OK;
    nq_printable(shown, sizeof shown, name, n);
    return nq_err_set(err, NQ_EINVAL,
                      "'%s' is no name of a time zone: up to %d of A-Z a-z 0-9 _ + - and / within: "
                      "Europe/Berlin, UTC",
                      shown, ZONE_NAME_MOST);
}

static const char *zone_dir(void)
{
    const char *dir = secure_getenv("TZDIR");
    return dir && *dir ? dir : ZONE_DIR;
}

/* A descriptor, or an nq_code. */
static int zone_open(const char *name, nq_err *err)
{
    const char *dir = zone_dir();
    const int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int fd = at < 0 ? -1 : openat(at, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const int why = errno;
    if (at >= 0)
        close(at);
    if (fd >= 0)
        return fd;
    if (at < 0)
        return nq_err_sys(err, NQ_ESYSTEM, why,
                          "time zone '%s': this system has no zone files at %.200s (install tzdata, or set "
                          "TZDIR; UTC needs none)",
                          name, dir);
    if (why == ENOENT || why == ENOTDIR)
        return nq_err_set(err, NQ_EINVAL, "there is no time zone '%s' in %.200s", name, dir);
    return nq_err_sys(err, NQ_ESYSTEM, why, "time zone '%s' in %.200s", name, dir);
}

static int zone_read(nq_zone *z, const char *name, int fd, struct stat *st, nq_err *err)
{
    size_t n = 0;
    ssize_t got = 0;
    if (fstat(fd, st) != 0)
        return nq_err_sys(err, NQ_ESYSTEM, errno, "time zone '%s'", name);
    if (!S_ISREG(st->st_mode))
        return nq_err_set(err, NQ_EINVAL, "'%s' is no time zone, but no file at all", name);
    unsigned char *bytes = malloc(ZONE_FILE_MOST);
    if (!bytes)
        return nq_err_nomem(err);
    while (n < ZONE_FILE_MOST &&
           ((got = read(fd, bytes + n, ZONE_FILE_MOST - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    int rc = got < 0 ? nq_err_sys(err, NQ_ESYSTEM, errno, "time zone '%s'", name)
                     : nq_zone_parse(z, bytes, n, err);
    if (got >= 0 && rc == NQ_EINVAL)
        rc = nq_err_set(err, NQ_EINVAL,
                        "time zone '%s': its file in %.200s cannot be used (damaged, or with "
                        "leap seconds)",
                        name, zone_dir());
    free(bytes);
    return rc;
}

NQ_PRIVATE int nq_zone_load(nq_zone *z, const char *name, nq_err *err)
{
    struct stat st;
    memset(z, 0, sizeof *z);
    if (!name || !*name || strcmp(name, "UTC") == 0)
        return NQ_OK; /* an empty one is UTC, on every system */
    int rc = zone_check_name(name, err);
    if (rc != NQ_OK)
        return rc;
    const int fd = zone_open(name, err);
    if (fd < 0)
        return fd;
    rc = zone_read(z, name, fd, &st, err);
    close(fd);
    return rc;
}

NQ_PRIVATE int64_t nq_zone_changed(const char *name)
{
    struct stat st;
    int64_t at = 0;
    if (!name || !*name || strcmp(name, "UTC") == 0 || zone_check_name(name, NULL) != NQ_OK)
        return 0;
    const int fd = zone_open(name, NULL);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0)
        at = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
    close(fd);
    return at;
}

/* ---- Asking ---- */

NQ_PRIVATE int32_t nq_zone_offset(const nq_zone *z, int64_t utc)
{
    if (z->n == 0 || utc >= z->at[z->n - 1].utc) {
        if (z->has_rule)
            return zone_rule_at(z, utc);
        return z->n > 0 ? z->at[z->n - 1].offset : z->first;
    }
    if (utc < z->at[0].utc)
        return z->first;
    size_t low = 0, high = z->n - 1; /* at[low] <= utc < at[high] */
    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (z->at[mid].utc <= utc)
            low = mid;
        else
            high = mid;
    }
    return z->at[low].offset;
}

NQ_PRIVATE int64_t nq_zone_utc(const nq_zone *z, int64_t local)
{
    /* The offsets that may hold around then are those of a day before and a day behind. */
    const int32_t before = nq_zone_offset(z, local - ZONE_OFFSET_MOST);
    const int32_t behind = nq_zone_offset(z, local + ZONE_OFFSET_MOST);
    const int32_t big = before > behind ? before : behind, small = before > behind ? behind : before;
    if (nq_zone_offset(z, local - big) == big)
        return local - big; /* the earlier one of two */
    if (nq_zone_offset(z, local - small) == small)
        return local - small;
    int64_t low = local - big - 1, high = local - small + 1; /* the gap ends between */
    while (high - low > 1) {
        const int64_t mid = low + (high - low) / 2;
        if (mid + nq_zone_offset(z, mid) < local)
            low = mid;
        else
            high = mid;
    }
    return high;
}
