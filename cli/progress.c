/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on standard error and interruption. The flag is global because signal handlers have no context. */
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { TERMINAL_MS = 200, FILE_MS = 2000 }; /* between two drawings; each is a line of its own in a file */

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

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
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
	*progress = (struct cli_progress){.terminal = isatty(STDERR_FILENO), .asked = cli_flag(cli, "progress")};
	progress->drawn_ms = now_ms();
}

static void draw(struct cli_progress *progress, double percent)
{
	fprintf(stderr, progress->terminal ? "\r%5.1f %%" : "%5.1f %%\n", percent);
	progress->drawn_ms = now_ms();
	progress->drawn = true;
}

/* Short work shows nothing at a terminal. What was never asked to be drawn is not drawn at all. */
bool cli_progress(void *context, uint64_t done, uint64_t total)
{
	struct cli_progress *progress = context;
	uint64_t pause_ms = progress->terminal ? TERMINAL_MS : FILE_MS;
	bool shown = progress->terminal || progress->asked;
	arm(progress);
	if (shown && total && !interrupted && now_ms() - progress->drawn_ms >= pause_ms)
		draw(progress, done < total ? 100 * (double)done / (double)total : 100);
	return !interrupted;
}

void cli_progress_end(struct cli_progress *progress, bool done)
{
	if (done && (progress->drawn || progress->asked))
		draw(progress, 100);
	if (progress->drawn && progress->terminal)
		fputc('\n', stderr);
	progress->drawn = progress->asked = false;
}
