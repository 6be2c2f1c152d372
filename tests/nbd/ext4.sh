#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ext4 on a partition: a source tree survives unmounting, resizing by hand and mounting again.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
POOL=$T/pool
needs mkfs.ext4 fsck.ext4
filesystem_journey "mkfs.ext4 -q -F" "fsck.ext4 -f -n"
