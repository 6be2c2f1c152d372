#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# snapshot, list --snapshots, hold, release, rollback, destroy: the same with a server and without, and what remove
# says then.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

# What list --snapshots says, without the times.
listed() {
	lcpfs list "$POOL" --snapshots --json | /usr/bin/python3 -c '
import json, sys, time
snapshots = json.load(sys.stdin)["snapshots"]
for s in snapshots:
	assert abs(s["created_s"] - time.time()) < 100 and s["clients"] == 0, s
	assert s["name"] == s["partition"] + "@" + s["snapshot"], s
print(*(s["name"] for s in snapshots), *{s["volume_bytes"] for s in snapshots})'
}

# prints TEXT: the last expect did, word for word.
prints() {
	[ "$(cat out)" = "$1" ] || fail "$(cat out), not $1"
}

held() {
	lcpfs list "$POOL" --snapshots | grep -c ' held *$'
}

journey() {
	expect 0 lcpfs list "$POOL" --snapshots
	[ ! -s out ] || fail "there are some: $(cat out)"
	expect 0 lcpfs snapshot "$POOL" db@one log@one db@two
	prints "db@one: created
log@one: created
db@two: created"
	expect 0 lcpfs snapshot "$POOL" db@2026-11-27_18:00,third
	[ "$(listed)" = "db@one db@two db@2026-11-27_18:00 db@third log@one 67108864" ] || fail "$(listed)"
	lcpfs list "$POOL" --snapshots >out
	head -n 1 out | grep -q "^NAME  *USED REFERENCED WRITTEN LENGTH CREATED  *STATE$" || fail "$(cat out)"
	# Sizes are looked for only where they are asked for.
	expect 0 lcpfs list "$POOL" --snapshots --json --columns name,state
	! grep -q used_blocks out || fail "it looked for sizes: $(cat out)"
	expect 0 lcpfs list "$POOL" --snapshots --json -o used
	grep -q used_blocks out || fail "no sizes: $(cat out)"
	expect 0 lcpfs list "$POOL" --snapshots -H -o state,name
	tr "\t" _ <out | xargs >got
	[ "$(cat got)" = "_db@one _db@two _db@2026-11-27_18:00 _db@third _log@one" ] || fail "$(cat got)"
	expect 0 lcpfs list "$POOL" --snapshots -o length,name
	head -n 1 out | grep -q '^LENGTH NAME' || fail "$(cat out)"
	expect 2 lcpfs list "$POOL" --snapshots -o name,nothing
	expect 2 lcpfs list "$POOL" -o name
	[ "$(field db 'p["snapshots"]')" = 4 ] || fail "db has 4"

	expect 2 lcpfs snapshot "$POOL"
	expect 1 lcpfs snapshot "$POOL" db
	says "db names no snapshot: give NAME@SNAP"
	expect 1 lcpfs snapshot "$POOL" log@two db@one
	says "snapshot db@one exists already"
	expect 1 lcpfs snapshot "$POOL" nobody@one
	says "there is no partition nobody"
	expect 1 lcpfs snapshot "$POOL" db@a/b
	says "1 to 63 of"
	expect 1 lcpfs destroy "$POOL" db
	says "names no snapshot"
	expect 1 lcpfs destroy "$POOL" db@one,none
	says "there is no snapshot db@none"
	expect 1 lcpfs destroy "$POOL" db@one,one
	says "named twice"
	expect 2 lcpfs rollback "$POOL" db@one db@two
	expect 1 lcpfs rollback "$POOL" db@none
	says "there is no snapshot db@none"
	expect 1 lcpfs rollback "$POOL" db@two
	says "db@2026-11-27_18:00, db@third are younger than db@two; --force destroys them first"
	expect 1 lcpfs remove "$POOL" log
	says "partition log has 1 snapshot (log@one)"
	! lcpfs rollback "$POOL" db@two --json 2>err >out || fail "rolled back"
	grep -q '"name":"EXISTS"' err || fail "$(cat err)"
	[ "$(listed)" = "db@one db@two db@2026-11-27_18:00 db@third log@one 67108864" ] || fail "$(listed)"

	# What is held stays, whoever asks; names come in ranges, too.
	expect 0 lcpfs hold "$POOL" db@two%third log@one
	prints "db@two: held
db@2026-11-27_18:00: held
db@third: held
log@one: held"
	[ "$(held)" -eq 4 ] || fail "$(held) are held"
	expect 1 lcpfs hold "$POOL" db@one,none
	says "there is no snapshot db@none"
	expect 1 lcpfs destroy "$POOL" db@%
	says "snapshot db@two is held, so that nobody destroys it; release it first"
	expect 1 lcpfs rollback "$POOL" db@two --force
	says "snapshot db@2026-11-27_18:00 is held"
	expect 1 lcpfs remove "$POOL" log --force
	says "snapshot log@one is held"
	expect 0 lcpfs release "$POOL" db@two%,one log@one
	[ "$(held)" -eq 0 ] || fail "$(held) are held"
	expect 1 lcpfs destroy "$POOL" db@third%one
	says "db@third is younger than db@one: give the older first"
	expect 1 lcpfs destroy "$POOL" db@third%none
	says "there is no snapshot db@none"
	expect 1 lcpfs destroy "$POOL" none@third%
	says "there is no partition none"
	expect 1 lcpfs snapshot "$POOL" "db@%1"
	says "there is no snapshot db@1"
	expect 0 lcpfs destroy "$POOL" db@one%2026-11-27_18:00 -n
	prints "would be: db@one: destroyed
would be: db@two: destroyed
would be: db@2026-11-27_18:00: destroyed
would free 0"

	expect 1 lcpfs rename "$POOL" db@third db@two
	says "snapshot db@two exists already"
	expect 1 lcpfs rename "$POOL" db@third log@three
	says "a snapshot of db stays one of db"
	expect 0 lcpfs rename "$POOL" db@third 3rd --dry-run
	prints "would be: db@3rd: renamed, was db@third"
	expect 0 lcpfs rename "$POOL" db@third db@3rd
	prints "db@3rd: renamed, was db@third"
	[ "$(listed)" = "db@one db@two db@2026-11-27_18:00 db@3rd log@one 67108864" ] || fail "$(listed)"
	expect 0 lcpfs rename "$POOL" db@3rd third --json
	prints '{"renamed":"db@3rd","name":"db@third","dry_run":false}'
	expect 0 lcpfs bookmark "$POOL" db@one b1 --dry-run
	prints "would be: db#b1: bookmark of db@one"
	expect 0 lcpfs list "$POOL" --bookmarks -H
	prints ""
	expect 0 lcpfs bookmark "$POOL" db@third b3
	prints "db#b3: bookmark of db@third"
	expect 1 lcpfs bookmark "$POOL" db@one '#b3'
	says "bookmark db#b3 exists already"
	expect 0 lcpfs bookmark "$POOL" db@one db#b1 --json
	prints '{"bookmark":"db#b1","snapshot":"db@one","dry_run":false}'
	expect 0 lcpfs list "$POOL" --bookmarks -H -o name
	prints "db#b1
db#b3"
	expect 0 lcpfs list "$POOL" --bookmarks
	head -n 1 out | grep -q '^NAME  *CREATED' || fail "$(cat out)"
	expect 2 lcpfs list "$POOL" --bookmarks -o used
	expect 2 lcpfs list "$POOL" --bookmarks --snapshots
	expect 2 lcpfs list "$POOL" --bookmarks --clones
	expect 1 lcpfs destroy "$POOL" db#b1 db@one
	says "db@one names no bookmark: give NAME#MARK"
	expect 1 lcpfs destroy "$POOL" db#none
	says "there is no bookmark db#none"
	expect 1 lcpfs rollback "$POOL" db@one
	expect 0 lcpfs rollback "$POOL" db@third
	prints "db: rolled back to db@third"
	expect 0 lcpfs rollback "$POOL" db@two --force --json
	prints '{"rolled_back":"db@two","destroyed":["db@third","db@2026-11-27_18:00"],"dry_run":false}'
	expect 0 lcpfs destroy "$POOL" db@one,two -n
	expect 0 lcpfs list "$POOL" --bookmarks -H -o name
	prints ""
	expect 0 lcpfs destroy "$POOL" db@one,two log@one
	prints "db@one: destroyed
db@two: destroyed
log@one: destroyed"
	expect 0 lcpfs log "$POOL"
	grep -v decision out | sed 's/^[^ ]* [^ ]* [^ ]*  //' | tail -n 16 >got
	cat >wanted <<-'EOF'
		snapshot   db@one, db@two
		snapshot   log@one
		snapshot   db@2026-11-27_18:00, db@third
		held       db@two, db@2026-11-27_18:00, db@third
		held       log@one
		released   db@two, db@2026-11-27_18:00, db@third, db@one
		released   log@one
		renamed    db@3rd, once db@third
		renamed    db@third, once db@3rd
		bookmark   db#b3 of db@third
		bookmark   db#b1 of db@one
		destroyed  db#b1
		rollback   db to db@third
		destroyed  db@third, db@2026-11-27_18:00
		rollback   db to db@two
		destroyed  db@one, db@two
		destroyed  log@one
	EOF
	tail -n 16 wanted | cmp - got || fail "$(diff wanted got)"
	[ -z "$(listed)" ] || fail "$(listed)"
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
lcpfs add "$POOL" log --min 16M --max 64M >/dev/null
lcpfs tune "$POOL" off >/dev/null
journey
check_clean "$POOL"
serve "$POOL"
journey
lcpfs snapshot "$POOL" db@kept >/dev/null
lcpfs hold "$POOL" db@kept >/dev/null
unserve
[ "$(listed)" = "db@kept 67108864" ] || fail "$(listed)"
serve "$POOL"
[ "$(listed)" = "db@kept 67108864" ] || fail "$(listed)"
unserve
expect 1 lcpfs destroy "$POOL" db@kept
lcpfs release "$POOL" db@kept >/dev/null
expect 0 lcpfs remove "$POOL" db --force
[ -z "$(listed)" ] || fail "$(listed)"
check_clean "$POOL"

# As many as fit on a line of a shell, at once.
# shellcheck disable=SC2046
lcpfs snapshot "$POOL" $(seq -f 'log@%g' 100) >out
[ "$(listed | wc -w)" -eq 101 ] || fail "$(listed)"
expect 0 lcpfs destroy "$POOL" "log@$(seq -s , 100)"
[ -z "$(listed)" ] || fail "$(listed)"
check_clean "$POOL"
