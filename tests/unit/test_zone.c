/* SPDX-License-Identifier: MIT */
/* zone.c, cron.c: zones and firings against libc's, the table of changes of the clocks, and hostile input.
 * NQ_TEST_ZONES=all
 * CK_TIMEOUT_MULTIPLIER=10 compares every zone of the system and more firings. */
#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../../src/core/zone.h"
#include "unit.h"

static bool zone_all(void)
{
    const char *all = getenv("NQ_TEST_ZONES");
    return all && strcmp(all, "all") == 0;
}

/* "2026-03-29 01:00:00": UTC. */
static int64_t at(const char *text)
{
    int v[6] = {0};
    ck_assert_int_ge(sscanf(text, "%d-%d-%d %d:%d:%d", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]), 5);
    return (nq_days_from_civil(v[0], v[1], v[2]) * 86400 + v[3] * 3600 + v[4] * 60 + v[5]) * 1000000;
}

/* ---- Specs ---- */

static void next_is(const char *spec, const char *zone, const char *after, const char *expect)
{
    int64_t next = -1;
    char got[28] = "";
    nq_err err = {0};
    ck_assert_msg(nq_cron_next(spec, zone, at(after), &next, &err) == NQ_OK, "%s: %s", spec, err.message);
    nq_format_time(next, got);
    ck_assert_msg(next == at(expect), "'%s' in %s after %s: %s, not %s", spec, zone ? zone : "UTC", after,
                  got, expect);
}

