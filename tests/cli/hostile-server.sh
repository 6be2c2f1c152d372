#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Where a pool's lease leads sits somebody who is not its server: nothing hangs, nothing reaches the terminal that
# a terminal obeys, memory is bounded, and no command reaches a server of another pool.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool
lcpfs create "$POOL" --size 64M --metaslab 1M
lcpfs add "$POOL" db --min 8M --max 16M >/dev/null
GUID=$(lcpfs status "$POOL" --json | sed 's/.*"guid":"\([0-9a-f]*\)".*/\1/')
serve "$POOL"
unserve KILL # its lease stays
wait_released "$POOL"
hold "$POOL"
EVIL=
at_end 'kill $EVIL 2>/dev/null'

evil() {
	[ -z "$EVIL" ] || { kill "$EVIL"; wait "$EVIL" 2>/dev/null || true; }
	rm -f "$SOCKET.control"
	/usr/bin/python3 "$TESTS/cli/hostile_server.py" "$SOCKET.control" "$POOL" "$GUID" "$1" \
		>evil.out 2>evil.err &
	EVIL=$!
	wait_until grep -q up evil.out
}

# bounded SECONDS COMMAND...: ends in time, in little memory.
bounded() {
	seconds=$1
	shift
	(ulimit -v 600000 2>/dev/null; exec timeout "$seconds" "$LCPFS" "$@") >out 2>err && code=0 || code=$?
	[ "$code" -ne 124 ] || fail "$* hangs"
	[ "$code" -lt 126 ] || fail "$*: $code"
}

for mode in escapes escapes-in-error; do
	evil "$mode"
	for command in "list" "status" "explain" "log" "tune" "scrub" "remove x" "resize x 8M" "list --json" \
		"log --json"; do
		# shellcheck disable=SC2086
		set -- $command
		verb=$1
		shift
		bounded 60 "$verb" "$POOL" "$@"
		cat out err >all
		# Colours are ours only on a terminal, which this is not.
		! LC_ALL=C grep -qaP '\x1b|\x07|\x7f|\xc2\x9b|\xe2\x80\xae' all ||
			fail "$command, $mode: $(cat -v all)"
		! grep -qa '^lcpfs: second' all || fail "$command, $mode: two lines"
	done
done
for mode in silent backlog drip-hello flood many-objects many-numbers deep other-pool; do
	evil "$mode"
	bounded 60 list "$POOL"
	[ "$code" -eq 1 ] || fail "$mode: $(cat out err)"
	[ "$(wc -l <err)" -eq 1 ] || fail "$mode: $(cat err)"
done
grep -q "another pool" err || fail "does not say that it is another pool: $(cat err)"
evil silent-later
(sleep 2; kill -9 "$EVIL") &
bounded 60 remove "$POOL" db
[ "$code" -eq 1 ] || fail "silent-later: $(cat out err)"

# One that is neither root nor the pool's owner is not even asked.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	kill "$EVIL" 2>/dev/null || true
	rm -f "$SOCKET.control"
	chmod 777 "$T"
	chmod 644 pool
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 - nbd.sock.control pool "$GUID" \
		escapes <"$TESTS/cli/hostile_server.py" >evil.out 2>evil.err &
	EVIL=$!
	wait_until grep -q up evil.out
	expect 1 lcpfs list "$POOL"
	says "is not its owner"
	chmod 700 "$T"
fi

# A copy of a served pool, which somebody has locked: its lease leads to the server of the original.
kill "$HOLDER"
wait "$HOLDER" 2>/dev/null || true
kill "$EVIL" 2>/dev/null || true
rm -f "$SOCKET.control"
serve "$POOL"
cp "$POOL" copy
hold copy
expect 1 lcpfs remove copy db
says "another pool"
ln "$POOL" linked # the same pool by another name is no copy
expect 0 lcpfs remove linked db
unserve
