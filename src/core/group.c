/* SPDX-License-Identifier: MIT */
/* Names of groups: BASE//GROUP is a group of the queue BASE, and in the tables a queue like any other. */
#include <stdio.h>

#include "core.h"

#define GROUP_MAX_TEXT 255
/* A group whose text cannot stand in a name is told by its hash: 130 bits of SHA-256. */
#define GROUP_HASHED ".h-"
#define GROUP_DIGITS 26

static const char group_allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-";

NQ_PRIVATE size_t nq_group_base(const char *queue)
{
    const char *at = strstr(queue, "//");
    return at && at > queue && at[2] ? (size_t)(at - queue) : strlen(queue);
}

NQ_PLUG_IN char *nq_group_split(char *queue)
{
    char *at = strchr(queue, '/'); /* most names have none */
    if (!at || !(at = strstr(at, "//")) || at == queue || !at[2])
        return NULL;
    *at = '\0';
    return at + 2;
}

NQ_PRIVATE bool nq_group_may_have(const char *queue)
{
    const size_t n = strlen(queue);
    return n + 2 < NQ_MAX_QUEUE && queue[n - 1] != '/' && !strstr(queue, "//");
}

static int group_check(const char *queue, const char *group, nq_err *err)
{
    const size_t n = strlen(group);
    size_t len;
    if (n == 0 || n > GROUP_MAX_TEXT)
        return nq_err_set(err, NQ_EINVAL,
                          "the group is %zu bytes long: 1 to %d are allowed, and NULL for no group", n,
                          GROUP_MAX_TEXT);
    for (size_t i = 0; i < n; i += len) {
        uint32_t cp = 0;
        len = nq_utf8(group + i, n - i, &cp);
        if (len == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            return nq_err_set(err, NQ_EINVAL,
                              "group '%s': byte %zu is not of printable UTF-8, which alone is allowed", group,
                              i + 1);
    }
    if (strstr(queue, "//"))
        return nq_err_set(err, NQ_EINVAL,
                          "queue '%s' names a group already: give it there or apart, not both", queue);
    if (queue[strlen(queue) - 1] == '/')
        return nq_err_set(err, NQ_EINVAL, "queue '%s' ends in '/': it can have no groups", queue);
    return NQ_OK;
}

/* Those that begin with . or : are the library's. */
static bool group_fits(const char *queue, const char *group)
{
    return strlen(queue) + 2 + strlen(group) <= NQ_MAX_QUEUE && group[0] != '.' && group[0] != ':' &&
           strspn(group, group_allowed) == strlen(group);
}

/* Append the digits of a text's hash. */
static void group_hash(char *at, const char *text)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t hash[32];
    nq_sha256 sha;
    nq_sha256_init(&sha);
    nq_sha256_add(&sha, text, strlen(text));
    nq_sha256_end(&sha, hash);
    at += strlen(at);
    for (size_t i = 0; i < GROUP_DIGITS; i++) {
        const size_t bit = 5 * i;
        const unsigned two = (unsigned)hash[bit / 8] << 8 | hash[bit / 8 + 1];
        *at++ = digits[two >> (11 - bit % 8) & 31];
    }
    *at = '\0';
}

NQ_PRIVATE int nq_group_name(char out[NQ_MAX_QUEUE + 1], const char *queue, const char *group, nq_err *err)
{
    const size_t n = strlen(queue);
    const int rc = group_check(queue, group, err);
    if (rc != NQ_OK)
        return rc;
    const bool fits = group_fits(queue, group);
    snprintf(out, NQ_MAX_QUEUE + 1, "%s//%s", queue, fits ? group : GROUP_HASHED);
    if (fits)
        return NQ_OK;
    if (n + 2 + strlen(GROUP_HASHED) + GROUP_DIGITS > NQ_MAX_QUEUE)
        return nq_err_set(
            err, NQ_EINVAL,
            "queue '%s' is too long for group '%s': with '//' between them they have at most %d "
            "bytes of A-Z a-z 0-9 _ . : / -, or the queue at most %d",
            queue, group, NQ_MAX_QUEUE, (int)(NQ_MAX_QUEUE - 5 - GROUP_DIGITS));
    group_hash(out, group);
    return NQ_OK;
}

/* ":TYPE", or ":.h-" and the digits of its hash where it does not fit or looks like that. */
NQ_PRIVATE int nq_group_of_type(char out[NQ_MAX_QUEUE + 1], const char *queue, const char *type, nq_err *err)
{
    const size_t n = strlen(queue);
    if (!nq_group_may_have(queue))
        return nq_err_set(err, NQ_EINVAL, "queue '%s' %s: no types of it can be set apart", queue,
                          queue[nq_group_base(queue)] ? "is a group" : "ends in '/' or is too long");
    const bool fits =
        type[0] != '.' && n + 3 + strlen(type) <= NQ_MAX_QUEUE && strspn(type, group_allowed) == strlen(type);
    if (!fits && n + 3 + strlen(GROUP_HASHED) + GROUP_DIGITS > NQ_MAX_QUEUE)
        return nq_err_set(
            err, NQ_EINVAL,
            "queue '%s' is too long for type '%.100s': with '//:' between them they have at most "
            "%d bytes of A-Z a-z 0-9 _ . : / -, or the queue at most %d",
            queue, type, NQ_MAX_QUEUE, (int)(NQ_MAX_QUEUE - 6 - GROUP_DIGITS));
    const size_t size = strlen(fits ? type : GROUP_HASHED);
    memcpy(out, queue, n);
    memcpy(out + n, "//:", 3);
    memcpy(out + n + 3, fits ? type : GROUP_HASHED, size);
    out[n + 3 + size] = '\0';
    if (!fits)
        group_hash(out, type);
    return NQ_OK;
}

NQ_PRIVATE bool nq_group_is_type(const char *name)
{
    const size_t base = nq_group_base(name);
    return name[base] && name[base + 2] == ':';
}

static bool group_is_hash(const char *group)
{
    return strncmp(group, GROUP_HASHED, strlen(GROUP_HASHED)) == 0;
}

NQ_PRIVATE bool nq_group_hashed(const char *name)
{
    const size_t base = nq_group_base(name);
    return name[base] && group_is_hash(name + base + 2);
}

/* Anybody may write a header: one that does not have this hash is not the text. */
NQ_PLUG_IN const char *nq_group_shown(const char *group, const char *header)
{
    char own[sizeof GROUP_HASHED + GROUP_DIGITS] = GROUP_HASHED;
    if (group && group[0] == ':') /* set apart by its type, from this group */
        return header;
    if (!group || !header || !group_is_hash(group))
        return group;
    group_hash(own, header);
    return strcmp(own, group) == 0 ? header : group;
}
