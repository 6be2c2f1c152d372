#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Snapshots under clients that write: NAME@SNAP has all that was flushed before, never changes, and is what its
# block map says, also after the server was killed. Rolling back brings it back, destroying gives the space back.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

cat >look.py <<'PYTHON'
"""look.py URI NOTES LINES: each block is what the first LINES of the notes say, or newer; prints a sum."""
import hashlib
import sys

import nbd

uri, notes, count = sys.argv[1], open(sys.argv[2]).read().split("\n")[:-1], int(sys.argv[3])
flushed = {}
for line in notes[:count]:
	block, number, when = map(int, line.split())
	flushed[block] = number, when
later = {int(line.split()[0]) for line in notes[count:]}
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.is_read_only() == ("@" in uri) and h.can_multi_conn()
size = h.get_size()
data = bytearray(size)
at = 0
while at < size:
	runs = []
	h.block_status(min(size - at, 1 << 30), at, lambda name, offset, entries, error: runs.extend(entries))
	for length, flags in zip(runs[::2], runs[1::2]):
		got = h.pread(length, at)
		if flags & 1:
			assert not any(got), f"a hole at {at} has data"
		data[at:at + length] = got
		at += length
for block, (number, when) in flushed.items():
	got = data[block * 4096:block * 4096 + 4096]
	found = int.from_bytes(got[:8], "little")
	assert got == got[:8] * 512, f"block {block} is torn"
	# What came later may be there, too, and may be a trim.
	assert found == number or found > when or (found == 0 and block in later), \
		f"block {block}: {found}, but {number} was flushed"
print(hashlib.sha256(data).hexdigest())
PYTHON

look() {
	/usr/bin/python3 look.py "$(uri "$1")" "$2" "$3" || fail "$1"
}

# write NAME FIRST: in the background, until `stop`.
write() {
	/usr/bin/python3 "$TESTS/nbd/writer.py" "$(uri "$1")" "notes.$1" "$2" 1500 >/dev/null 2>&1 &
	WRITERS="$WRITERS $!"
	at_end "end_job $!"
}

stop() {
	for job in $WRITERS; do
		end_job "$job" || true
		wait "$job" 2>/dev/null || true
	done
	WRITERS=
}

lines() {
	wc -l <"notes.$1"
}

more_than() {
	[ "$(lines "$1")" -gt "$2" ]
}

# gone NAME: no client has the export open any more.
gone() {
	lcpfs list "$POOL" --snapshots --json | grep -q "\"name\":\"$1\".*\"clients\":0" && return
	return 1
}

live() {
	field db 'p["data_blocks"]'
}

WRITERS=
lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M --size 48M --volume 8M >/dev/null
lcpfs add "$POOL" log --min 16M --max 64M --size 48M --volume 8M >/dev/null
serve "$POOL" --tune off
# What no writer changes, so that each snapshot shares something with the one before, however fast they are.
for name in db log; do
	/usr/bin/python3 -c '
import nbd, sys
h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pwrite(b"x" * 65536, 2000 * 4096); h.shutdown()' "$(uri $name)"
done
: >notes.db
: >notes.log
write db 0
write log 0
for round in 1 2 3; do
	wait_until more_than db $((round * 1000))
	wait_until more_than log $((round * 1000))
	covered=$(lines db) covered_log=$(lines log)
	expect 0 lcpfs snapshot "$POOL" "db@$round" "log@$round"
	wait_until more_than db "$(lines db)" # now the notes have all that was under way
	wait_until more_than log "$(lines log)"
	look "db@$round" notes.db "$covered" >"sum.db.$round"
	look "log@$round" notes.log "$covered_log" >"sum.log.$round"
	echo "$covered" >"covered.$round"
done
# shellcheck disable=SC2086
kill -0 $WRITERS || fail "a writer was given an error"
nbdinfo --list --json "$(uri "")" >list 2>/dev/null || echo '{"exports":[]}' >list
/usr/bin/python3 -c '
import json
names = {e["export-name"]: e["is_read_only"] for e in json.load(open("list"))["exports"]}
wanted = {f"{n}@{i}": True for n in ("db", "log") for i in (1, 2, 3)} | {"db": False, "log": False}
assert not names or names == wanted, names'

