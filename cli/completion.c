/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion for bash, written from the table of commands itself: commands, options, values that are one of few,
 * and the names of a pool's partitions, which the command is asked for.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "control/property.h"

/* What a value in the help stands for; what is not here is free text. */
static const struct {
	const char *command, *option, *words; /* command NULL: any */
} values[] = {
	{"serve", "tls", "off on require"},
	{NULL, "tune", "off observe on"},
	{NULL, "method", "nbd fuse"},
	{NULL, "when-full", "error wait=60s"},
	{"list", "columns", "name used referenced written length created state"},
	{NULL, "columns", "partition property value source"},
	{NULL, "format", "prometheus openmetrics"},
};

static const struct {
	const char *operand, *words;
} operand_words[] = {
	{"MODE", "off observe on"},
	{"WHAT", "label uberblocks map partition block"},
	{"bash", "bash"},
};

static const char *value_words(const char *command, const char *option)
{
	for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
		const char *of = values[i].command;
		if ((!of || !strcmp(of, command)) && !strcmp(values[i].option, option))
			return values[i].words;
	}
	return NULL;
}

static bool is_path(const char *value)
{
	return !strcmp(value, "PATH") || !strcmp(value, "FILE") || !strcmp(value, "DIR") ||
	       !strcmp(value, "PROGRAM");
}

static void print_options(const struct cli_command *command)
{
	printf("--help");
	for (const struct cli_option *o = command->options; o && o->name; o++)
		printf(" --%s", o->name);
}

/* What may follow an option that takes a value. */
static void print_values(const struct cli_command *command)
{
	for (const struct cli_option *o = command->options; o && o->name; o++) {
		const char *words = value_words(command->name, o->name);
		if (!o->value)
			continue;
		printf("\t%s:--%s) ", command->name, o->name);
		if (words)
			printf("_lcpfs_words '%s'", words);
		else if (is_path(o->value))
			printf("_lcpfs_files");
		else
			printf(":"); /* a number or the like */
		printf("; return ;;\n");
	}
}

/* Of the table's "POOL NAME [MODE]" one word: without brackets. */
static void print_operand(const char *command, int place, const char *name, size_t length)
{
	if (length == 8 && !strncmp(name, "PROPERTY", length)) { /* and all that follow */
		printf("\t%s:*) _lcpfs_words '", command);
		for (const struct property *p = property_list(); p->name; p++)
			printf("%s%s", p == property_list() ? "" : " ", p->name);
		printf("' ;;\n");
		return;
	}
	if (!strncmp(name, "KEY=VALUE", length)) { /* and all that follow */
		printf("\t%s:*) _lcpfs_keys ;;\n", command);
		return;
	}
	if (!strcmp(command, "clone") && place == 2) {
		printf("\t%s:%d) _lcpfs_snapshots ;;\n", command, place);
		return;
	}
	if (!strncmp(name, "NAME@SNAP", 9)) { /* and all that follow: bash cuts words at @ */
		printf("\t%s:*) _lcpfs_%s ;;\n", command,
		       !strcmp(command, "snapshot")  ? "of_partition"
		       : !strcmp(command, "destroy") ? "snapshots bookmarks"
						     : "snapshots");
		return;
	}
	printf("\t%s:%d) ", command, place);
	for (size_t i = 0; i < ARRAY_LENGTH(operand_words); i++) {
		const char *operand = operand_words[i].operand;
		if (strlen(operand) == length && !strncmp(operand, name, length)) {
			printf("_lcpfs_words '%s' ;;\n", operand_words[i].words);
			return;
		}
	}
	if (length == 4 && !strncmp(name, "POOL", length))
		printf("_lcpfs_files ;;\n");
	else if (length == 4 && !strncmp(name, "NAME", length) && strcmp(command, "add") != 0)
		printf("_lcpfs_partitions ;;\n");
	else
		printf(": ;;\n");
}

static void print_operands(const struct cli_command *command)
{
	const char *at = command->operands;
	for (int place = 1; *at; place++) {
		at += strspn(at, " []");
		size_t length = strcspn(at, " []");
		if (length)
			print_operand(command->name, place, at, length);
		at += length + strspn(at + length, " []");
	}
}

