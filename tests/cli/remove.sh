#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What holds data is removed by --force or, at a terminal, by its name; an empty one without more ado. With a
# server and without. What is refused changes nothing; a dry run not even a byte.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

cat >client.py <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
if sys.argv[2] == "write":
	h.pwrite(b"x" * 3000000, 4096)  # and goes without a flush
else:
	h.trim(h.get_size(), 0)
h.shutdown()
PYTHON
# Types ANSWER at a terminal; "-": the end of the input. Prints what is to be seen there.
cat >terminal.py <<'PYTHON'
import os
import pty
import select
import sys

pid, fd = pty.fork()
if pid == 0:
	os.execv(sys.argv[2], sys.argv[2:])
out, asked = b"", False
while select.select([fd], [], [], 20)[0]:
	try:
		block = os.read(fd, 65536)
	except OSError:
		block = b""
	if not block:
		break
	out += block
	if not asked and out.endswith(b"if that is meant: "):
		asked = True
		os.write(fd, b"\x04" if sys.argv[1] == "-" else sys.argv[1].encode() + b"\n")
sys.stdout.write(out.decode().replace("\r\n", "\n"))
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if not asked else 100 + status)
PYTHON

fill() {
	lcpfs list "$POOL" --json | grep -q '"name":"db"' || lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
	served=$SERVER
	[ -n "$served" ] || serve "$POOL"
	/usr/bin/python3 client.py "$(uri db)" "$1"
	[ -n "$served" ] || unserve
}

# at_terminal CODE ANSWER ARGUMENTS...: 100 more if it asks.
at_terminal() {
	code=$1 answer=$2
	shift 2
	status=0
	/usr/bin/python3 terminal.py "$answer" "$LCPFS" remove "$POOL" db "$@" >out 2>&1 || status=$?
	[ "$status" -eq "$code" ] || fail "remove $*, answered $answer: $status, not $code: $(cat out)"
}

is_there() {
	[ "$(field db 'p["data_blocks"]')" -ge 700 ] || fail "its data is gone"
}

journey() {
	fill write
	[ -n "$SERVER" ] || cp "$POOL" before
	expect 1 lcpfs remove "$POOL" db --dry-run
	says "holds"
	expect 0 lcpfs remove "$POOL" db --dry-run --force
	grep -q "^would be: db: removed, with 2.8[0-9]M of data; 25.0M of the pool would be free$" out ||
		fail "$(cat out)"
	expect 0 lcpfs remove "$POOL" db --dry-run --force --json
	grep -q '"removed":"db".*"dry_run":true' out || fail "$(cat out)"
	expect 1 lcpfs remove "$POOL" nobody --force --dry-run
	at_terminal 0 y --dry-run
	grep -q "^would be: db: removed, with 2.8" out || fail "$(cat out)"
	[ -n "$SERVER" ] || cmp "$POOL" before || fail "a dry run changed the pool"
	expect 1 lcpfs remove "$POOL" db
	says "holds 2.8[0-9]M of data; --force"
	! lcpfs remove "$POOL" db --json >out 2>err || fail "removed"
	grep -q '"name":"NOT_EMPTY"' err || fail "$(cat err)"
	! echo db | lcpfs remove "$POOL" db 2>err || fail "an answer from a pipe is none"
	# At a terminal it asks, and only its name is an answer.
	for answer in y "" DB "db " dbx -; do
		at_terminal 101 "$answer"
		grep -q "^Partition db of .* holds 2.8[0-9]M of data, which will be lost.$" out ||
			fail "$(cat out)"
		grep -q "^lcpfs: partition db was not removed" out || fail "$(cat out)"
	done
	is_there
	at_terminal 100 db
	grep -q "^db: removed$" out || fail "$(cat out)"
	expect 1 lcpfs remove "$POOL" db

	fill write
	at_terminal 0 y --force
	fill write
	expect 0 lcpfs remove "$POOL" db --force
	[ "$(cat out)" = "db: removed" ] || fail "$(cat out)"
	# What was trimmed is no data, and nobody asks.
	fill write
	fill trim
	expect 0 lcpfs remove "$POOL" db --dry-run
	at_terminal 0 y
	fill trim
	expect 0 lcpfs remove "$POOL" db
}
lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" other --min 16M --max 64M >/dev/null
journey
check_clean "$POOL"
serve "$POOL"
journey
# A client is the first reason.
fill write
/usr/bin/python3 -c 'import nbd, subprocess, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for more in [], ["--force"], ["--force", "--dry-run"]:
	r = subprocess.run([*sys.argv[2:], *more], capture_output=True, text=True, stdin=subprocess.DEVNULL)
	assert r.returncode == 1 and "in use by 1 client" in r.stderr, r' \
	"$(uri db)" "$LCPFS" remove "$POOL" db || fail "in use"
is_there
unserve
check_clean "$POOL"
