/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <libsmartcols.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct table {
	struct libscols_table *cols;
	struct libscols_line *line;
	size_t cell;
};

struct table *table_new(const char *const *titles)
{
	struct table *table = calloc(1, sizeof(*table));

	CHECK(table);
	table->cols = scols_new_table();
	CHECK(table->cols);
	for (; *titles; titles++) {
		bool left = **titles == '<';
		struct libscols_column *column =
			scols_table_new_column(table->cols, *titles + left, 0, left ? 0 : SCOLS_FL_RIGHT);
		CHECK(column);
	}
	return table;
}

void table_row(struct table *table)
{
	table->line = scols_table_new_line(table->cols, NULL);
	CHECK(table->line);
	table->cell = 0;
}

void table_cell(struct table *table, const char *format, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	CHECK(vasprintf(&text, format, arguments) >= 0);
	va_end(arguments);
	CHECK(!scols_line_refer_data(table->line, table->cell++, text)); /* takes the text over */
}

void table_print(struct table *table)
{
	scols_print_table(table->cols);
	scols_unref_table(table->cols);
	free(table);
}

const char *number_print(char text[NUMBER_TEXT], double number)
{
	double size = fabs(number);

	if (!isfinite(number))
		snprintf(text, NUMBER_TEXT, "-");
	else if (size >= 9.995e8)
		snprintf(text, NUMBER_TEXT, "%.3g", number);
	else if (size >= 999500)
		snprintf(text, NUMBER_TEXT, "%.*fM", size < 9.995e6 ? 2 : 1, number / 1e6);
	else if (size >= 9999.5)
		snprintf(text, NUMBER_TEXT, "%.1fk", number / 1e3);
	else if (size >= 0.0095 || size == 0)
		snprintf(text, NUMBER_TEXT, "%.*f", size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2, number);
	else
		snprintf(text, NUMBER_TEXT, "%.2g", number);
	return text;
}

const char *number_print_us(char text[NUMBER_TEXT], double us)
{
	if (!isfinite(us))
		snprintf(text, NUMBER_TEXT, "-");
	else if (us < 999.5)
		snprintf(text, NUMBER_TEXT, "%.0f us", us);
	else if (us < 999500)
		snprintf(text, NUMBER_TEXT, "%.2f ms", us / 1e3);
	else
		snprintf(text, NUMBER_TEXT, "%.2f s", us / 1e6);
	return text;
}