static const char head[] =
	"# bash completion for lcpfs; written by: lcpfs completion bash\n"
	"\n"
	"_lcpfs_words() { COMPREPLY=($(compgen -W \"$1\" -- \"$cur\")); }\n"
	"_lcpfs_files() { compopt -o default 2>/dev/null; } # as bash does it by itself\n"
	"_lcpfs_keys() { compopt -o nospace 2>/dev/null; _lcpfs_words 'min= max= volume= name= when-full= "
	"snapshots='; }\n"
	"# The first operand is the pool. One that does not answer at once has no names.\n"
	"_lcpfs_partitions() {\n"
	"\t_lcpfs_words \"$(timeout 2 \"${COMP_WORDS[0]}\" list \"${operands[0]/#\\~/$HOME}\" --json \\\n"
	"\t\t2>/dev/null | grep -o '\"name\":\"[^\"]*\"' | cut -d '\"' -f 4)\"\n"
	"}\n"
	"_lcpfs_of_partition() {\n"
	"\tcompopt -o nospace 2>/dev/null\n"
	"\t_lcpfs_partitions\n"
	"\tCOMPREPLY=(${COMPREPLY[@]/%/@})\n"
	"}\n"
	"# What readline replaces begins behind the @, but the words are whole.\n"
	"_lcpfs_snapshots() {\n"
	"\tlocal word=${COMP_LINE:0:COMP_POINT}\n"
	"\tword=${word##* }\n"
	"\t[[ -n $COMP_LINE ]] || word=$cur\n"
	"\tCOMPREPLY=($(compgen -W \"$(timeout 2 \"${COMP_WORDS[0]}\" list \"${operands[0]/#\\~/$HOME}\" \\\n"
	"\t\t--snapshots -H -o name 2>/dev/null)${1:+ $(timeout 2 \"${COMP_WORDS[0]}\" list \\\n"
	"\t\t\"${operands[0]/#\\~/$HOME}\" --bookmarks -H -o name 2>/dev/null)}\" -- \"$word\"))\n"
	"\t[[ -z $COMP_LINE || $word != *@* ]] || COMPREPLY=(\"${COMPREPLY[@]#*@}\")\n"
	"}\n"
	"\n"
	"_lcpfs() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}\n"
	"\tlocal options= operands=() i\n"
	"\tCOMPREPLY=()\n"
	"\tif ((COMP_CWORD == 1)); then\n";

static const char behind_values[] =
	"\tesac\n"
	"\tif [[ $cur == -* ]]; then\n"
	"\t\t_lcpfs_words \"$options\"\n"
	"\t\treturn\n"
	"\tfi\n"
	"\t# Operands before this one: what is neither an option nor the value of one.\n"
	"\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
	"\t\tif [[ ${COMP_WORDS[i]} == -* ]]; then\n"
	"\t\t\t[[ \" $valued \" != *\" ${COMP_WORDS[i]} \"* ]] || ((i++))\n"
	"\t\telse\n"
	"\t\t\toperands+=(\"${COMP_WORDS[i]}\")\n"
	"\t\tfi\n"
	"\tdone\n"
	"\tcase $command:$((${#operands[@]} + 1)) in\n";

static const char tail[] = "\tesac\n"
			   "}\n"
			   "complete -F _lcpfs lcpfs\n";

static void print_valued(const struct cli_command *command)
{
	for (const struct cli_option *o = command->options; o && o->name; o++)
		if (o->value)
			printf(" --%s", o->name);
}

/* "simulate" has options of its own, which its help lists. */
static void print_commands_options(const struct cli_command *commands, size_t count)
{
	printf("\tlocal valued=\n\tcase $command in\n");
	for (size_t i = 0; i < count; i++) {
		if (!commands[i].run)
			continue;
		printf("\t%s) options='", commands[i].name);
		print_options(&commands[i]);
		printf("' valued='");
		print_valued(&commands[i]);
		printf("' ;;\n");
	}
	printf("\tsimulate) options=$(\"${COMP_WORDS[0]}\" simulate --help 2>/dev/null | grep -o -e '--[a-z-]*' | "
	       "sort -u) ;;\n");
	printf("\tesac\n");
}

static void print_command_words(const struct cli_command *commands, size_t count, const char *more)
{
	printf("_lcpfs_words '%s", more);
	for (size_t i = 0; i < count; i++)
		printf(" %s", commands[i].name);
	printf("'");
}

int completion_command(const struct cli *cli)
{
	size_t count;
	const struct cli_command *commands = cli_commands(&count);
	if (strcmp(cli->operands[0], "bash") != 0)
		return cli_usage("completion: %s is not known; bash is", cli->operands[0]);
	fputs(head, stdout);
	printf("\t\t");
	print_command_words(commands, count, "help --help --version");
	printf("\n\t\treturn\n\tfi\n");
	print_commands_options(commands, count);
	printf("\tcase $command:$prev in\n");
	for (size_t i = 0; i < count; i++)
		print_values(&commands[i]);
	printf("\thelp:help) ");
	print_command_words(commands, count, "lcpfs");
	printf("; return ;;\n");
	fputs(behind_values, stdout);
	for (size_t i = 0; i < count; i++)
		if (commands[i].run)
			print_operands(&commands[i]);
	fputs(tail, stdout);
	return CLI_DONE;
}
