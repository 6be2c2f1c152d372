#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A clone beside its volume, both written by clients: it begins as its snapshot, each keeps what was flushed to it,
# also after the server was killed, and the snapshot never changes. It cannot be destroyed while it is in use.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

cat >look.py <<'PYTHON'
"""look.py URI NOTES BASE: what is there was flushed, or came later; and else is what BASE has, a file."""
import sys

import nbd

uri, notes, base = sys.argv[1], open(sys.argv[2]).read().split("\n")[:-1], open(sys.argv[3], "rb").read()
flushed = {}
for line in notes:
	block, number, when = map(int, line.split())
	flushed[block] = number, when
last = max(when for _, when in flushed.values())
h = nbd.NBD()
h.connect_uri(uri)
size = h.get_size()
assert size == len(base)
changed = 0
for block in range(size // 4096):
	got = h.pread(4096, block * 4096)
	found = int.from_bytes(got[:8], "little")
	newer = found >> 32 == last >> 32 and found > last or not any(got)
	if block in flushed and flushed[block][0] != found:
		assert newer, f"block {block} has {found:x}, not {flushed[block][0]:x}"
	elif block not in flushed and got != base[block * 4096:block * 4096 + 4096]:
		assert newer, f"block {block} is not what the snapshot has: {found:x}"
	changed += block in flushed
assert changed > 100, changed
PYTHON

copied() { # NAME FILE
	rm -f "$2"
	nbdcopy "$(uri "$1")" "$2" || fail "nbdcopy of $1"
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 100M --max 200M --volume 32M >/dev/null
serve "$POOL"
head -c 16M /dev/urandom >random
nbdcopy random "$(uri db)" || fail "nbdcopy"
/usr/bin/python3 "$TESTS/nbd/writer.py" "$(uri db)" db.notes $((1 << 32)) 3000 2>/dev/null &
WRITERS=$!
at_end "end_job $!"
wait_until test -s db.notes
expect 0 lcpfs snapshot "$POOL" db@one
expect 0 lcpfs clone "$POOL" db@one copy
copied db@one one
copied copy begun
cmp one begun || fail "the clone does not begin as its snapshot"
/usr/bin/python3 "$TESTS/nbd/writer.py" "$(uri copy)" copy.notes $((2 << 32)) 3000 2>/dev/null &
WRITERS="$WRITERS $!"
at_end "end_job $!"
wait_until test -s copy.notes
nbdinfo --list "$(uri "")" | grep -q 'export="copy"' || fail "the clone is not listed"
expect 1 lcpfs destroy "$POOL" copy
says "clone copy is in use by 1 client; disconnect it first"
expect 0 lcpfs clone "$POOL" db@one still
sleep 2

# The server dies. What was flushed to either is there, and nothing of the one in the other.
unserve KILL
for job in $WRITERS; do
	end_job "$job" || true
done
wait_released "$POOL"
serve "$POOL"
/usr/bin/python3 look.py "$(uri copy)" copy.notes one || fail "the clone"
copied db@one again
cmp one again || fail "the snapshot has changed"
copied still again
cmp one again || fail "a clone that nobody wrote has changed"
copied copy before
unserve
expect 0 lcpfs check "$POOL" --data
serve "$POOL"
copied copy again
cmp before again || fail "the clone has changed"

expect 1 lcpfs destroy "$POOL" db@one
says "snapshot db@one has clones (copy, still); destroy them first"
# What it says that it frees comes free.
data() {
	field db 'p["data_blocks"]'
}
freed=$(lcpfs destroy "$POOL" copy -n --json | sed 's/.*"freed_blocks":\([0-9]*\).*/\1/')
[ "$freed" -gt 300 ] || fail "$freed blocks"
live=$(field db 'p["data_blocks"]')
expect 0 lcpfs destroy "$POOL" copy still
no_more() {
	[ "$(data)" -le $((live - freed * 9 / 10)) ] # some of them are pages
}
wait_until no_more
nbdinfo "$(uri copy)" >/dev/null 2>&1 && fail "a clone that was destroyed is there"
expect 0 lcpfs destroy "$POOL" db@one
unserve
expect 0 lcpfs check "$POOL" --data
