#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Snapshots of a clone: taken, listed, held, renamed, rolled back to, compared, sent, cloned and destroyed as those
# of the partition, with a server and without.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool
COPY=$T/copy

# put EXPORT BLOCK COUNT BYTE: with a server of its own, where there is none
put() {
	[ -n "$served" ] || serve "$POOL"
	/usr/bin/python3 -c "
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(bytes([int(sys.argv[4])]) * 4096 * int(sys.argv[3]), 4096 * int(sys.argv[2]))
h.flush()
h.shutdown()" "$(uri "$1")" "$2" "$3" "$4" || fail "cannot write $1"
	[ -n "$served" ] || unserve
}

# holds EXPORT BLOCK BYTE
holds() {
	[ -n "$served" ] || serve "$POOL"
	got=$(/usr/bin/python3 -c "
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
print(h.pread(1, 4096 * int(sys.argv[2]))[0], h.is_read_only())
h.shutdown()" "$(uri "$1")" "$2") || fail "cannot read $1"
	[ -n "$served" ] || unserve
	case $1 in
	*@*) [ "$got" = "$3 True" ] || fail "$1 has $got at $2, not $3" ;;
	*) [ "$got" = "$3 False" ] || fail "$1 has $got at $2, not $3" ;;
	esac
}

# "NAME USED REFERENCED WRITTEN" of each snapshot.
sizes() {
	lcpfs list "$POOL" --snapshots --json | /usr/bin/python3 -c '
import json, sys
for n in json.load(sys.stdin)["snapshots"]:
	assert n["partition"] == "db", n
	print(n["name"], n["used_blocks"], n["referenced_blocks"], n["written_blocks"])'
}

# is WHAT: what the last command printed
is() {
	[ "$(cat out)" = "$1" ] || fail "$(cat out), not $1"
}

