/* SPDX-License-Identifier: MIT */
/* Who asks, and what they may: tokens, sessions, a trusted proxy, hosts and origins. */
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dash.h"

#define ACCESS_TOKENS     64
#define ACCESS_TOKEN_MIN  16
#define ACCESS_TOKEN_MAX  256
#define ACCESS_SESSIONS   256
#define ACCESS_SESSION_US NQ_HOURS(12)
#define ACCESS_COOKIE     "nanoq_session"
#define ACCESS_FAILURES   20 /* wrong tokens a minute, of all together */

struct access_token {
    enum dash_role role;
    char secret[ACCESS_TOKEN_MAX + 1]; /* zeroes behind its end: compared whole */
    char name[DASH_WHO];
};
struct access_session {
    char id[65]; /* "": free */
    int64_t until_us;
    struct dash_who who;
};

static struct {
    struct access_token tokens[ACCESS_TOKENS];
    size_t ntokens;
    struct access_session sessions[ACCESS_SESSIONS];
    struct net_range ranges[16];
    size_t nranges;
    int64_t minute_us;
    unsigned failures;
} access_state;

/* Takes as long whatever differs. */
static bool access_equal(const char *a, const char *b, size_t n)
{
    unsigned char differs = 0;
    for (size_t i = 0; i < n; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return differs == 0;
}

/* ---- Starting ---- */

/* "admin SECRET", "viewer SECRET NAME" */
static bool access_token_line(char *line, unsigned number)
{
    struct access_token *t = &access_state.tokens[access_state.ntokens];
    char *rest = NULL;
    const char *role = strtok_r(line, " \t\r\n", &rest), *secret = strtok_r(NULL, " \t\r\n", &rest);
    const char *name = strtok_r(NULL, "\r\n", &rest);
    if (!role || role[0] == '#')
        return true;
    const bool admin = strcmp(role, "admin") == 0;
    if (access_state.ntokens == ACCESS_TOKENS || (!admin && strcmp(role, "viewer") != 0) || !secret ||
        strlen(secret) < ACCESS_TOKEN_MIN || strlen(secret) > ACCESS_TOKEN_MAX ||
        (name && strlen(name) >= DASH_WHO)) {
        cli_complain("the token file, line %u: allowed are up to %d lines such as 'admin TOKEN NAME' or "
                     "'viewer TOKEN', tokens "
                     "of %d to %d characters",
                     number, ACCESS_TOKENS, ACCESS_TOKEN_MIN, ACCESS_TOKEN_MAX);
        return false;
    }
    t->role = admin ? DASH_ADMIN : DASH_VIEWER;
    memcpy(t->secret, secret, strlen(secret));
    snprintf(t->name, sizeof t->name, "%s", name ? name : role);
    access_state.ntokens++;
    return true;
}

/* Only its owner can read it. Of root's, for others than root, so far as root's group goes: what an access
 * list allows shows there, and systemd gives a credential to its service by one. */
static bool access_private(const struct stat *st)
{
    const bool listed = st->st_uid == 0 && st->st_gid == 0;
    return S_ISREG(st->st_mode) && (st->st_mode & (listed ? 037 : 077)) == 0 &&
           (st->st_uid == geteuid() || st->st_uid == 0);
}

static bool access_tokens(const char *path)
{
    char line[ACCESS_TOKEN_MAX + DASH_WHO + 64], buf[128];
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f || fstat(fd, &st) != 0) {
        cli_complain("cannot read the token file %s: %s", path, strerror_r(errno, buf, sizeof buf));
        if (f)
            fclose(f);
        return false;
    }
    const bool private = access_private(&st);
    if (!private)
        cli_complain("the token file %s must be a file that only its owner, who runs this or is root, can "
                     "read: chmod 600",
                     path);
    bool good = private;
    for (unsigned n = 1; good && fgets(line, sizeof line, f); n++)
        good = access_token_line(line, n);
    explicit_bzero(line, sizeof line);
    fclose(f);
    if (good && access_state.ntokens == 0) {
        cli_complain("the token file %s has no token: 'admin TOKEN' or 'viewer TOKEN' on a line", path);
        good = false;
    }
    return good;
}

static bool access_ranges(const char *list)
{
    for (const char *at = list; *at;) {
        char one[80];
        const size_t n = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : sizeof one - 1), at);
        if (access_state.nranges == 16 ||
            !net_range_parse(one, &access_state.ranges[access_state.nranges++])) {
            cli_usage("--trust-from takes addresses such as 10.0.0.0/8,::1, at most 16, not '%s'", one);
            return false;
        }
        at += n + (at[n] == ',');
    }
    return access_state.nranges > 0;
}

bool access_start(void)
{
    if (!dash.trust_header != !dash.trust_from) {
        cli_usage("--trust-header and --trust-from go together: which header, and from which addresses");
        return false;
    }
    if (dash.trust_admin && !dash.trust_header) {
        cli_usage("--trust-admin names users that come by --trust-header");
        return false;
    }
    return (!dash.trust_from || access_ranges(dash.trust_from)) &&
           (!dash.token_file || access_tokens(dash.token_file));
}

