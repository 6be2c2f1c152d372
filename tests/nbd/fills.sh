#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `add` makes takes what it promises: every byte of its volume, as long as the pool has room. Exports are as
# long as was asked for, to the byte. What is promised beyond the pool is said.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

fill() { # NAME: all of it, backwards or forwards, then again
	/usr/bin/python3 - "$(uri "$1")" <<'PYTHON'
import random
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()
data = random.randbytes(1 << 20)
for offsets in range(0, size, 1 << 20), reversed(range(0, size, 1 << 20)):
	for at in offsets:
		h.pwrite(data[:size - at], at)
	h.flush()
assert h.pread(size % (1 << 20) or 1 << 20, (size - 1) >> 20 << 20) == data[:(size - 1) % (1 << 20) + 1]
PYTHON
}

for metaslab in 1M 4M; do
	lcpfs create "$POOL" --size 512M --metaslab $metaslab --force >/dev/null
	lcpfs add "$POOL" small --min 1M --max 5M >/dev/null
	lcpfs add "$POOL" odd --min 16M --max 30000001 >/dev/null
	lcpfs add "$POOL" cut --min 16M --max 64M --volume 20000512 >/dev/null
	lcpfs add "$POOL" large --min 16M --max 90M >/dev/null
	lcpfs status "$POOL" >status
	grep -q "^volumes  *take [0-9.]*M if all are filled$" status || fail "$(cat status)"
	serve "$POOL"
	for name in small:5242880 odd:30000001 cut:20000512 large:94371840; do
		[ "$(nbdinfo --size "$(uri "${name%:*}")")" -eq "${name#*:}" ] || fail "$name"
		fill "${name%:*}" || fail "$name cannot be filled"
	done
	unserve
	check_clean "$POOL"
done

lcpfs add "$POOL" more --min 16M --max 1G >/dev/null
expect 0 lcpfs status "$POOL"
grep -q "overcommitted by [0-9.]*[MG]$" out || fail "$(cat out)"
lcpfs status "$POOL" --json | /usr/bin/python3 -c '
import json, sys
p = json.load(sys.stdin)["pool"]
assert p["overcommitted_blocks"] == p["promised_blocks"] - p["size_blocks"] > 0, p' || fail "overcommitted"
