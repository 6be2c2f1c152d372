/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of options, a line NAME=VALUE each, as /etc/lcpfs/NAME.conf. systemd reads the same lines as variables of
 * a service's environment (systemd.exec(5), EnvironmentFile), so the form is that: lines that begin with # or ;
 * are comments, a value may be quoted, one that ends in a backslash goes on in the next line. Names in capitals
 * are meant for systemd, and left alone.
 */
#ifndef CLI_CONFIG_H
#define CLI_CONFIG_H

#include <limits.h>

#include "cli.h"

struct config {
	char *text; /* the values that cli_value() gives lie in here */
};

/*
 * Every option that was not given becomes what the file says. An empty value: it is not given there either. A file
 * behind a "-" need not be there. 0, CLI_FAILED or CLI_USAGE; in any case, config_free after the last use of *cli.
 */
int config_read(struct config *config, const char *path, struct cli *cli) MUST_CHECK;
void config_free(struct config *config);
/* The same of a text, which is cut into pieces, and has to stay. */
int config_parse(char *text, const char *path, struct cli *cli) MUST_CHECK;

/* The name of the file in /etc/lcpfs, without .conf, whose POOL is this one, a real path. false: there is none. */
bool config_find_pool(const char *pool_path, char name[NAME_MAX + 1]);

#endif
