#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill -9 under load: reopens in seconds, clean, with everything that a flush covered. Several times over.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 512M --metaslab 1M
lcpfs add "$POOL" db --min 32M --max 256M --size 96M --volume 64M >/dev/null
lcpfs add "$POOL" log --min 32M --max 256M --size 96M --volume 64M >/dev/null
cat >client.py <<'PYTHON'
"""Writes to random blocks, each with a number that only grows; notes what a flush has covered. Or verifies."""
import random
import sys

import nbd

uri, notes, verify = sys.argv[1], sys.argv[2], len(sys.argv) > 3
BLOCKS = 16384
try:
	flushed = {int(k): int(v) for k, v in (line.split() for line in open(notes) if line.endswith("\n"))}
except FileNotFoundError:
	flushed = {}
h = nbd.NBD()
h.connect_uri(uri)
if verify:
	for block, number in flushed.items():
		data = h.pread(4096, block * 4096)
		found = int.from_bytes(data[:8], "little")
		assert data == found.to_bytes(8, "little") * 512, f"block {block} is torn"
		assert found >= number, f"block {block}: {found}, but {number} was flushed"
	print(len(flushed), "blocks hold what was flushed, or newer")
	sys.exit(0)
number = max(flushed.values(), default=0)
with open(notes, "a") as log:
	while True:
		pending = {}
		for _ in range(random.randrange(1, 200)):
			number += 1
			block = random.randrange(BLOCKS)
			h.pwrite(number.to_bytes(8, "little") * 512, block * 4096)
			pending[block] = number
		h.flush()
		log.write("".join(f"{block} {number}\n" for block, number in pending.items()))
		log.flush()
PYTHON

for round in 1 2 3 4; do
	serve "$POOL" --tune off
	for name in db log; do
		/usr/bin/python3 client.py "$(uri "$name")" "notes.$name" >/dev/null 2>&1 &
		at_end "end_job $!"
	done
	sleep 1
	[ "$round" -lt 3 ] || lcpfs resize "$POOL" db "$((round * 30))M" >/dev/null
	sleep 1
	unserve KILL
	[ "$round" -ne 2 ] || check_clean "$POOL" # what was not rolled forward yet is clean, too
	started=$(date +%s)
	serve "$POOL" --tune off
	[ $(($(date +%s) - started)) -le 5 ] || fail "it took long to open"
	for name in db log; do
		/usr/bin/python3 client.py "$(uri "$name")" "notes.$name" verify
	done
	unserve
	check_clean "$POOL"
done