ranges() {
	lcpfs diff "$POOL" "$@" --json | /usr/bin/python3 -c '
import json, sys
print(*((r["offset"] // 4096, r["length"] // 4096) for r in json.load(sys.stdin)["ranges"]))'
}

# Either keeps its snapshots, but those up to the one that the clone is of: these are the partition's.
promote_and_back() {
	sizes >sizes
	expect 0 lcpfs promote "$POOL" copy
	expect 0 lcpfs check "$POOL"
	lcpfs list "$POOL" --snapshots --json | /usr/bin/python3 -c '
import json, sys
for n in json.load(sys.stdin)["snapshots"]:
	name = n["name"].replace("copy@one", "db@one")
	print(name, n["used_blocks"], n["referenced_blocks"], n["written_blocks"])' >now
	[ "$(cut -d ' ' -f 1,3,4 sizes)" = "$(cut -d ' ' -f 1,3,4 now)" ] || fail "$(cat now), not $(cat sizes)"
	[ "$(ranges copy@first copy@two)" = "(10, 5)" ] || fail "$(ranges copy@first copy@two)"
	[ "$(ranges copy@one db@two)" = "(10, 1)" ] || fail "$(ranges copy@one db@two)"
	holds copy 10 4
	holds db 10 9
	expect 0 lcpfs promote "$POOL" db
	sizes | cmp - sizes || fail "$(sizes), not $(cat sizes)"
}

# What list says of clones: "NAME OF USED", in blocks.
clones() {
	lcpfs list "$POOL" --clones --json | /usr/bin/python3 -c '
import json, sys
for c in json.load(sys.stdin)["clones"]:
	print(c["name"], c["origin"], c["used_blocks"])'
}

# gives_back CLONE BLOCKS PAGES: so much data, and so many pages of its tree. List said it before.
gives_back() {
	before=$(field db 'p["data_blocks"]')
	said=$(clones | sed -n "s/^$1 .* //p")
	[ "$said" = $(($2 + 2 * $3)) ] || fail "$1 has $2 blocks and $3 pages of its own, and is said to use $said"
	expect 0 lcpfs destroy "$POOL" "$1"
	for _ in $(seq 100); do
		[ "$(field db 'p["data_blocks"]')" != $((before - $2)) ] || return 0
		sleep 0.1
	done
	fail "$1 was said to have $2 blocks, and gave back $((before - $(field db 'p["data_blocks"]')))"
}

journey() {
	put db 0 100 1
	expect 0 lcpfs snapshot "$POOL" db@one
	expect 0 lcpfs clone "$POOL" db@one copy
	[ "$(clones)" = "copy db@one 0" ] || fail "$(clones)"
	expect 0 lcpfs snapshot "$POOL" copy@one --dry-run
	expect 0 lcpfs snapshot "$POOL" copy@one
	expect 0 lcpfs destroy "$POOL" copy@one
	put copy 10 10 2
	expect 0 lcpfs snapshot "$POOL" copy@first copy@again
	expect 1 lcpfs snapshot "$POOL" copy@first
	says "snapshot copy@first exists already"
	expect 1 lcpfs snapshot "$POOL" copy@two copy@two
	says "copy@two is named twice"
	put copy 10 5 3
	put db 10 1 9
	expect 0 lcpfs snapshot "$POOL" copy@two db@two
	put copy 10 2 4
	holds copy 10 4
	holds copy@two 10 3
	holds copy@first 10 2
	holds db@one 10 1
	holds copy@two 50 1

	sizes | cut -d ' ' -f 1 | tr '\n' ' ' >out
	is "db@one copy@first copy@again copy@two db@two "
	[ "$(ranges copy@first copy@two)" = "(10, 5)" ] || fail "$(ranges copy@first copy@two)"
	[ "$(ranges db@one copy@first)" = "(10, 10)" ] || fail "$(ranges db@one copy@first)"
	[ "$(ranges copy@two copy)" = "(10, 2)" ] || fail "$(ranges copy@two copy)"

	# What is refused.
	expect 1 lcpfs destroy "$POOL" copy
	says "clone copy has 3 snapshots; destroy them first, with lcpfs destroy POOL copy@%"
	expect 0 lcpfs snapshot "$POOL" copy@one
	expect 1 lcpfs promote "$POOL" copy
	says "there are db@one and copy@one, which would have one name: rename one first"
	expect 0 lcpfs destroy "$POOL" copy@one
	[ -n "$served" ] || promote_and_back
	expect 0 lcpfs hold "$POOL" copy@again
	expect 1 lcpfs destroy "$POOL" copy@again
	says "snapshot copy@again is held"
	expect 0 lcpfs release "$POOL" copy@again
	expect 1 lcpfs rollback "$POOL" copy@first
	says "copy@again, copy@two are younger than copy@first; --force destroys them first"
	expect 1 lcpfs rename "$POOL" copy@two db@three
	says "stays one of copy"
	expect 0 lcpfs rename "$POOL" copy@two three
	lcpfs receive "$POOL" copy </dev/null >out 2>&1 && fail "received into a clone"
	grep -q "there is no partition copy" out || fail "$(cat out)"

	# A clone of it, and bookmarks.
	expect 0 lcpfs clone "$POOL" copy@three further
	put further 0 1 7
	holds further 10 3
	lcpfs list "$POOL" >out
	grep -q "^further  *copy@three " out || fail "$(cat out)"
	expect 1 lcpfs destroy "$POOL" copy@three
	says "snapshot copy@three has clones (further); destroy them first"
	expect 1 lcpfs promote "$POOL" further
	says "further is a clone of copy@three, which is of a clone: promote copy first"
	expect 0 lcpfs snapshot "$POOL" further@x
	expect 0 lcpfs destroy "$POOL" further@x
	gives_back further 1 1
	expect 0 lcpfs bookmark "$POOL" copy@first mark
	expect 0 lcpfs bookmark "$POOL" db@one mark
	lcpfs list "$POOL" --bookmarks >out
	grep -q "^copy#mark " out || fail "$(cat out)"
	grep -q "^db#mark " out || fail "$(cat out)"

	# To another pool: whole, from the snapshot that the clone is of, and from a bookmark.
	lcpfs send "$POOL" db@one >base
	lcpfs send "$POOL" copy@first --from db@one >first
	lcpfs send "$POOL" copy@three --from '#mark' >second
	lcpfs add "$COPY" got --min 16M --max 16M --volume 8M >/dev/null
	for stream in base first second; do
		lcpfs receive "$COPY" got <$stream >out 2>&1 || fail "$stream: $(cat out)"
	done
	lcpfs send "$POOL" copy@three >whole
	lcpfs send "$COPY" got@three >again
	[ "$(wc -c <whole)" = "$(wc -c <again)" ] || fail "other data were received"
	lcpfs remove "$COPY" got --force >/dev/null

	# Back, and away.
	expect 0 lcpfs rollback "$POOL" copy@three
	holds copy 10 3
	expect 0 lcpfs rollback "$POOL" copy@first --force
	holds copy 10 2
	holds db 10 9
	[ -n "$served" ] || expect 0 lcpfs check "$POOL" --data
	expect 0 lcpfs destroy "$POOL" "copy@%"
	expect 0 lcpfs list "$POOL" --clones
	grep -q "^NAME  *OF  *USED  *LENGTH  *CREATED" out || fail "$(cat out)"
	expect 0 lcpfs list "$POOL" --clones -H -o of,name
	is "$(printf 'db@one\tcopy')"
	gives_back copy 10 1
	lcpfs list "$POOL" --bookmarks >out
	grep -q "^copy#mark " out && fail "$(cat out)"
	expect 0 lcpfs destroy "$POOL" db#mark
	expect 0 lcpfs destroy "$POOL" "db@%"
	lcpfs log "$POOL" --last 40 >out
	grep -q "snapshot   copy@first, copy@again" out || fail "$(cat out)"
	grep -q "rollback  *copy to copy@first" out || fail "$(cat out)"
}

lcpfs create "$POOL" --size 128M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 32M --volume 8M >/dev/null
lcpfs create "$COPY" --size 64M --metaslab 1M >/dev/null
served=
journey
serve "$POOL"
served=yes
journey
unserve
expect 0 lcpfs check "$POOL" --data
/usr/bin/python3 -c 'import xxhash' 2>/dev/null || exit 0
/usr/bin/python3 "$TESTS/../tools/decode.py" "$POOL" --totals >out || fail "$(cat out)"
