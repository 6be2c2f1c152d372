# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the tests of the command and of the server share; sourced. Each test gets a folder of its own ($T, the
# current one), and everything it started ends with it. $LCPFS is the command under test.
set -eu

: "${LCPFS:=$(cd "$(dirname "$0")/../.." && pwd)/build/lcpfs}"
[ -x "$LCPFS" ] || { echo "no $LCPFS: build it first" >&2; exit 77; }
TESTS=$(cd "$(dirname "$0")/.." && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/lcpfs-test.XXXXXX")
SOCKET=$T/nbd.sock
# The library of a sanitized build; empty in others.
SANITIZER=$(ldd "$LCPFS" | sed -n 's/.*=> \(.*lib[at]san[^ ]*\).*/\1/p')
SERVER=
CLEANUPS=
cd "$T"

# At the end, in reverse order, whatever happens.
at_end() {
	CLEANUPS="$*
$CLEANUPS"
}

# Ends a process that this shell started, and none that got its number since.
end_job() {
	! grep -q "^PPid:	$$\$" "/proc/$1/status" 2>/dev/null || kill -9 "$1" 2>/dev/null
}

finish() {
	status=$?
	trap - EXIT
	set +e
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		echo "--- failed with exit code $status; the server's log:"
		tail -n 40 "$T/server.log" 2>/dev/null
	fi
	printf '%s\n' "$CLEANUPS" | while IFS= read -r command; do
		[ -z "$command" ] || eval "$command"
	done
	[ -z "$SERVER" ] || end_job "$SERVER"
	rm -rf "$T"
	exit "$status"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

skip() {
	echo "skipped: $*"
	exit 77
}

needs() {
	for program; do
		command -v "$program" >/dev/null || skip "no $program"
	done
}

lcpfs() {
	"$LCPFS" "$@"
}

uri() {
	echo "nbd+unix:///$1?socket=$SOCKET"
}

# serve POOL [OPTIONS]: in the background; returns when it is ready.
serve() {
	pool=$1
	shift
	: >server.out
	"$LCPFS" serve "$pool" --socket "$SOCKET" "$@" >server.out 2>>server.log &
	SERVER=$!
	tries=0
	until grep -q "^lcpfs: serving" server.out; do
		kill -0 "$SERVER" 2>/dev/null || fail "the server did not start: $(cat server.log)"
		tries=$((tries + 1))
		[ "$tries" -lt 2000 ] || fail "the server is not ready after a minute"
		sleep 0.03
	done
}

# wait_until COMMAND...: until it succeeds, for a minute at most.
wait_until() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 1200 ] || fail "in vain: $*"
		sleep 0.05
	done
}

is_locked() {
	! flock --nonblock "$1" true 2>/dev/null
}

# hold FILE: locked by somebody else, process $HOLDER.
hold() {
	flock --no-fork "$1" sleep 600 &
	HOLDER=$!
	at_end "end_job $HOLDER"
	wait_until is_locked "$1"
}

# unserve [SIGNAL]: ends the server and checks that it ended well.
unserve() {
	kill "-${1:-TERM}" "$SERVER"
	status=0
	wait "$SERVER" || status=$?
	SERVER=
	[ "${1:-TERM}" = KILL ] || [ "$status" -eq 0 ] || fail "the server ended with $status"
}

# The kernel may hold a killed process's lock on the pool for a moment, until its last requests are done.
wait_released() {
	for _ in $(seq 400); do
		"$LCPFS" check "$1" >/dev/null 2>&1 || [ $? -ne 2 ] || { sleep 0.05; continue; }
		return
	done
}

# expect CODE COMMAND...: runs it, output in out and err; a code other than 0 needs exactly one line of complaint.
expect() {
	wanted=$1
	shift
	code=0
	"$@" >out 2>err </dev/null || code=$?
	[ "$code" -eq "$wanted" ] || fail "$*: exit code $code, not $wanted: $(cat out err)"
	[ "$wanted" -eq 0 ] && return 0
	[ "$(wc -l <err)" -eq 1 ] || fail "$*: not one line on standard error: $(cat err)"
	grep -q '^lcpfs: ' err || fail "$*: does not start with lcpfs: $(cat err)"
	[ "$(wc -c <err)" -lt 600 ] || fail "$*: too long: $(cat err)"
}

# says TEXT: in the complaint of the last expect.
says() {
	grep -q -- "$1" err || fail "does not say \"$1\": $(cat err)"
}

# field NAME EXPRESSION: of partition NAME, by Python: p is the partition.
field() {
	lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys
p = next(p for p in json.load(sys.stdin)["partitions"] if p["name"] == sys.argv[1])
print(eval(sys.argv[2]))' "$1" "$2"
}

check_clean() {
	expect 0 lcpfs check "$1" --data
}
