/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/report.h"

#include <stdarg.h>
#include <stdio.h>

void report_found(const struct report *report, uint64_t block, bool repaired, const char *format, ...)
{
	char text[300];
	va_list args;
	if (!report->found)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report->found(report->context, block, repaired, text);
}
