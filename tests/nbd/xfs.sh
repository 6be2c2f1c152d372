#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# xfs on a partition: a source tree survives unmounting, resizing by hand and mounting again.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
POOL=$T/pool
needs mkfs.xfs xfs_repair
filesystem_journey "mkfs.xfs -q -f" "xfs_repair -n"
