/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the table (command.h) that backups are made of. */
#ifndef CONTROL_BACKUP_H
#define CONTROL_BACKUP_H

#include "control/command.h"

int backup_diff(struct command_call *call) MUST_CHECK;
/* Both have the stream go through call->fd. */
int backup_send(struct command_call *call) MUST_CHECK;
int backup_receive(struct command_call *call) MUST_CHECK;

#endif
