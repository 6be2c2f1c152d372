/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on standard error and interruption. The flag is global because signal handlers have no context. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"

static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

bool cli_interrupted(void)
{
	return interrupted;
}

/*
 * Only once the work asks: before, nothing is there yet that could stop early, and a signal ends the program at
 * once.
 *
 * SA_RESTART: device I/O under way is not to fail for it; poll and nanosleep end all the same. The second signal
 * finds the default action: it always ends.
 */
static void arm(struct cli_progress *progress)
{
	struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND | SA_RESTART};

	if (progress->armed)
		return;
	progress->armed = true;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

void cli_progress_start(struct cli_progress *progress, const struct cli *cli)
{
	*progress = (struct cli_progress){.shown = cli_flag(cli, "progress") || isatty(STDERR_FILENO)};
}

bool cli_progress(void *context, uint64_t done, uint64_t total)
{
	struct cli_progress *progress = context;

	arm(progress);
	if (progress->shown && total && !interrupted) {
		fprintf(stderr, "\r%5.1f %%", 100 * (double)done / (double)total);
		progress->drawn = true;
	}
	return !interrupted;
}

void cli_progress_end(struct cli_progress *progress)
{
	if (progress->drawn)
		fputc('\n', stderr);
}
