#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# snapshot, list --snapshots, rollback, destroy: the same with a server and without, and what remove says then.
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
	head -n 1 out | grep -q "^NAME  *USED REFERENCED WRITTEN LENGTH CREATED *$" || fail "$(cat out)"
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

	expect 0 lcpfs rollback "$POOL" db@third
	prints "db: rolled back to db@third"
	expect 0 lcpfs rollback "$POOL" db@two --force --json
	prints '{"rolled_back":"db@two","destroyed":["db@third","db@2026-11-27_18:00"],"dry_run":false}'
	expect 0 lcpfs destroy "$POOL" db@one,two -n
	expect 0 lcpfs destroy "$POOL" db@one,two log@one
	prints "db@one: destroyed
db@two: destroyed
log@one: destroyed"
	expect 0 lcpfs log "$POOL"
	grep -v decision out | sed 's/^[^ ]* [^ ]* [^ ]*  //' | tail -n 7 >got
	cat >wanted <<-'EOF'
		snapshot   db@one, db@two
		snapshot   log@one
		snapshot   db@2026-11-27_18:00, db@third
		rollback   db to db@third
		destroyed  db@third, db@2026-11-27_18:00
		rollback   db to db@two
		destroyed  db@one, db@two
		destroyed  log@one
	EOF
	tail -n 7 wanted | cmp - got || fail "$(diff wanted got)"
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
unserve
[ "$(listed)" = "db@kept 67108864" ] || fail "$(listed)"
serve "$POOL"
[ "$(listed)" = "db@kept 67108864" ] || fail "$(listed)"
unserve
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
