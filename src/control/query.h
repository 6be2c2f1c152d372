/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the table (command.h) that only tell something of a pool. */
#ifndef CONTROL_QUERY_H
#define CONTROL_QUERY_H

#include "control/command.h"

int query_list(struct command_call *call) MUST_CHECK;
int query_explain(struct command_call *call) MUST_CHECK;
int query_status(struct command_call *call) MUST_CHECK;
int query_log(struct command_call *call) MUST_CHECK;
int query_report(struct command_call *call) MUST_CHECK;
int query_iostat(struct command_call *call) MUST_CHECK;
int query_get(struct command_call *call) MUST_CHECK;
int query_metrics(struct command_call *call) MUST_CHECK;

#endif
