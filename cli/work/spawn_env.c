/* SPDX-License-Identifier: MIT */
/* What a command finds in its environment: ours, without what is for us alone and without the password. */
#include "../cli.h"
#include "spawn.h"

extern char **environ;

static bool env_is(const char *entry, const char *name, size_t n)
{
    return n > 0 && strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static bool env_is_ours(const char *entry)
{
    static const char *const names[] = {"NANOQ_ID", "NANOQ_TYPE", "NANOQ_QUEUE", "NANOQ_GROUP",
                                        "NANOQ_ATTEMPT", "NANOQ_MAX_RETRIES", "NANOQ_DEADLINE",
                                        "NANOQ_STREAM", "NANOQ_DEAD_ID", "NANOQ_SCHEDULE", "NANOQ_DUE_AT",
                                        /* of the trace of a task, not of ours */
                                        "TRACEPARENT", "TRACESTATE",
                                        /* systemd's, for us alone */
                                        "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (env_is(entry, names[i], strlen(names[i])))
            return true;
    return false;
}

/* Does the URL say that its password is in this variable? */
static bool env_is_named_by(const char *entry, const char *url)
{
    static const char option[] = "password_env=";
    const char *at = url ? strchr(url, '?') : NULL;
    for (; at; at = strchr(at + 1, '&')) {
        const char *name = at + 1 + strlen(option);
        if (strncmp(at + 1, option, strlen(option)) == 0 && env_is(entry, name, strcspn(name, "&")))
            return true;
    }
    return false;
}

/* NANOQ_DB without its password. One that cannot be told apart goes whole: NULL. */
static char *env_without_password(const char *entry)
{
    const char *start = strstr(entry, "://");
    if (!start)
        return cli_format("%s", entry);
    start += 3;
    const char *end = start + strcspn(start, "/?"), *at = NULL, *colon = NULL;
    for (const char *p = start; p < end; p++) {
        at = *p == '@' ? p : at;
        colon = *p == ':' && !colon ? p : colon;
    }
    if (strchr(end, '@'))
        return NULL; /* a password that should have been escaped */
    if (!at || !colon || colon > at)
        return cli_format("%s", entry);
    return cli_format("%.*s%s", (int)(colon - entry), entry, at);
}

void spawn_environment(struct spawn_command *c)
{
    static const char db[] = "NANOQ_DB", password[] = "NANOQ_PASSWORD";
    const char *url = getenv(db);
    size_t n = 0;
    while (environ[n])
        n++;
    c->base_env = cli_alloc((n + 1) * sizeof c->base_env[0]);
    for (size_t i = 0; i < n; i++) {
        char *entry = environ[i];
        if (env_is_ours(entry))
            continue;
        if (!c->keep_password) {
            if (env_is(entry, password, strlen(password)) || env_is_named_by(entry, url) ||
                env_is_named_by(entry, cli.db) || env_is_named_by(entry, cli_configured(CLI_CONFIG_DB, NULL)))
                continue;
            if (env_is(entry, db, strlen(db)) && !(entry = c->db = env_without_password(entry)))
                continue;
        }
        c->base_env[c->nbase_env++] = entry;
    }
}
