/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the table (command.h) that change a pool, its partitions or its settings. */
#ifndef CONTROL_CHANGE_H
#define CONTROL_CHANGE_H

#include "control/command.h"

int change_add(struct command_call *call) MUST_CHECK;
int change_remove(struct command_call *call) MUST_CHECK;
int change_resize(struct command_call *call) MUST_CHECK;
int change_set(struct command_call *call) MUST_CHECK;
int change_grow(struct command_call *call) MUST_CHECK;
int change_tune(struct command_call *call) MUST_CHECK;
int change_scrub(struct command_call *call) MUST_CHECK;

#endif
