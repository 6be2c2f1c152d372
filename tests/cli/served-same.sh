#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A command gives the same answer whether the pool is served or not, and changes through the server last.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

# What time and opening change anyway; a server notes within a second or so what its engine thinks.
steady() {
	names='txg\|device_blocks\|table_blocks\|checkpoints\|memory_bytes\|standing_s\|sequence'
	sed "s/\"\($names\)\":[0-9.]*,//g; s/,{[^{}]*\"kind\":\"decision\"[^{}]*}//g
		s/; this answer has stood for [0-9]* s//g; s/stood for [0-9]* s/stood/g" out
}

ask() {
	for command in "list $POOL" "status $POOL" "explain $POOL" "log $POOL" "tune $POOL"; do
		# shellcheck disable=SC2086
		expect 0 lcpfs $command --json
		steady
		# shellcheck disable=SC2086
		expect 0 lcpfs $command
	done
	for wrong in "resize $POOL nobody 32M" "resize $POOL db 1M" "add $POOL db --min 1M --max 2M" \
		"remove $POOL nobody" "explain $POOL nobody"; do
		# shellcheck disable=SC2086
		expect 1 lcpfs $wrong
		cat err
	done
}

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 32M >/dev/null
lcpfs tune "$POOL" off >/dev/null
ask >unserved
serve "$POOL"
ask >served
diff unserved served || fail "answers differ"

expect 0 lcpfs add "$POOL" log --min 16M --max 64M
expect 0 lcpfs resize "$POOL" db 64M
grep -q "^db: size 64" out || fail "$(cat out)"
expect 0 lcpfs tune "$POOL" observe
expect 0 lcpfs scrub "$POOL"
expect 0 lcpfs add "$POOL" short-lived --min 16M --max 16M
expect 0 lcpfs remove "$POOL" short-lived
expect 1 lcpfs create "$POOL" --force --size 256M
expect 2 lcpfs check "$POOL"
expect 1 lcpfs serve "$POOL" --socket other
[ ! -e other ] && [ ! -e other.control ] || fail "a refused server left its sockets behind"
expect 1 lcpfs serve "$POOL" --socket "$SOCKET"
lcpfs list "$POOL" --json >out
steady >served
unserve
[ ! -e "$SOCKET" ] && [ ! -e "$SOCKET.control" ] || fail "sockets were left behind"
lcpfs list "$POOL" --json >out
steady >unserved
diff served unserved || fail "what was changed through the server was not kept"
expect 0 lcpfs tune "$POOL"
[ "$(cat out)" = observe ] || fail "the mode was not kept"
check_clean "$POOL"
