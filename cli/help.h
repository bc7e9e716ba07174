/* SPDX-License-Identifier: MIT */
/* The topics of the help, and all of the help for programs. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "cli.h"

/* Print the topics, a line each; the exit codes, likewise. */
void help_topics(void);
void help_exits(void);
/* Print a topic; false: there is none of that name. */
bool help_topic(const char *name);
/* Say on stderr that name is no topic either, and what there is. */
void help_no_topic(const char *name);
/* Print commands, topics, exit codes and version as one object of JSON. */
void help_json(const struct cli_command *const commands[], size_t n);

#endif
