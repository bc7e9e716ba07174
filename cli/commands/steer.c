/* SPDX-License-Identifier: MIT */
/* What nanoq retry, cancel and delete share: one call of the library for each id of the command line. */
#include "steer.h"

#include "../text/table.h"

const struct cli_option steer_options[] = {FILTER_OPTIONS, BULK_OPTIONS, CLI_OPTION_FORMAT, CLI_OPTION_DB,
                                           CLI_OPTION_END};

static int steer_state(const nq_info *info, void *udata)
{
    *(int *)udata = (int)info->state;
    return 0;
}

/* What became of it: a task that runs is cancelled later. */
static const char *steer_result(nq *q, const struct steer_verb *verb, nq_id id)
{
    int state = NQ_STATE_CANCELLED;
    if (verb->call == nq_cancel && nq_get(q, id, steer_state, &state, NULL) == NQ_OK &&
        state == NQ_STATE_RUNNING)
        return "will be cancelled";
    return verb->result;
}

static int steer_all(nq *q, const struct steer_verb *verb, const nq_id *ids, size_t n)
{
    static const struct table_column columns[] = {
        {.name = "id", .right = true}, {.name = "result"}, {.name = "error", .machine = true}};
    struct table table;
    int worst = CLI_OK;
    table_start(&table, columns, 3, false);
    for (size_t i = 0; i < n; i++) {
        nq_err err = {0};
        int rc = verb->call(q, ids[i], &err);
        if (rc == NQ_ENOTMIGRATED || rc == NQ_EUNAVAILABLE) {
            worst = cli_worse(worst, cli_fail(&err));
            break; /* the others would only meet the same */
        }
        if (rc != NQ_OK) {
            const char *why = err.message[0] ? err.message : nq_strerror(rc);
            char task[40];
            snprintf(task, sizeof task, "task %lld", (long long)ids[i]);
            if (strstr(why, task)) /* the library's own words say which */
                cli_complain("%s", why);
            else
                cli_complain("%s: %s", task, why);
        }
        worst = cli_worse(worst, cli_exit_of(rc));
        table_int(&table, ids[i]);
        table_text(&table, rc == NQ_OK           ? steer_result(q, verb, ids[i])
                           : rc == NQ_ENOTFOUND  ? "not found"
                           : rc == NQ_ESTATE     ? "wrong state"
                           : rc == NQ_EDUPLICATE ? "duplicate"
                                                 : "failed");
        table_optional(&table, rc == NQ_OK ? NULL : err.message);
        table_row(&table);
    }
    table_finish(&table, worst == CLI_OK);
    return worst;
}

int steer_run(const struct steer_verb *verb, int argc, char **argv)
{
    struct cli_parse parse;
    struct bulk bulk = {.action = verb->action};
    const char *value;
    bool many = false;
    int key;
    cli_parse_start(&parse, verb->command);
    while ((key = cli_parse_next(&parse, argc, argv, &value)) >= 0) {
        many = many || key != BULK_JSON;
        if (!bulk_take(&bulk, key, optarg))
            return CLI_USAGE;
    }
    if (key != CLI_PARSE_END)
        return key == CLI_PARSE_HELP ? CLI_OK : CLI_USAGE;
    if (many && optind < argc)
        return cli_usage("takes ids, or options that say which tasks, and not both: '%s'", argv[optind]);
    if (many)
        return bulk_run(&bulk);
    if (optind >= argc)
        return cli_usage("needs at least one task id, or options that say which tasks");
    size_t n = (size_t)(argc - optind);
    nq_id *ids = cli_alloc(n * sizeof ids[0]);
    nq *q = NULL;
    int exit_code = CLI_OK;
    for (size_t i = 0; i < n; i++) {
        if (!cli_take_id(argv[(size_t)optind + i], &ids[i])) {
            exit_code = CLI_USAGE;
            goto out;
        }
    }
    exit_code = cli_open(&q);
    if (exit_code == CLI_OK)
        exit_code = steer_all(q, verb, ids, n);
out:
    nq_close(q);
    free(ids);
    return exit_code;
}
