/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define FOLDER "/etc/lcpfs"

enum { TEXT_BYTES_MAX = 64 * 1024 };

/* The whole file; NULL: errno says why. */
static char *read_text(const char *path)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return NULL;
	char *text = malloc(TEXT_BYTES_MAX + 1);
	CHECK(text);
	size_t length = fread(text, 1, TEXT_BYTES_MAX + 1, file);
	int error = ferror(file)                 ? errno
		    : length > TEXT_BYTES_MAX    ? EFBIG
		    : memchr(text, '\0', length) ? EINVAL
						 : 0;
	fclose(file);
	if (error) {
		free(text);
		errno = error;
		return NULL;
	}
	text[length] = '\0';
	return text;
}

/* ---- lines ---- */

struct line {
	char *name, *value; /* value NULL: there is no "=" */
	unsigned number;
	char *next; /* where the next one begins */
	unsigned next_number;
};

static char *trim(char *text)
{
	text += strspn(text, " \t\r");
	for (size_t n = strlen(text); n && strchr(" \t\r", text[n - 1]); n--)
		text[n - 1] = '\0';
	return text;
}

static char *unquote(char *text)
{
	size_t n = strlen(text);
	if (n < 2 || (*text != '"' && *text != '\'') || text[n - 1] != *text)
		return text;
	text[n - 1] = '\0';
	return text + 1;
}

/* Ends the line where it does not go on; what is behind a backslash is a part of it. */
static void find_end(struct line *line)
{
	char *p = line->next;
	line->number = line->next_number;
	for (; *p && *p != '\n'; p++) {
		if (*p != '\\' || p[1] != '\n')
			continue;
		p[0] = p[1] = ' ';
		line->next_number++;
	}
	line->next_number++;
	line->next = *p ? p + 1 : p;
	*p = '\0';
}

/* The next one that says something; it is cut from the text. false: there is none. */
static bool next_line(struct line *line)
{
	while (*line->next) {
		char *begin = line->next;
		find_end(line);
		begin = trim(begin);
		if (!*begin || *begin == '#' || *begin == ';')
			continue;
		line->value = strchr(begin, '=');
		if (line->value) {
			*line->value = '\0';
			line->value = unquote(trim(line->value + 1));
		}
		line->name = trim(begin);
		return true;
	}
	return false;
}

/* ---- options ---- */

static bool is_for_systemd(const char *name)
{
	const char *p = name;
	while (isupper((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '_')
		p++;
	return !*p && *name;
}

/* -1: there is none. */
static int find_option(const struct cli_command *command, const char *name)
{
	for (int i = 0; command->options[i].name; i++)
		if (!strcmp(command->options[i].name, name) && strcmp(name, "config") != 0)
			return i;
	return -1;
}

static int take_line(struct cli *cli, const char *path, const struct line *line)
{
	if (!line->value)
		return cli_usage("%s, line %u: it is not NAME=VALUE", path, line->number);
	if (is_for_systemd(line->name))
		return 0;
	/* systemd complains of variables that have a dash. */
	for (char *p = line->name; (p = strchr(p, '_'));)
		*p = '-';
	int option = find_option(cli->command, line->name);
	if (option < 0)
		return cli_usage("%s, line %u: %s has no option %s; see lcpfs help %s", path, line->number,
				 cli->command->name, line->name, cli->command->name);
	bool is_flag = !cli->command->options[option].value;
	if (is_flag && *line->value && strcmp(line->value, "yes") != 0 && strcmp(line->value, "no") != 0)
		return cli_usage("%s, line %u: %s=%s: it is yes or no", path, line->number, line->name,
				 line->value);
	if (*line->value && !(is_flag && !strcmp(line->value, "no")))
		cli->values[option] = line->value;
	return 0;
}

int config_parse(char *text, const char *path, struct cli *cli)
{
	const struct cli given = *cli;
	struct line line = {.next = text, .next_number = 1};
	int error = 0;
	while (!error && next_line(&line))
		error = take_line(cli, path, &line);
	for (int i = 0; i < CLI_OPTIONS_MAX; i++)
		if (given.values[i])
			cli->values[i] = given.values[i];
	return error;
}

int config_read(struct config *config, const char *path, struct cli *cli)
{
	bool may_lack = path[0] == '-' && path[1];
	path += may_lack;
	config->text = read_text(path);
	if (!config->text)
		return may_lack && errno == ENOENT ? 0 : cli_failed("%s: %s", path, strerror(errno));
	return config_parse(config->text, path, cli);
}

void config_free(struct config *config)
{
	free(config->text);
}

/* ---- pools by name ---- */

static bool names_pool(const char *file, const char *pool_path)
{
	char *text = read_text(file), named[PATH_MAX] = "";
	struct line line = {.next = text};
	while (text && next_line(&line))
		if (line.value && !strcmp(line.name, "POOL") && !realpath(line.value, named))
			named[0] = '\0';
	free(text);
	return !strcmp(named, pool_path);
}

bool config_find_pool(const char *pool_path, char name[NAME_MAX + 1])
{
	char path[PATH_MAX];
	bool found = false;
	DIR *folder = opendir(FOLDER);
	for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
		const char *end = strrchr(entry->d_name, '.');
		if (!end || end == entry->d_name || strcmp(end, ".conf") != 0)
			continue;
		snprintf(path, sizeof(path), FOLDER "/%s", entry->d_name);
		found = names_pool(path, pool_path);
		snprintf(name, NAME_MAX + 1, "%.*s", (int)(end - entry->d_name), entry->d_name);
	}
	if (folder)
		closedir(folder);
	return found;
}
