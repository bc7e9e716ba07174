/* SPDX-License-Identifier: MIT */
/* Command lines of nanoq, run in this process: a line of the input is an argument. No database opens (nq_open
 * is wrapped), so each ends at its options, its arguments, or there. */
#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>

#include "../../cli/cli.h"

#define ARGS_MOST   24
#define ARGS_SECRET "s3cr3t-w0rd"

int cli_main(int argc, char **argv);
int __wrap_nq_open(nq **out, const char *url, const nq_options *options, nq_err *err);
bool __real_log_start(int verbosity, bool json);
bool __wrap_log_start(int verbosity, bool json);

static unsigned args_complaints;
static bool args_say_null;

int __wrap_nq_open(nq **out, const char *url, const nq_options *options, nq_err *err)
{
    (void)out, (void)options;
    FUZZ_CHECK(url);
    if (err)
        *err = (nq_err){.code = NQ_EUNAVAILABLE, .message = "no database here"};
    return NQ_EUNAVAILABLE;
}

static void args_complain(const char *message)
{
    args_complaints++;
    FUZZ_CHECK(message[0] != '\0' && (args_say_null || !strstr(message, "(null)")));
    FUZZ_CHECK(!strstr(message, "://u:" ARGS_SECRET "@"));
}

/* work has its own way to complain. */
bool __wrap_log_start(int verbosity, bool json)
{
    const bool terminal = __real_log_start(verbosity, json);
    cli.complain = args_complain;
    return terminal;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool silent;
    if (!silent) { /* the helps */
        silent = freopen("/dev/null", "w", stdout);
        FUZZ_CHECK(silent && setenv("PATH", "/none", 1) == 0); /* dashboard would become another program */
    }
    FUZZ_CHECK(setenv("NANOQ_DB", "mysql://u:" ARGS_SECRET "@h/d", 1) == 0); /* it sets that too */
    const char *argv[ARGS_MOST + 2] = {"nanoq"};
    char *text = fuzz_text(data, size), *own[ARGS_MOST + 2] = {0};
    int argc = 1;
    for (char *word = text, *end; word && argc < ARGS_MOST; word = end) {
        end = strchr(word, '\n');
        if (end)
            *end++ = '\0';
        argv[argc++] = word;
    }
    for (int i = 0; i < argc; i++) { /* main writes over passwords in them */
        own[i] = strdup(argv[i]);
        FUZZ_CHECK(own[i]);
    }
    cli = (struct cli_settings){.complain = args_complain};
    args_complaints = 0;
    args_say_null = fuzz_says_null(data, size);
    struct sigaction rings; /* libFuzzer's alarm; complete has one that ends the process */
    struct itimerval timer;
    FUZZ_CHECK(sigaction(SIGALRM, NULL, &rings) == 0 && getitimer(ITIMER_REAL, &timer) == 0);
    const int exit_code = cli_main(argc, own);
    FUZZ_CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0 && sigaction(SIGALRM, &rings, NULL) == 0);
    FUZZ_CHECK(exit_code == CLI_OK || exit_code == CLI_USAGE || exit_code == CLI_FAILURE ||
               exit_code == CLI_UNAVAILABLE || exit_code == CLI_NOT_FOUND || exit_code == CLI_DUPLICATE);
    FUZZ_CHECK(exit_code != CLI_OK || args_complaints == 0);
    FUZZ_CHECK(exit_code != CLI_USAGE || args_complaints > 0);
    for (int i = 0; i < argc; i++)
        free(own[i]);
    free(text);
    return 0;
}
