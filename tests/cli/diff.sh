#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# diff tells where two snapshots differ, to the byte, also where that takes several answers of the server; and the
# same with a server and without.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool

# change PYTHON: h is db, block(n) the bytes of n blocks
change() {
	/usr/bin/python3 -c "
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
block = lambda n: b'x' * 4096 * n
$1
h.shutdown()" "$(uri db)" || fail "cannot write"
}

# differs WANTED NAMES...: ranges as OFFSET+LENGTH+KIND, in blocks
differs() {
	ranges=$1
	shift
	expect 0 lcpfs diff "$POOL" "$@"
	[ "$(head -n 1 out)" = "            OFFSET             LENGTH KIND" ] || fail "$(cat out)"
	got=$(awk 'NR > 1 { printf("%s%g+%g+%s", (NR > 2 ? " " : ""), $1 / 4096, $2 / 4096, $3) }' out)
	[ "$got" = "$ranges" ] || fail "$*: $got, not $ranges"
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 64M --max 64M --volume 67107864 >/dev/null
lcpfs add "$POOL" log --min 16M --max 64M >/dev/null
serve "$POOL"
change 'h.pwrite(block(100), 0)'
lcpfs snapshot "$POOL" db@a log@a >/dev/null
differs "" db@a
change 'h.pwrite(block(10), 90 * 4096); h.trim(5 * 4096, 0); h.pwrite(block(1)[:3096], 16383 * 4096)'
differs "0+5+hole 90+10+data 16383+0.755859+data" db@a
lcpfs snapshot "$POOL" db@b >/dev/null
lcpfs bookmark "$POOL" db@a a >/dev/null
lcpfs bookmark "$POOL" db@b b >/dev/null
change 'h.pwrite(block(1), 50 * 4096)'
together() {
	differs "0+5+hole 90+10+data 16383+1+data" db@a db@b
	differs "50+1+data" db@b
	differs "50+1+data" db@b db
	expect 0 lcpfs diff "$POOL" db@b --json
	range='{"offset":204800,"length":4096,"kind":"data"}'
	[ "$(cat out)" = '{"from":"db@b","to":"db","ranges":['"$range"'],"next":null}' ] || fail "$(cat out)"
	differs "0+5+hole 50+1+data 90+10+data 16383+0.755859+data" db@a
	differs "0+5+data 90+10+data 16383+1+hole" db@b db@a
	differs "" db@b db@b
	differs "0+5+hole 90+10+data 100+16283+hole 16383+1+data" db#a db@b
	differs "0+5+hole 50+1+data 90+10+data 100+16283+hole 16383+0.755859+data" db#a
	differs "0+5+hole 50+1+data 100+15772+hole" db#b
	differs "0+5+hole 50+1+data 90+10+data 100+16283+hole 16383+0.755859+data" db#a db
	expect 0 lcpfs diff "$POOL" db#b --json
	/usr/bin/python3 -c 'import json, sys
d = json.load(sys.stdin)
assert (d["from"], d["to"], d["next"], len(d["ranges"])) == ("db#b", "db", None, 3), d' <out || fail "$(cat out)"
	expect 1 lcpfs diff "$POOL" db#b db@a
	says "db#b is younger"
	expect 1 lcpfs diff "$POOL" db#none db@b
	says "there is no bookmark db#none"
	expect 1 lcpfs diff "$POOL" log#a db@b
	says "log#a is no bookmark of db"
	expect 1 lcpfs diff "$POOL" db
	says "db names no snapshot: give NAME@SNAP"
	expect 1 lcpfs diff "$POOL" db@a log@a
	says "db and log are two partitions"
	expect 1 lcpfs diff "$POOL" log@a db
	says "two partitions"
	expect 1 lcpfs diff "$POOL" db@none
	says "there is no snapshot db@none"
	expect 1 lcpfs diff "$POOL" db@a db@none
	expect 1 lcpfs diff "$POOL" @a
	says "there is no partition"
	expect 2 lcpfs diff "$POOL"
	expect 2 lcpfs diff "$POOL" db@a db@b db@c
}
together
unserve
chmod 400 "$POOL"
together
chmod 600 "$POOL"

# Since a snapshot that is gone.
lcpfs destroy "$POOL" db@a >/dev/null
differs "0+5+hole 90+10+data 100+16283+hole 16383+1+data" db#a db@b

# Of a clone, and of what was the volume, when the clone has taken its place.
lcpfs set "$POOL" db volume=64M >/dev/null
lcpfs clone "$POOL" db@b new >/dev/null
lcpfs set "$POOL" new volume=64M >/dev/null
lcpfs snapshot "$POOL" new@x >/dev/null
lcpfs bookmark "$POOL" new@x x >/dev/null
differs "" new#x
differs "" new#x new@x
expect 1 lcpfs diff "$POOL" db#b new@x
says "db#b is no bookmark of new"
lcpfs snapshot "$POOL" db@c >/dev/null
lcpfs bookmark "$POOL" db@c c >/dev/null
lcpfs promote "$POOL" new >/dev/null
differs "" db#c
differs "0+5+hole 90+10+data 100+16283+hole 16383+1+data" new#a new@b
expect 1 lcpfs diff "$POOL" new#c db@c
says "new#c is no bookmark of db"
lcpfs promote "$POOL" db >/dev/null
lcpfs destroy "$POOL" new@x db@c >/dev/null
lcpfs destroy "$POOL" new >/dev/null

# More than an answer has room for.
serve "$POOL"
lcpfs snapshot "$POOL" db@c >/dev/null
change 'for i in range(0, 10000, 2): h.pwrite(block(1), i * 4096)'
all=$(seq -f '%g+1+data' -s ' ' 0 2 9999)
differs "$all" db@c
lcpfs snapshot "$POOL" db@d >/dev/null
unserve
differs "$all" db@c db@d
check_clean "$POOL"
