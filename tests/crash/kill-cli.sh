#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill -9 of commands that change an unserved pool: each happened wholly, in part as far as it is made of steps, or
# not at all; the pool is clean after every one, and no data is touched. KILLS: how often (12).
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

cat >data.py <<'PYTHON'
"""Writes a pattern to every other block of a volume, or compares it."""
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for block in range(0, 5000, 2):
	wanted = (block * 2654435761 % 2**64).to_bytes(8, "little") * 512
	if sys.argv[2] == "write":
		h.pwrite(wanted, block * 4096)
	else:
		assert h.pread(4096, block * 4096) == wanted, f"block {block} is not what was written"
h.flush()
PYTHON

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 32M --max 160M --size 60M --volume 32M >/dev/null
serve "$POOL" --tune off
/usr/bin/python3 data.py "$(uri db)" write
unserve TERM
kills=${KILLS:-12} killed=0
for round in $(seq "$kills"); do
	case $((round % 4)) in
	0) set -- resize "$POOL" db 150M ;;
	1) set -- add "$POOL" other --min 16M --max 64M --size 40M ;;
	2) set -- resize "$POOL" db 34M ;;
	3) set -- remove "$POOL" other ;;
	esac
	"$LCPFS" "$@" >/dev/null 2>&1 &
	command=$!
	sleep "0.00$((round * 7 % 10))"
	! kill -9 "$command" 2>/dev/null || killed=$((killed + 1))
	wait "$command" 2>/dev/null || true
	wait_released "$POOL"
	check_clean "$POOL"
	case $1 in resize) lcpfs "$@" >/dev/null || fail "$* after a kill" ;; esac
done
serve "$POOL" --tune off
/usr/bin/python3 data.py "$(uri db)" compare
unserve TERM
check_clean "$POOL"
echo "$kills commands, $killed of them killed"
