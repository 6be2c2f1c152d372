#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A full partition gives ENOSPC to its own writers; it can be read and trimmed, and then written again.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" small --min 16M --max 32M --volume 64M --thin >/dev/null
lcpfs add "$POOL" other --min 16M --max 64M --size 32M >/dev/null
serve "$POOL"
/usr/bin/python3 - "$(uri small)" "$(uri other)" <<'PYTHON'
import errno
import random
import sys

import nbd

small, other = nbd.NBD(), nbd.NBD()
small.connect_uri(sys.argv[1])
other.connect_uri(sys.argv[2])
random.seed(1)
pattern = random.randbytes(65536)


def fill():
	"""Writes until there is no more room; returns how far it came."""
	for offset in range(0, 64 << 20, 65536):
		try:
			small.pwrite(pattern, offset)
		except nbd.Error as error:
			assert error.errnum == errno.ENOSPC, error
			return offset
	sys.exit("64 MiB went into 32")


end = fill()
assert end > 20 << 20, end
print("full after", end)
other.pwrite(pattern, 0, nbd.CMD_FLAG_FUA)
small.flush()
for offset in range(0, end, 65536):
	assert small.pread(65536, offset) == pattern, offset
for round_number in range(3):
	small.trim(16 << 20, 0)
	small.flush()
	for offset in range(0, 12 << 20, 65536):
		small.pwrite(pattern, offset)
	fill()
small.trim(32 << 20, 0)
small.trim(32 << 20, 32 << 20)
small.flush()
assert fill() > 20 << 20
assert other.pread(65536, 0) == pattern
small.flush()
PYTHON
unserve
check_clean "$POOL"
