/* SPDX-License-Identifier: MIT */
/* Names of hints: what a queue and a host are called among processes. */
#include <stdio.h>
#include <unistd.h>

#include "core.h"

static uint64_t hint_name_hash(const char *text, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    return h;
}

NQ_PRIVATE uint64_t nq_fnv1a(const char *text)
{
    return hint_name_hash(text, strlen(text));
}

/* A worker serves a queue with its groups: they are called alike. */
NQ_PRIVATE uint64_t nq_hint_queue(const char *name)
{
    const uint64_t h = hint_name_hash(name, nq_group_base(name));
    return h != NQ_HINT_ANY ? h : 1;
}

/* Abstract addresses are seen in one network namespace of one running kernel. */
NQ_PRIVATE uint64_t nq_hint_host(void)
{
    char text[128] = "", space[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    const bool boot = f && fgets(text, 64, f);
    if (f)
        fclose(f);
    if (!boot || readlink("/proc/self/ns/net", space, sizeof(space) - 1) <= 0)
        return 0;
    text[strcspn(text, "\n")] = '\0';
    memcpy(text + strlen(text), space, strlen(space) + 1);
    return nq_hint_queue(text);
}