# Beside writers, and the first one has written all that it has.
lcpfs list "$POOL" --snapshots --json >list
/usr/bin/python3 -c '
import json
for s in json.load(open("list"))["snapshots"]:
	used, all, written = (s[k + "_blocks"] for k in ("used", "referenced", "written"))
	assert 0 < used <= written <= all and (written == all) == (s["snapshot"] == "1"), s'

expect 0 lcpfs explain "$POOL" db
tr -s '\n ' ' ' <out | grep -q 'that db stores only its snapshots hold .*Alone, db@[123] would give back most: ' ||
	fail "explain: $(cat out)"

: >reader
# Nobody rolls back what is being written, nor destroys what is being read.
expect 1 lcpfs rollback "$POOL" db@3
says "partition db is in use by 1 client, who would see it change"
/usr/bin/python3 -c '
import nbd, sys, time
h = nbd.NBD(); h.connect_uri(sys.argv[1]); print("open", flush=True); time.sleep(600)' "$(uri db@1)" >reader &
READER=$!
at_end "end_job $READER"
wait_until grep -q open reader
expect 1 lcpfs destroy "$POOL" db@1,2
says "snapshot db@1 is in use by 1 client; disconnect it first"
# Nor is it called otherwise, since who reads it would not find it again; others are, while the volume is written.
expect 1 lcpfs rename "$POOL" db@1 first
says "snapshot db@1 is in use by 1 client; disconnect it first"
wait_until gone db@2
expect 0 lcpfs rename "$POOL" db@2 second
[ "$(look db@second notes.db 0)" = "$(cat sum.db.2)" ] || fail "db@second is not what db@2 was"
/usr/bin/python3 -c '
import nbd, sys
try: nbd.NBD().connect_uri(sys.argv[1])
except nbd.Error: sys.exit()
sys.exit("it is open")' "$(uri db@2)" || fail "it is found by its old name"
wait_until gone db@second
expect 0 lcpfs rename "$POOL" db@second db@2

unchanged() {
	for round in 1 2 3; do
		for name in db log; do
			[ "$(look "$name@$round" "notes.$name" 0)" = "$(cat "sum.$name.$round")" ] ||
				fail "$name@$round changed $*"
		done
	done
}

# Unchanged while others write, and after a kill at any moment.
unchanged under writers
unserve KILL
stop
end_job "$READER"
wait "$READER" 2>/dev/null || true
wait_released "$POOL"
check_clean "$POOL"
serve "$POOL" --tune off
unchanged by a kill
wait_until gone db@1

# Back to the second one: the third goes, the first stays.
expect 0 lcpfs rollback "$POOL" db@2 --force
[ "$(look db notes.db 0)" = "$(cat sum.db.2)" ] || fail "db is not what it was"
[ "$(look db@2 notes.db "$(cat covered.2)")" = "$(cat sum.db.2)" ] || fail "db@2 changed"
[ "$(look db@1 notes.db 0)" = "$(cat sum.db.1)" ] || fail "db@1 changed"
! /usr/bin/python3 look.py "$(uri db@3)" notes.db 0 2>/dev/null || fail "db@3 is still there"
wait_until gone db@2

# Everything overwritten, then no snapshot any more: what is live is what the volume has.
write db 100000000
wait_until more_than db $(($(lines db) + 500))
stop
wait_until gone db@1
held=$(live)
expect 0 lcpfs destroy "$POOL" db@1,2
mapped=$(nbdinfo --map --totals "$(uri db)" 2>/dev/null | awk '$NF == "data" { print $1 / 4096 }')
[ -n "$mapped" ] || skip "no nbdinfo"
[ "$held" -gt $((mapped + 500)) ] || fail "snapshots held nothing: $held, $mapped mapped"
is_back() {
	[ "$(live)" -le $((mapped + 2)) ] # the list of snapshots has a pair of blocks
}
wait_until is_back
unserve
check_clean "$POOL"
serve "$POOL" --tune off
[ "$(look log@1 notes.log 0)" = "$(cat sum.log.1)" ] || fail "log@1 changed"

# The server takes those of a schedule by itself, and says so.
expect 0 lcpfs set "$POOL" log snapshots=hourly:2,daily:1
is_taken() {
	lcpfs list "$POOL" --snapshots | grep -q "^log@$1"
}
wait_until is_taken hourly-
wait_until is_taken daily-
lcpfs log "$POOL" | grep -q "snapshot  *log@hourly-.*, log@daily-" || fail "$(lcpfs log "$POOL")"
unserve
