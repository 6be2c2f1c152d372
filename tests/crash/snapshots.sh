#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pools with snapshots, closed and cut off amid all they do: the second decoder (tools/decode.py) and check agree
# that nothing is damaged, the volume and its snapshots hold what they must, and a bit flipped in any structure is
# found by both or by neither. snapshots.sh SNAPPOOL [SEED...]
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import xxhash' 2>/dev/null || skip "no python3-xxhash"
SNAPPOOL=$1
shift
[ $# -gt 0 ] || set -- 1 6
for seed; do
	mkdir "$T/$seed"
	"$SNAPPOOL" "$seed" "$T/$seed" || fail "snappool $seed"
	/usr/bin/python3 "$TESTS/crash/snapshots.py" "$LCPFS" "$TESTS/../tools/decode.py" "$T/$seed" "$seed" ||
		fail "seed $seed"
done
