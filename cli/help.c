/* SPDX-License-Identifier: Apache-2.0 */
#include "help.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"
#include "show.h"

/* ---- from the table of commands ---- */

int help_list(void)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);
	char left[64];
	printf("lcpfs: a storage pool whose partition boundaries move by themselves\n\n");
	printf("usage: lcpfs COMMAND …    lcpfs help COMMAND    lcpfs --version\n\n");
	for (size_t i = 0; i < count; i++) {
		snprintf(left, sizeof(left), "%-11s%s", commands[i].name, commands[i].operands);
		show_help(32, left, commands[i].help);
	}
	printf("\nPOOL is a file or a block device. Sizes take K, M, G or T (1024).\n"
	       "lcpfs help COMMAND shows the manual of a command, lcpfs help lcpfs an overview.\n");
	return cli_finish_output();
}

int help_usage(const struct cli_command *command)
{
	const struct cli_option *option = command->options;
	char left[64];
	printf("usage: lcpfs %s %s%s\n\n%s\n", command->name, command->operands, option ? " [OPTIONS]" : "",
	       command->help);
	if (option)
		printf("\n");
	for (; option && option->name; option++) {
		char letter[8] = "";
		if (option->letter)
			snprintf(letter, sizeof(letter), "-%c, ", option->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, option->name, option->value ? " " : "",
			 option->value ? option->value : "");
		show_help(24, left, option->help);
	}
	printf("\nlcpfs help %s shows its manual.\n", command->name);
	return cli_finish_output();
}

/* ---- the manual ---- */

static const char *page_text(const char *name)
{
	const struct help_page *page = help_pages;
	while (page->name && strcmp(page->name, name) != 0)
		page++;
	return page->text;
}

bool help_has_manual(const char *name)
{
	return page_text(name) != NULL;
}

/* Of letters that are printed over each other only the last one counts where they cannot be. */
static void print_page(FILE *to, const char *text, bool is_plain)
{
	for (; *text; text++) {
		if (is_plain && text[1] == '\b')
			text++;
		else
			putc(*text, to);
	}
}

/* As git has it: what PAGER says, else less(1), which ends by itself where all fits. NULL: none. */
static FILE *open_pager(void)
{
	const char *pager = getenv("PAGER");
	if (!pager)
		pager = program_exists("less") ? "less" : "";
	if (!*pager || !strcmp(pager, "cat"))
		return NULL;
	setenv("LESS", "FRX", 0);
	return popen(pager, "we");
}

/* false: it could not be run. Who leaves it before the end has seen enough, and its keys are not for us. */
static bool page_through(FILE *pager, const char *text, bool is_plain)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	print_page(pager, text, is_plain);
	int status = pclose(pager);
	return !WIFEXITED(status) || WEXITSTATUS(status) < 126;
}

int help_manual(const char *name)
{
	const char *text = page_text(name);
	bool is_terminal = isatty(fileno(stdout)), is_plain = !is_terminal || getenv("NO_COLOR");
	FILE *pager = is_terminal ? open_pager() : NULL;

	if (!pager || !page_through(pager, text, is_plain))
		print_page(stdout, text, is_plain);
	return cli_finish_output();
}
