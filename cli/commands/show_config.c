/* SPDX-License-Identifier: MIT */
/* nanoq config: what holds, and who said so. */
#include "../cli.h"
#include "../text/table.h"

static const struct table_column config_columns[] = {
    {.name = "key"}, {.name = "value"}, {.name = "source"}, {.name = "variable", .machine = true}};

static void config_row(struct table *t, const char *key, const char *value, const char *source,
                       const char *variable)
{
    char *shown = value ? cli_format("%s", value) : NULL;
    if (shown)
        cli_hide_password(shown);
    table_text(t, key);
    table_optional(t, shown);
    table_text(t, source);
    table_optional(t, variable);
    table_row(t);
    free(shown);
}

/* What holds where nobody says anything; NULL: the command decides (jobs). */
static const char *config_default(enum cli_config_key key)
{
    switch (key) {
    case CLI_CONFIG_FORMAT:
        return "table";
    case CLI_CONFIG_QUEUE:
        return "default";
    case CLI_CONFIG_LOG:
        return "text";
    default:
        return NULL;
    }
}

static void config_print(bool format_said)
{
    static const char *const formats[] = {[CLI_TABLE] = "table", [CLI_JSON] = "json", [CLI_TSV] = "tsv"};
    struct table table;
    const char *path, *from, *state;
    char *own = cli_own_url();
    table_start(&table, config_columns, sizeof config_columns / sizeof config_columns[0], false);
    for (size_t i = 0; i < CLI_CONFIG_COUNT; i++) {
        const enum cli_config_key key = (enum cli_config_key)i;
        const char *value = cli_configured(key, &from);
        if (key == CLI_CONFIG_DB && cli.db) {
            value = cli.db;
            from = "--db";
        } else if (key == CLI_CONFIG_FORMAT && format_said) {
            value = formats[cli.format];
            from = "--format";
        } else if (!value) {
            value = key == CLI_CONFIG_DB ? own : config_default(key);
            from = "default";
        }
        config_row(&table, cli_config_rows[i].key, value, from, cli_config_rows[i].variable);
    }
    for (size_t i = 0; (path = cli_config_file(i, &from, &state)); i++) {
        char *source = cli_format("%s: %s", from, state);
        config_row(&table, "config", path, source, "NANOQ_CONFIG");
        free(source);
    }
    table_finish(&table, true);
    free(own);
}

static int config_run(int argc, char **argv)
{
    struct cli_parse parse;
    const char *value;
    int key;
    cli_parse_start(&parse, &cli_config);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0)
        ;
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (optind < argc)
        return cli_usage("takes no argument '%s'", argv[optind]);
    config_print(cli.format_said);
    return CLI_OK;
}

static const struct cli_option config_options[] = {CLI_OPTION_FORMAT, CLI_OPTION_DB, CLI_OPTION_END};
const struct cli_command cli_config = {
    .name = "config",
    .args = "[OPTION...]",
    .summary = "Show the configuration that holds, and where each value comes from",
    .options = config_options,
    .notes =
        "The command line goes before the environment, that before ~/.config/nanoq/config, that "
        "before\n/etc/nanoq/config. No password is shown, and no database is opened. nanoq help config\n",
    .run = config_run,
};
