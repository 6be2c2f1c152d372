#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A writer that finds no room waits for some, where its partition says so: for as long as that says, then it is
# refused, and those after it at once. It goes on when something is trimmed or the max is raised. Others on the
# partition are not held up meanwhile, nor is the end of the server.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 128M --metaslab 1M >/dev/null
lcpfs add "$POOL" full --min 4M --max 16M --volume 64M --thin --when-full wait=5s >/dev/null
serve "$POOL"
cat >client.py <<'PYTHON'
import errno
import os
import subprocess
import sys
import threading
import time

import nbd

uri, lcpfs, pool = sys.argv[1:4]
PIECE = 64 << 10
data = os.urandom(PIECE)


def connect():
	h = nbd.NBD()
	h.connect_uri(uri)
	return h


def write(h, offset):
	"""How long it took, and whether it went."""
	begun = time.monotonic()
	try:
		h.pwrite(data, offset)
	except nbd.Error as error:
		assert error.errnum == errno.ENOSPC, error
		return time.monotonic() - begun, False
	return time.monotonic() - begun, True


def fill(h, offset):
	while True:
		took, went = write(h, offset)
		if not went:
			return offset, took
		offset += PIECE


def while_waiting(action, offset):
	"""A write that waits, and what `action` does meanwhile."""
	result = []
	thread = threading.Thread(target=lambda: result.append(write(connect(), offset)))
	thread.start()
	time.sleep(0.5)
	assert not result, "it did not wait"
	action()
	thread.join()
	assert result[0][1], "refused"


h, other = connect(), connect()
end, took = fill(h, 0)
assert 15 << 20 < end < 20 << 20, end
assert took > 4.5, took
took, _ = write(h, end)
assert took < 4, "the next one waited, too"
subprocess.run([lcpfs, "set", pool, "full", "when-full=wait=60s"], check=True)


def others_go_on():
	begun = time.monotonic()
	for offset in range(0, 4 << 20, PIECE):
		assert other.pread(PIECE, offset) == data
		other.pwrite(data, offset)
	other.flush()
	assert time.monotonic() - begun < 50
	other.trim(1 << 20, 0)


while_waiting(others_go_on, end)
end, _ = end + PIECE, None
subprocess.run([lcpfs, "set", pool, "full", "when-full=error"], check=True)
end, took = fill(h, end)
assert took < 30, took
subprocess.run([lcpfs, "set", pool, "full", "when-full=wait=60s"], check=True)
while_waiting(lambda: subprocess.run([lcpfs, "set", pool, "full", "max=24M"], check=True), end)
end += PIECE
zeros = connect()
subprocess.run([lcpfs, "set", pool, "full", "when-full=error"], check=True)
end, _ = fill(h, end)
subprocess.run([lcpfs, "set", pool, "full", "when-full=wait=60s"], check=True)
thread = threading.Thread(target=lambda: zeros.zero(4 << 20, 40 << 20, nbd.CMD_FLAG_NO_HOLE))
thread.start()
time.sleep(0.5)
begun = time.monotonic()
other.trim(8 << 20, 0) # a trim is not held up by zeros that wait
thread.join()
assert time.monotonic() - begun < 50
# And the end: a write is under way.
subprocess.run([lcpfs, "set", pool, "full", "when-full=error"], check=True)
end, _ = fill(h, 8 << 20)
subprocess.run([lcpfs, "set", pool, "full", "when-full=wait=60s"], check=True)
h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), end)
time.sleep(0.5)
PYTHON
timeout 120 /usr/bin/python3 client.py "$(uri full)" "$LCPFS" "$POOL" >/dev/null || fail "see above"
begun=$(date +%s)
unserve
[ $(($(date +%s) - begun)) -lt 50 ] || fail "the server waited with its writer"
check_clean "$POOL"
