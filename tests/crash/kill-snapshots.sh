#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill -9 of commands that change snapshots and clones of an unserved pool: each happened or did not, the pool is
# clean after every one, and no volume's data is touched. KILLS: how often (22).
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

# bytes EXPORT FIRST BYTE, or bytes EXPORT FIRST to compare: a hundred blocks
bytes() {
	/usr/bin/python3 -c '
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
at, byte, write = int(sys.argv[2]) * 4096, bytes([int(sys.argv[3])]), sys.argv[4] == "write"
if write:
	h.pwrite(byte * 409600, at)
	h.flush()
else:
	assert h.pread(409600, at) == byte * 409600, sys.argv[1:]
h.shutdown()' "$(uri "$1")" "$2" "$3" "$4" || fail "$4 $1"
}

# Partitions, clones and snapshots, by name.
names() {
	lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys
l = json.load(sys.stdin)
print(*sorted(p["name"] for p in l["partitions"]), *sorted(c["name"] + " of " + c["origin"] for c in l["clones"]))'
	lcpfs list "$POOL" --snapshots --json | /usr/bin/python3 -c '
import json, sys
print(*sorted(n["name"] for n in json.load(sys.stdin)["snapshots"]))'
}

kills=0 killed=0
# killed_amid COMMAND...: what it was to do has happened, or has not; then it is done again
killed_amid() {
	kills=$((kills + 1))
	before=$(names)
	"$LCPFS" "$@" >/dev/null 2>&1 &
	command=$!
	sleep "0.0$((kills * 7 % 20 + 10))"
	! kill -9 "$command" 2>/dev/null || killed=$((killed + 1))
	wait "$command" 2>/dev/null || true
	wait_released "$POOL"
	check_clean "$POOL"
	[ "$(names)" != "$before" ] || expect 0 lcpfs "$@"
	[ "$1" = rollback ] || [ "$(names)" != "$before" ] || fail "$* did nothing"
}

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 32M --max 160M --size 60M --volume 32M >/dev/null
serve "$POOL" --tune off
bytes db 0 1 write
unserve TERM
while [ "$kills" -lt "${KILLS:-22}" ]; do
	killed_amid snapshot "$POOL" db@one
	killed_amid clone "$POOL" db@one copy
	serve "$POOL" --tune off
	bytes copy 50 2 write
	unserve TERM
	killed_amid snapshot "$POOL" copy@own
	killed_amid snapshot "$POOL" db@two
	killed_amid promote "$POOL" copy
	killed_amid rollback "$POOL" db@two --force
	killed_amid rename "$POOL" db@two db@three
	killed_amid promote "$POOL" db
	serve "$POOL" --tune off
	bytes db 0 1 compare
	bytes db@three 0 1 compare
	bytes copy@own 50 2 compare
	unserve TERM
	killed_amid destroy "$POOL" copy@own
	killed_amid destroy "$POOL" copy
	killed_amid destroy "$POOL" db@three
	expect 0 lcpfs destroy "$POOL" db@one
done
serve "$POOL" --tune off
bytes db 0 1 compare
unserve TERM
check_clean "$POOL"
echo "$kills commands, $killed of them killed"
