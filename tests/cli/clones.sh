#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clone, and what list, diff, destroy, remove, add, set and rollback say of clones: the same with a server and
# without.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

# "NAME PARTITION ORIGIN BYTES" of each clone.
listed() {
	lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys, time
clones = json.load(sys.stdin)["clones"]
for c in clones:
	assert abs(c["created_s"] - time.time()) < 100 and c["clients"] == 0, c
print(*(" ".join([c["name"], c["partition"], c["origin"], str(c["volume_bytes"])]) for c in clones), sep=", ")'
}

# prints TEXT: the last expect did, word for word.
prints() {
	[ "$(cat out)" = "$1" ] || fail "$(cat out), not $1"
}

journey() {
	expect 0 lcpfs snapshot "$POOL" db@one db@two
	expect 2 lcpfs clone "$POOL" db@one
	expect 1 lcpfs clone "$POOL" db copy
	says "db names no snapshot: give NAME@SNAP"
	expect 1 lcpfs clone "$POOL" db@none copy
	says "there is no snapshot db@none"
	expect 1 lcpfs clone "$POOL" nobody@one copy
	says "there is no partition nobody"
	expect 1 lcpfs clone "$POOL" db@one log
	says "partition log exists already"
	expect 1 lcpfs clone "$POOL" db@one a@b
	says "name is 1 to 63 of"
	expect 0 lcpfs clone "$POOL" db@one copy --dry-run
	prints "would be: copy: a clone of db@one"
	[ -z "$(listed)" ] || fail "$(listed)"
	expect 0 lcpfs clone "$POOL" db@one copy
	prints "copy: a clone of db@one"
	expect 1 lcpfs clone "$POOL" db@two copy
	says "there is a clone copy already, in partition db"
	expect 0 lcpfs clone "$POOL" db@two second
	[ "$(listed)" = "copy db db@one 67108864, second db db@two 67108864" ] || fail "$(listed)"
	lcpfs list "$POOL" >out
	grep -q "^CLONE  *OF  *LENGTH CREATED *$" out || fail "$(cat out)"
	grep -q "^copy  *db@one  *64.0M 20" out || fail "$(cat out)"
	[ "$(field db 'p["clones"]')" = 2 ] || fail "db has 2"
	expect 0 lcpfs diff "$POOL" db@one copy

	expect 1 lcpfs add "$POOL" copy --min 16M --max 16M
	says "there is a clone copy already"
	expect 1 lcpfs set "$POOL" log name=second
	says "there is a clone second already"
	expect 1 lcpfs snapshot "$POOL" copies@x
	says "there is no partition copies"
	expect 1 lcpfs destroy "$POOL" db@two,one
	says "has clones (second); destroy them first"
	expect 1 lcpfs destroy "$POOL" db@one -n
	says "snapshot db@one has clones (copy); destroy them first"
	expect 1 lcpfs rollback "$POOL" db@one --force
	says "snapshot db@two has clones (second); destroy them first"
	expect 1 lcpfs remove "$POOL" copy --force
	says "copy is a clone, and no partition: lcpfs destroy destroys it"
	lcpfs remove "$POOL" db </dev/null >out 2>&1 && fail "removed with clones"
	grep -q "partition db has 2 clones (copy, second) and holds" out || fail "$(cat out)"

	# Another name, and a longer volume.
	expect 1 lcpfs rename "$POOL" second log
	says "partition log exists already"
	expect 1 lcpfs rename "$POOL" second copy
	says "there is a clone copy already"
	expect 1 lcpfs rename "$POOL" db other
	says "db is a partition"
	expect 1 lcpfs rename "$POOL" none other
	says "there is no clone none"
	expect 0 lcpfs rename "$POOL" second third --dry-run
	prints "would be: third: renamed, was second"
	expect 0 lcpfs rename "$POOL" second third
	prints "third: renamed, was second"
	[ "$(listed)" = "copy db db@one 67108864, third db db@two 67108864" ] || fail "$(listed)"
	expect 0 lcpfs rename "$POOL" third second
	expect 1 lcpfs set "$POOL" copy volume=32M
	says "a clone does not get shorter"
	expect 1 lcpfs set "$POOL" copy volume=80M max=100M
	says "volume=SIZE is all that can be set"
	expect 0 lcpfs set "$POOL" copy volume=80M --dry-run
	prints "would be: copy: volume 80.0M"
	expect 0 lcpfs set "$POOL" copy volume=83886081
	[ "$(listed)" = "copy db db@one 83890176, second db db@two 67108864" ] || fail "$(listed)"

	# A clone takes the place of the volume, and back. What is younger than its snapshot stays with the volume.
	expect 1 lcpfs promote "$POOL" copy
	says "clone copy has another length than the volume of db has by now"
	expect 0 lcpfs clone "$POOL" db@one first
	expect 0 lcpfs promote "$POOL" first
	all="copy first first@one 83890176, second first db@two 67108864, db first first@one 67108864"
	[ "$(listed)" = "$all" ] || fail "$(listed)"
	expect 0 lcpfs promote "$POOL" db
	expect 0 lcpfs destroy "$POOL" first
	expect 1 lcpfs promote "$POOL" db
	says "there is no clone db"
	expect 0 lcpfs promote "$POOL" second --dry-run
	prints "would be: second: promoted; db is its clone now"
	expect 0 lcpfs promote "$POOL" second
	prints "second: promoted; db is its clone now"
	[ "$(listed)" = "copy second second@one 83890176, db second second@two 67108864" ] || fail "$(listed)"
	[ "$(field second 'p["snapshots"]')" = 2 ] || fail "second has 2"
	expect 0 lcpfs promote "$POOL" db
	[ "$(listed)" = "copy db db@one 83890176, second db db@two 67108864" ] || fail "$(listed)"

	expect 1 lcpfs destroy "$POOL" copy none
	says "there is no clone none"
	expect 1 lcpfs destroy "$POOL" copy copy
	says "copy is named twice"
	expect 1 lcpfs destroy "$POOL" log
	says "log is a partition, and names no snapshot or clone: lcpfs remove removes it"
	expect 0 lcpfs destroy "$POOL" copy second --dry-run
	prints "would be: copy: destroyed
would be: second: destroyed
would free 0"
	[ "$(field db 'p["clones"]')" = 2 ] || fail "still 2"
	expect 0 lcpfs destroy "$POOL" copy second
	prints "copy: destroyed
second: destroyed"
	[ -z "$(listed)" ] || fail "$(listed)"
	expect 0 lcpfs destroy "$POOL" db@one,two
	expect 0 lcpfs log "$POOL" --last 23
	grep -q "promoted   second; db is its clone now" out || fail "$(cat out)"
	grep -q "cloned     copy, of db@one" out || fail "$(cat out)"
	grep -q "destroyed  clone second" out || fail "$(cat out)"
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
lcpfs add "$POOL" log --min 16M --max 32M >/dev/null
journey
serve "$POOL"
journey

# As many as there can be, also after the server has gone.
lcpfs snapshot "$POOL" db@one >/dev/null
for i in $(seq 32); do
	expect 0 lcpfs clone "$POOL" db@one "c$i"
done
expect 1 lcpfs clone "$POOL" db@one more
says "partition db has 32 clones: there cannot be more of one"
unserve
[ "$(field db 'p["clones"]')" = 32 ] || fail "32"
expect 0 lcpfs check "$POOL" --data
lcpfs remove "$POOL" db --force >/dev/null
[ -z "$(listed)" ] || fail "$(listed)"
