/* SPDX-License-Identifier: MIT */
/* nanoq metrics: the gauges of the database, once. */
#include "../cli.h"

#include "nanoq_metrics.h"

static int metrics_write(const char *text, size_t n, void *udata)
{
    (void)udata;
    return fwrite(text, 1, n, stdout) != n;
}

static int metrics_run(int argc, char **argv)
{
    const nq_metrics_options options = {.size = sizeof options, .parts = NQ_METRICS_DATABASE};
    struct cli_parse parse;
    const char *value;
    nq_err err = {0};
    nq *q = NULL;
    cli_parse_start(&parse, &cli_metrics);
    const int key = cli_parse_next(&parse, argc, argv, &value);
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    int exit_code = cli_open(&q);
    if (exit_code != CLI_OK)
        return exit_code;
    const int rc = nq_metrics(q, &options, metrics_write, NULL, &err);
    exit_code = rc == NQ_OK ? CLI_OK : cli_fail(&err);
    nq_close(q);
    return exit_code;
}

static const struct cli_option metrics_options[] = {CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_metrics = {
    .name = "metrics",
    .args = "[OPTION...]",
    .summary = "Print what a Prometheus scrapes of the database",
    .options = metrics_options,
    .notes =
        "Gauges of queues, tasks and workers, in Prometheus' text format: for the textfile collector of its\n"
        "node exporter, or to look at. A worker answers scrapes itself: nanoq work --metrics. "
        "docs/metrics.md.\n",
    .run = metrics_run,
};
