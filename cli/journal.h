/* SPDX-License-Identifier: Apache-2.0 */
/* One message for systemd's journal, with fields. */
#ifndef CLI_JOURNAL_H
#define CLI_JOURNAL_H

#include <stdbool.h>

struct journal_field {
	const char *name; /* of A-Z and _ */
	const char *value; /* one line */
};

enum { JOURNAL_ALERT = 1, JOURNAL_CRITICAL = 2, JOURNAL_ERROR = 3, JOURNAL_WARNING = 4, JOURNAL_INFO = 6 };

/* Standard error goes to the journal. */
bool journal_is_there(void);
/* `fields` ends with a NULL name. What cannot be sent is lost. */
void journal_send(int priority, const char *message, const struct journal_field *fields);

#endif