START_TEST(good_specs)
{
    static const struct {
        const char *spec, *after, *expect;
    } cases[] = {
        {"* * * * *", "2026-01-31 12:00", "2026-01-31 12:01"},
        {"0 12 * * *", "2026-01-31 12:00", "2026-02-01 12:00"},
        {"0 12 * * *", "2026-01-31 11:59:59", "2026-01-31 12:00"},
        {"*/15 9-17 * * mon-fri", "2026-01-30 17:45", "2026-02-02 09:00"},
        {"5/20 * * * *", "2026-01-31 12:00", "2026-01-31 12:05"},
        {"5/20 * * * *", "2026-01-31 12:45", "2026-01-31 13:05"},
        {"7-7/2 0 * * *", "2026-01-31 12:00", "2026-02-01 00:07"},
        {"1,3,5-9/2 4 * * *", "2026-01-31 04:05", "2026-01-31 04:07"},
        {"0 0 1 JAN,Jul *", "2026-01-31 12:00", "2026-07-01 00:00"},
        {"0 0 * * 7", "2026-01-31 12:00", "2026-02-01 00:00"},
        {"0 0 * * fri-sun", "2026-02-02 12:00", "2026-02-06 00:00"},
        {"0 0 * * 0-0", "2026-02-02 12:00", "2026-02-08 00:00"},
        {"0 0 * * sun-sun", "2026-02-02 12:00", "2026-02-08 00:00"},
        {"0 0 * * 0-7", "2026-02-02 12:00", "2026-02-03 00:00"},
        {"0 0 13 * 5", "2026-02-01 00:00", "2026-02-06 00:00"}, /* the 13th, or a Friday */
        {"0 0 13 * 5", "2026-03-06 00:00", "2026-03-13 00:00"},
        {"0 0 */2 * 5", "2026-02-01 00:00", "2026-02-13 00:00"}, /* begins with a star: both */
        {"59 23 29 2 *", "2096-03-01 00:00", "2104-02-29 23:59"},
        {"0 0 29 2 mon", "2026-01-01 00:00", "2026-02-02 00:00"},
        {"0 0 29 2 */7", "2026-01-01 00:00", "2032-02-29 00:00"},
        {"  0\t12  * * * ", "2026-01-31 12:00", "2026-02-01 12:00"},
        {"@hourly", "2026-01-31 12:00", "2026-01-31 13:00"},
        {"@daily", "2026-01-31 12:00", "2026-02-01 00:00"},
        {"@midnight", "2026-01-31 12:00", "2026-02-01 00:00"},
        {"@weekly", "2026-01-31 12:00", "2026-02-01 00:00"},
        {"@monthly", "2026-01-31 12:00", "2026-02-01 00:00"},
        {"@yearly", "2026-01-31 12:00", "2027-01-01 00:00"},
        {"@annually", "2026-01-31 12:00", "2027-01-01 00:00"},
        {"@every 90s", "2026-01-31 12:00", "2026-01-31 12:01:30"},
        {"@every 1h30m", "2026-01-31 12:00", "2026-01-31 13:30"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        next_is(cases[i].spec, NULL, cases[i].after, cases[i].expect);
}
END_TEST

static void fails(const char *spec, const char *zone, int64_t after, int code, const char *part)
{
    int64_t next = 42;
    nq_err err = {0};
    const int rc = nq_cron_next(spec, zone, after, &next, &err);
    ck_assert_msg(rc == code && err.code == code, "'%s' in '%s': %d %s", spec, zone, rc, err.message);
    ck_assert_int_eq(next, 42);
    ck_assert_msg(strstr(err.message, part), "'%s' in '%s': %s", spec, zone, err.message);
}

START_TEST(bad_specs)
{
    static const struct {
        const char *spec, *part;
    } cases[] = {
        {NULL, "empty"},
        {"", "empty"},
        {" ", "minute is missing"},
        {"* * * *", "weekday is missing"},
        {"60 * * * *", "minute is '60'"},
        {"* 24 * * *", "hour is '24'; allowed are *, 0-23"},
        {"* * 0 * *", "day is '0'"},
        {"* * 32 * *", "day is '32'"},
        {"* * * 13 *", "1-12 or jan-dec"},
        {"* * * * 8", "weekday is '8'"},
        {"* * * * monday", "weekday is 'monday'"},
        {"5-1 * * * *", "'5-1'"},
        {"*/0 * * * *", "'*/0'"},
        {"*/ * * * *", "'*/'"},
        {"1,,2 * * * *", "'1,,2'"},
        {", * * * *", "','"},
        {"-1 * * * *", "'-1'"},
        {"1- * * * *", "'1-'"},
        {"99999999999 * * * *", "minute"},
        {"*/99999999999 * * * *", "minute"},
        {"+1 * * * *", "'+1'"},
        {"? * * * *", "'?'"},
        {"* * L * *", "'L'"},
        {"* * * * fri#2", "'fri#2'"},
        {"0 0 * * * *", "behind the five"},
        {"* * * * *\n", "weekday"},
        {"@reboot", "@reboot is no time"},
        {"@every", "duration"},
        {"@every 1ms", "100ms at least"},
        {"@every -5s", "negative"},
        {"@every 5s 6s", "duration"},
        {"@hourly 5", "allowed are five"},
        {"@sometimes", "allowed are five"},
        {"@", "allowed are five"},
        {"0 0 31 2 *", "never comes"},
        {"0 0 30 2 *", "never comes"},
        {"\x1b[31m * * * *", "\\x1b"},
    };
    char longest[400];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        fails(cases[i].spec, NULL, 0, NQ_EINVAL, cases[i].part);
    memset(longest, ' ', sizeof longest);
    memcpy(longest + sizeof longest - 10, "* * * * *", 10);
    fails(longest, NULL, 0, NQ_EINVAL, "more than 255 bytes");
    fails("* * * * *", NULL, -1, NQ_EINVAL, "after_us");
    fails("* * * * *", NULL, INT64_MAX, NQ_EINVAL, "after_us");
    ck_assert_int_eq(nq_cron_next("* * * * *", NULL, 0, NULL, NULL), NQ_EINVAL);
    next_is("0 0 1 1 *", NULL, "9999-12-31 23:59:59", "10000-01-01 00:00");
}
END_TEST

/* ---- Changes of the clocks: the table of docs/schedules.md ---- */

START_TEST(clocks_that_change)
{
    static const struct {
        const char *spec, *zone, *after, *times[4];
    } cases[] = {
        /* Berlin, 29 March 2026: 02:00 to 03:00 do not exist. */
        {"30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", {"2026-03-29 01:00", "2026-03-30 00:30"}},
        {"0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", {"2026-03-29 01:00", "2026-03-30 00:00"}},
        {"0 3 * * *", "Europe/Berlin", "2026-03-28 12:00", {"2026-03-29 01:00", "2026-03-30 01:00"}},
        {"*/30 * * * *",
         "Europe/Berlin",
         "2026-03-29 00:00",
         {"2026-03-29 00:30", "2026-03-29 01:00", "2026-03-29 01:30"}},
        /* 25 October: 02:00 to 03:00 come twice. */
        {"30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", {"2026-10-25 00:30", "2026-10-26 01:30"}},
        {"0 3 * * *", "Europe/Berlin", "2026-10-24 12:00", {"2026-10-25 02:00", "2026-10-26 02:00"}},
        {"30 * * * *",
         "Europe/Berlin",
         "2026-10-24 23:40",
         {"2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"}},
        {"30 2 * * *", "America/New_York", "2026-03-07 12:00", {"2026-03-08 07:00", "2026-03-09 06:30"}},
        {"30 1 * * *", "America/New_York", "2026-10-31 12:00", {"2026-11-01 05:30", "2026-11-02 06:30"}},
        /* Lord Howe changes by half an hour: 02:00 to 02:30 do not exist, 01:30 to 02:00 come twice. */
        {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", {"2026-10-03 15:30", "2026-10-04 15:15"}},
        {"45 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", {"2026-04-04 14:45", "2026-04-05 15:15"}},
        /* Samoa had no 30 December 2011. */
        {"0 12 * * *", "Pacific/Apia", "2011-12-29 23:00", {"2011-12-30 10:00", "2011-12-30 22:00"}},
        /* Far behind the transitions that the file lists. */
        {"30 2 * * *", "Europe/Berlin", "2150-03-28 12:00", {"2150-03-29 01:00", "2150-03-30 00:30"}},
        {"30 2 * * *", "UTC", "2026-03-28 12:00", {"2026-03-29 02:30", "2026-03-30 02:30"}},
        {"30 2 * * *", "", "2026-03-28 12:00", {"2026-03-29 02:30"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *after = cases[i].after;
        for (size_t k = 0; k < 4 && cases[i].times[k]; k++) {
            next_is(cases[i].spec, cases[i].zone, after, cases[i].times[k]);
            after = cases[i].times[k];
        }
    }
}
END_TEST

/* ---- Names, directories, files ---- */

/* The last of the times that are past, against all of them one by one. */
START_TEST(times_that_are_past)
{
    static const char *const specs[] = {"* * * * *",    "*/7 * * * *",      "30 2 * * *",
                                        "0 0 1 * *",    "5,6,50 3-4 * 1 *", "@every 90s",
                                        "@every 100ms", "@every 36h",       "0 12 29 2 *"};
    static const char *const zones[] = {"UTC", "Europe/Berlin", "Australia/Lord_Howe"};
    static const int64_t spans[] = {0,          NQ_SECONDS(1), NQ_MINUTES(59), NQ_HOURS(3),
                                    NQ_DAYS(1), NQ_DAYS(40),   NQ_DAYS(800)};
    static const size_t maxes[] = {1, 2, 7, 100};
    for (size_t i = 0; i < sizeof specs / sizeof *specs * (sizeof zones / sizeof *zones); i++)
        for (size_t k = 0; k < sizeof spans / sizeof *spans * (sizeof maxes / sizeof *maxes); k++) {
            const size_t max = maxes[k % 4];
            int64_t got[100], ring[100], next = 0, due = at("2026-03-01 00:30:00"), now;
            size_t all = 0;
            nq_cron c;
            nq_zone z;
            ck_assert_int_eq(nq_cron_parse(&c, specs[i / 3], NULL), NQ_OK);
            ck_assert_int_eq(nq_zone_load(&z, zones[i % 3], NULL), NQ_OK);
            due = nq_cron_first(&c, &z, due, 0);
            now = due + spans[k / 4];
            if (spans[k / 4] > NQ_DAYS(40) && c.every_us == NQ_MS(100))
                now = due + NQ_DAYS(1);
            const size_t n = nq_cron_past(&c, &z, due, now, got, max, &next);
            int64_t t = due;
            for (; t <= now; t = nq_cron_after(&c, &z, t))
                ring[all++ % max] = t;
            ck_assert_msg(n == (all < max ? all : max), "%s: %zu of %zu", specs[i / 3], n, all);
            ck_assert_int_eq(next, t);
            for (size_t m = 0; m < n; m++)
                ck_assert_msg(got[m] == ring[(all - n + m) % max], "%s %s: %zu of %zu", specs[i / 3],
                              zones[i % 3], m, n);
            nq_zone_free(&z);
        }
}
END_TEST

START_TEST(bad_zones)
{
    static const char *const bad[] = {"../../etc/passwd",
                                      "/etc/localtime",
                                      "Europe/../Europe/Berlin",
                                      ".",
                                      "Europe//Berlin",
                                      "Europe/",
                                      "Europe/Ber lin",
                                      "\x1b[31m",
                                      "Europe/Berlin\n",
                                      "a.tab",
                                      "%s",
                                      "0123456789012345678901234567890123456789012345678901234567890"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        fails("* * * * *", bad[i], 0, NQ_EINVAL, "no name of a time zone");
    fails("* * * * *", "Europe/Berlim", 0, NQ_EINVAL, "there is no time zone 'Europe/Berlim'");
    fails("* * * * *", "Europe", 0, NQ_EINVAL, "is no time zone");
    fails("* * * * *", "UTC/x", 0, NQ_EINVAL, "there is no time zone");
}
END_TEST

static void put(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert(fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

START_TEST(zone_files)
{
    char dir[] = "/tmp/nanoq-zone-XXXXXX", path[200], bytes[65536];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");
    ck_assert_ptr_nonnull(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    snprintf(path, sizeof path, "%s/none", dir);
    ck_assert_int_eq(setenv("TZDIR", path, 1), 0);
    fails("* * * * *", "Europe/Berlin", 0, NQ_ESYSTEM, "no zone files at");
    next_is("0 12 * * *", "UTC", "2026-01-31 12:00", "2026-02-01 12:00");
    ck_assert_int_eq(setenv("TZDIR", dir, 1), 0);
    fails("* * * * *", "Mine", 0, NQ_EINVAL, "there is no time zone 'Mine' in /tmp/");
    put(dir, "Mine", bytes, n);
    next_is("0 12 * * *", "Mine", "2026-07-01 09:00", "2026-07-01 10:00");
    ck_assert_int_gt(nq_zone_changed("Mine"), 0);
    ck_assert_int_eq(nq_zone_changed("None"), 0);
    ck_assert_int_eq(nq_zone_changed("UTC"), 0);
    for (size_t cut = 0; cut < n - 2;
         cut += 1 + cut / 20) { /* whole but for its last line feed, it can be read */
        put(dir, "Cut", bytes, cut);
        fails("* * * * *", "Cut", 0, NQ_EINVAL, "cannot be used");
    }
    put(dir, "Text", "hello\n", 6);
    fails("* * * * *", "Text", 0, NQ_EINVAL, "cannot be used");
    snprintf(path, sizeof path, "%s/Pipe", dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    fails("* * * * *", "Pipe", 0, NQ_EINVAL, "no file at all");
    static const char *const names[] = {"Mine", "Cut", "Text", "Pipe", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        remove(path);
    }
}
END_TEST

/* ---- libc as an oracle ---- */

static long compared;

static int32_t libc_offset(int64_t utc)
{
    const time_t t = (time_t)utc;
    struct tm tm;
    localtime_r(&t, &tm);
    compared++;
    return (int32_t)tm.tm_gmtoff;
}

static void libc_zone(const char *name)
{
    setenv("TZ", name, 1);
    tzset();
}

static void offsets_are_libcs(const char *name, int64_t step)
{
    nq_zone z;
    nq_err err = {0};
    ck_assert_msg(nq_zone_load(&z, name, &err) == NQ_OK, "%s", err.message);
    libc_zone(name);
    for (int64_t t = -2000000000; t < 4200000000; t += step)
        ck_assert_msg(nq_zone_offset(&z, t) == libc_offset(t), "%s at %lld", name, (long long)t);
    for (size_t i = 0; i < z.n; i++)
        for (int64_t t = z.at[i].utc - 1; t <= z.at[i].utc + 1; t++)
            ck_assert_msg(t < -2000000000 || nq_zone_offset(&z, t) == libc_offset(t), "%s at %lld", name,
                          (long long)t);
    nq_zone_free(&z);
}

/* Every zone below a directory, one of `every`. */
static long offsets_below(const char *below, long every, long *n)
{
    char path[400], name[300], magic[4];
    snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", below);
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (const struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.' || strcmp(e->d_name, "right") == 0 || strcmp(e->d_name, "posix") == 0)
            continue;
        snprintf(name, sizeof name, "%.100s%s%.150s", below, *below ? "/" : "", e->d_name);
        snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            offsets_below(name, every, n);
            continue;
        }
        FILE *f = fopen(path, "rb");
        const bool is = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "TZif", 4) == 0;
        if (f)
            fclose(f);
        if (is && (*n)++ % every == 0)
            offsets_are_libcs(name, every == 1 ? 86400 * 20 + 3571 : 86400 * 200 + 3571);
    }
    closedir(d);
    return *n;
}

START_TEST(offsets)
{
    long n = 0;
    offsets_below("", zone_all() ? 1 : 9, &n);
    ck_assert_int_gt(n, 100);
    printf("%ld zones, %ld offsets compared with libc's\n", n, compared);
}
END_TEST

/* Firings minute by minute, from the local times that libc says. */
#define ORACLE_DAYS 120
struct oracle {
    int64_t from, to; /* whole days, less than ORACLE_DAYS */
    int32_t offset[ORACLE_DAYS * 1440];
    unsigned char seen[(ORACLE_DAYS + 4) * 1440];
};

static void oracle_zone(struct oracle *o, const char *zone, int64_t from, int64_t to)
{
    libc_zone(zone);
    o->from = from;
    o->to = to;
    for (int64_t t = from; t < to; t += 60)
        o->offset[(t - from) / 60] = libc_offset(t);
}

static bool oracle_day(const nq_cron *c, int64_t days)
{
    const time_t t = (time_t)(days * 86400);
    struct tm tm;
    gmtime_r(&t, &tm);
    const bool of_month = c->days >> tm.tm_mday & 1, of_week = c->weekdays >> tm.tm_wday & 1;
    return (c->months >> (tm.tm_mon + 1) & 1) &&
           (c->any_day || c->any_weekday ? of_month && of_week : of_month || of_week);
}

/* Does a wall clock that went from the label `first` on to `last` fire? */
static bool oracle_fires(struct oracle *o, const nq_cron *c, int64_t first, int64_t last)
{
    bool fires = false;
    for (int64_t label = first; label <= last; label += 60) {
        const int64_t days = nq_floor_div(label, 86400), minute = (label - days * 86400) / 60;
        unsigned char *seen = &o->seen[(days - o->from / 86400 + 2) * 1440 + minute];
        if (!(c->hours >> (minute / 60) & 1) || !(c->minutes >> (minute % 60) & 1) || !oracle_day(c, days) ||
            (*seen && !c->elapsed))
            continue;
        *seen = 1;
        fires = true;
    }
    return fires;
}

static long oracle_run(struct oracle *o, const char *zone, const char *spec)
{
    nq_cron c;
    nq_zone z;
    long n = 0;
    int64_t label = INT64_MIN;
    memset(o->seen, 0, sizeof o->seen);
    ck_assert(nq_cron_parse(&c, spec, NULL) == NQ_OK && nq_zone_load(&z, zone, NULL) == NQ_OK);
    int64_t next = nq_cron_after(&c, &z, o->from * 1000000 - 1);
    for (int64_t t = o->from; t < o->to; t += 60) {
        const int64_t local = t + o->offset[(t - o->from) / 60];
        const bool gap = !c.elapsed && label != INT64_MIN && local - label > 60;
        const bool fires = oracle_fires(o, &c, gap ? label + 60 : local, local);
        label = local;
        ck_assert_msg(fires == (next == t * 1000000), "%s '%s': %s at %lld", zone, spec,
                      fires ? "does not fire" : "fires", (long long)t);
        n += fires;
        if (fires)
            next = nq_cron_after(&c, &z, next);
    }
    nq_zone_free(&z);
    return n;
}

START_TEST(firings)
{
    static const char *const zones[] = {"Europe/Berlin",     "Australia/Lord_Howe", "America/New_York",
                                        "America/St_Johns",  "Asia/Kolkata",        "UTC",
                                        "Africa/Casablanca", "Asia/Tehran",         "Pacific/Apia",
                                        "Europe/Dublin",     "Antarctica/Troll",    "America/Asuncion"};
    static const char *const specs[] = {"30 2 * * *",     "0,30 2 * * *", "*/15 * * * *",
                                        "30 1-3 * * sun", "0 0 * * *",    "15 1 * * *",
                                        "5 * * * *",      "0 3 * * *",    "0 12 1,15 * mon",
                                        "45 23 31 * *",   "59 23 29 2 *", "*/20 0-5 * 3,10,11 *"};
    static const int spans[][5] = {
        {2026, 3, 1, 4, 15}, {2026, 9, 20, 11, 10}, {2051, 3, 1, 4, 15}, {2051, 9, 20, 11, 10}};
    struct oracle *o = malloc(sizeof *o);
    long n = 0;
    ck_assert_ptr_nonnull(o);
    for (size_t z = 0; z < (zone_all() ? sizeof zones / sizeof *zones : 3); z++)
        for (size_t s = 0; s < (zone_all() ? 4 : 2); s++) {
            const int *d = spans[s];
            oracle_zone(o, zones[z], nq_days_from_civil(d[0], d[1], d[2]) * 86400,
                        nq_days_from_civil(d[0], d[3], d[4]) * 86400);
            for (size_t i = 0; i < (zone_all() ? sizeof specs / sizeof *specs : 4); i++)
                n += oracle_run(o, zones[z], specs[i]);
        }
    free(o);
    printf("%ld firings as libc says\n", n);
    ck_assert_int_gt(n, 1000);
}
END_TEST

UNIT_MAIN("zone", good_specs, bad_specs, clocks_that_change, times_that_are_past, bad_zones, zone_files,
          offsets, firings)
