#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A pool on a block device: made, served, written, checked; opened only once.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"

truncate -s 256M disk
loop_of "$T/disk"
POOL=$LOOP
expect 0 lcpfs create "$POOL" --metaslab 1M
expect 1 lcpfs create "$POOL"
expect 0 lcpfs add "$POOL" db --min 16M --max 128M --size 64M
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(400):
	h.pwrite(i.to_bytes(2, "little") * 32768, (i * 7919 % 1024) * 65536)
h.flush()
h.trim(32 << 20, 0)
assert h.pread(65536, 0) == bytes(65536)
PYTHON
expect 0 lcpfs resize "$POOL" db 100M
expect 2 lcpfs check "$POOL"
unserve
check_clean "$POOL"
if command -v mkfs.ext4 >/dev/null; then
	truncate -s 64M other
	loop_of "$T/other"
	mkfs.ext4 -q -F "$LOOP"
	expect 1 lcpfs create "$LOOP"
	says force
	mount_at "$LOOP" mnt
	expect 1 lcpfs create "$LOOP" --force
fi