bool access_open(void)
{
    return !dash.token_file && !dash.trust_header;
}

/* ---- Headers of a request ---- */

struct access_header {
    const char *name, *value;
    unsigned n;
};

static enum MHD_Result access_header_row(void *udata, enum MHD_ValueKind kind, const char *name,
                                         const char *value)
{
    struct access_header *h = udata;
    (void)kind;
    if (strcasecmp(name, h->name) == 0) {
        h->value = value ? value : "";
        h->n++;
    }
    return MHD_YES;
}

/* The value of a header that is there once; NULL: it is not, *n says how often it is. */
static const char *access_header(struct MHD_Connection *connection, const char *name, unsigned *n)
{
    struct access_header h = {.name = name};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, access_header_row, &h);
    if (n)
        *n = h.n;
    return h.n == 1 ? h.value : NULL;
}

/* The length of the name in "name:8080", "[::1]:8080". */
static size_t access_host_name(const char *host)
{
    size_t n = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
    n += host[0] == '[' && host[n] == ']';
    if (host[n] == ':' && strspn(host + n + 1, "0123456789") == strlen(host + n + 1))
        return n;
    return host[n] == '\0' ? n : 0;
}

bool access_host(struct MHD_Connection *connection)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = access_header(connection, "Host", NULL);
    const size_t n = host ? access_host_name(host) : 0;
    for (size_t i = 0; n > 0 && i < sizeof own / sizeof own[0]; i++)
        if (strlen(own[i]) == n && strncasecmp(own[i], host, n) == 0)
            return true;
    for (size_t i = 0; n > 0 && i < dash.nhosts; i++)
        if (strlen(dash.hosts[i]) == n && strncasecmp(dash.hosts[i], host, n) == 0)
            return true;
    return false;
}

/* ---- Sessions ---- */

/* The value of our cookie, of 64 characters; "": there is none. */
void access_session_of(struct MHD_Connection *connection, char out[65])
{
    const char *value = MHD_lookup_connection_value(connection, MHD_COOKIE_KIND, ACCESS_COOKIE);
    out[0] = '\0';
    if (value && strlen(value) == 64)
        memcpy(out, value, 65);
}

static struct access_session *access_session(const char *id)
{
    struct access_session *found = NULL;
    const int64_t now = dash_clock_us();
    for (size_t i = 0; i < ACCESS_SESSIONS && id[0]; i++) {
        struct access_session *s = &access_state.sessions[i];
        if (s->id[0] && access_equal(s->id, id, 64) && s->until_us > now)
            found = s;
    }
    return found;
}

bool access_still(const char *session)
{
    return !session[0] || access_session(session);
}

/* A free one, or the one that ends first. */
static struct access_session *access_session_free(void)
{
    struct access_session *oldest = &access_state.sessions[0];
    for (size_t i = 0; i < ACCESS_SESSIONS; i++) {
        struct access_session *s = &access_state.sessions[i];
        if (!s->id[0])
            return s;
        if (s->until_us < oldest->until_us)
            oldest = s;
    }
    return oldest;
}

static const struct access_token *access_token(const char *secret)
{
    const struct access_token *found = NULL;
    char whole[ACCESS_TOKEN_MAX + 1] = {0};
    const size_t n = strlen(secret);
    memcpy(whole, secret, n <= ACCESS_TOKEN_MAX ? n : 0);
    for (size_t i = 0; i < access_state.ntokens; i++)
        if (access_equal(access_state.tokens[i].secret, whole, sizeof whole))
            found = &access_state.tokens[i];
    explicit_bzero(whole, sizeof whole);
    return n > 0 && n <= ACCESS_TOKEN_MAX ? found : NULL;
}

/* A wrong token; false: there were too many. */
static bool access_failed(void)
{
    const int64_t now = dash_clock_us();
    if (now - access_state.minute_us > NQ_MINUTES(1)) {
        access_state.minute_us = now;
        access_state.failures = 0;
    }
    return ++access_state.failures <= ACCESS_FAILURES;
}

static bool access_wrong(struct dash_request *r)
{
    if (access_failed())
        api_fail(r, 401, "EAUTH", "this token is not known");
    else
        api_fail(r, 429, "EBUSY", "too many wrong tokens: wait a minute");
    return false;
}

