/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help: the list of commands and the usage of one, from their table; and the manual of one, which is its man page.
 * The pages are part of the program (man/embed.py), so they are there where nothing is installed.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "cli.h"

struct help_page {
	const char *name; /* of the command; "lcpfs": the overview */
	const char *text; /* as mandoc(1) prints it: letters printed twice are bold, those over _ underlined */
};

/* Ends with a NULL name. */
extern const struct help_page help_pages[];

/* They return the exit code. */
int help_list(void);
int help_usage(const struct cli_command *command);
/* At a terminal by a pager. `name`: as in struct help_page; the caller has seen that there is such a page. */
int help_manual(const char *name);
bool help_has_manual(const char *name);

#endif
