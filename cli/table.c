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

/* Three digits that count, with k, M, G, T, P, E of 1000 above 9999: five columns, and one for a sign. */
const char *number_print(char text[NUMBER_TEXT], double number)
{
	static const char units[] = "kMGTPE";
	double size = fabs(number);
	int unit = -1;
	if (!isfinite(number)) {
		snprintf(text, NUMBER_TEXT, "-");
		return text;
	}
	while (size >= (unit < 0 ? 9999.5 : 999.5) && unit + 1 < (int)sizeof(units) - 1) {
		size /= 1000;
		unit++;
	}
	size = fmin(size, 9999);
	snprintf(text, NUMBER_TEXT, "%s%.*f%.1s", number < 0 && size >= 0.005 ? "-" : "",
		 size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2, size, unit < 0 ? "" : &units[unit]);
	return text;
}

const char *number_print_us(char text[NUMBER_TEXT], double us)
{
	if (!isfinite(us))
		snprintf(text, NUMBER_TEXT, "-");
	else if (us < 999.5)
		snprintf(text, NUMBER_TEXT, "%.0fus", us);
	else if (us < 999500)
		snprintf(text, NUMBER_TEXT, "%.*fms", us < 9995 ? 2 : us < 99950 ? 1 : 0, us / 1e3);
	else
		snprintf(text, NUMBER_TEXT, "%.*fs", us < 9.995e6 ? 2 : us < 9.995e7 ? 1 : 0, fmin(us / 1e6, 1e9));
	return text;
}
