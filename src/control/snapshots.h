/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the table (command.h) for snapshots, clones and bookmarks. */
#ifndef CONTROL_SNAPSHOTS_H
#define CONTROL_SNAPSHOTS_H

#include "control/command.h"

int snapshots_hold(struct command_call *call) MUST_CHECK;
int snapshots_release(struct command_call *call) MUST_CHECK;
int snapshots_take(struct command_call *call) MUST_CHECK;
int snapshots_destroy(struct command_call *call) MUST_CHECK;
int snapshots_clone(struct command_call *call) MUST_CHECK;
int snapshots_promote(struct command_call *call) MUST_CHECK;
int snapshots_show(struct command_call *call) MUST_CHECK;
int snapshots_rollback(struct command_call *call) MUST_CHECK;
int snapshots_bookmark(struct command_call *call) MUST_CHECK;
int snapshots_clones(struct command_call *call) MUST_CHECK;
int snapshots_bookmarks(struct command_call *call) MUST_CHECK;
int snapshots_rename(struct command_call *call) MUST_CHECK;

#endif