bool access_login(struct dash_request *r, const char *secret)
{
    unsigned char random[32];
    const struct access_token *t = access_token(secret);
    if (!t)
        return access_wrong(r);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        api_fail(r, 500, "ESYSTEM", "no random numbers are to be had");
        return false;
    }
    struct access_session *s = access_session_free();
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(s->id + 2 * i, 3, "%02x", random[i]);
    s->until_us = dash_clock_us() + ACCESS_SESSION_US;
    s->who = (struct dash_who){.role = t->role, .token = true};
    snprintf(s->who.name, sizeof s->who.name, "%s", t->name);
    r->who = s->who;
    /* Without a path it is of the API's folder, whatever path a proxy has put before it. */
    const char *origin = access_header(r->connection, "Origin", NULL);
    snprintf(r->cookie, sizeof r->cookie, ACCESS_COOKIE "=%s; HttpOnly; SameSite=Strict; Max-Age=%d%s", s->id,
             (int)(ACCESS_SESSION_US / 1000000),
             origin && strncmp(origin, "https:", 6) == 0 ? "; Secure" : "");
    return true;
}

void access_logout(struct dash_request *r)
{
    char id[65];
    access_session_of(r->connection, id);
    struct access_session *s = access_session(id);
    if (s)
        explicit_bzero(s, sizeof *s);
    snprintf(r->cookie, sizeof r->cookie, ACCESS_COOKIE "=; HttpOnly; SameSite=Strict; Max-Age=0");
}

/* ---- Who ---- */

static bool access_admin_named(const char *name)
{
    for (const char *at = dash.trust_admin ? dash.trust_admin : ""; *at;) {
        const size_t n = strcspn(at, ",");
        if ((n == strlen(name) && strncmp(at, name, n) == 0) || (n == 1 && *at == '*'))
            return true;
        at += n + (at[n] == ',');
    }
    return false;
}

/* The user that a trusted proxy names. Others may send the header as they like: it says nothing then. */
static bool access_proxy(struct dash_request *r)
{
    const union MHD_ConnectionInfo *info =
        dash.trust_header ? MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS) : NULL;
    bool trusted = false;
    for (size_t i = 0; info && i < access_state.nranges; i++)
        trusted = trusted || net_range_has(&access_state.ranges[i], info->client_addr);
    const char *name = trusted ? access_header(r->connection, dash.trust_header, NULL) : NULL;
    if (!name || !*name || strlen(name) >= DASH_WHO || !text_is_utf8(name, strlen(name)))
        return false;
    snprintf(r->who.name, sizeof r->who.name, "%s", name);
    r->who.role = access_admin_named(name) ? DASH_ADMIN : DASH_VIEWER;
    return true;
}

bool access_who(struct dash_request *r)
{
    unsigned n = 0;
    char id[65];
    const char *given = access_header(r->connection, "Authorization", &n);
    const bool bearer = given && strncasecmp(given, "Bearer ", 7) == 0;
    /* Beside a trusted proxy another scheme is what a browser says to that one. */
    if (n > 0 && dash.token_file && (bearer || !given || !dash.trust_header)) {
        const struct access_token *t = bearer ? access_token(given + 7 + strspn(given + 7, " ")) : NULL;
        if (!t)
            return access_wrong(r);
        r->who.role = t->role;
        snprintf(r->who.name, sizeof r->who.name, "%s", t->name);
        return true;
    }
    access_session_of(r->connection, id);
    const struct access_session *s = access_session(id);
    if (s) {
        r->who = s->who;
        return true;
    }
    if (access_proxy(r))
        return true;
    if (access_open()) {
        r->who.role = DASH_ADMIN;
        snprintf(r->who.name, sizeof r->who.name, "local");
        return true;
    }
    if (!r->route->role)
        return true; /* for anybody: to sign in */
    api_fail(r, 401, "EAUTH", "a token is needed");
    return false;
}

static const char *access_origin_host(const char *origin)
{
    if (origin && strncmp(origin, "https://", 8) == 0)
        return origin + 8;
    return origin && strncmp(origin, "http://", 7) == 0 ? origin + 7 : NULL;
}

bool access_change(struct dash_request *r)
{
    unsigned n = 0;
    const char *host = access_header(r->connection, "Host", NULL),
               *origin = access_header(r->connection, "Origin", NULL);
    const char *site = access_header(r->connection, "Sec-Fetch-Site", &n);
    const char *ours = access_header(r->connection, "X-Nanoq-Request", NULL);
    const char *from = access_origin_host(origin);
    if (!from || !host || strcasecmp(from, host) != 0 ||
        (n > 0 && (!site || strcmp(site, "same-origin") != 0))) {
        api_fail(r, 403, "EFORBIDDEN",
                 "a change must come of the dashboard's own pages: its Origin is to be that of this host");
        return false;
    }
    if (!ours || strcmp(ours, "1") != 0) {
        api_fail(r, 403, "EFORBIDDEN", "a change needs the header X-Nanoq-Request: 1");
        return false;
    }
    if (r->route->role == DASH_ADMIN && r->who.role != DASH_ADMIN) {
        api_fail(r, 403, "EFORBIDDEN", "a viewer may change nothing");
        return false;
    }
    if (r->route->role == DASH_ADMIN && dash.read_only) {
        api_fail(r, 403, "EFORBIDDEN", "this dashboard is read-only");
        return false;
    }
    return true;
}
