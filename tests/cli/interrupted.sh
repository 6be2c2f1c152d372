#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A server that stands still is told of in time, and a change that was given up is not made later.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool
lcpfs create "$POOL" --size 64M --metaslab 1M
for name in db one two three; do
	lcpfs add "$POOL" "$name" --min 4M --max 8M >/dev/null
done
serve "$POOL"
kill -STOP "$SERVER"
at_end "kill -CONT $SERVER 2>/dev/null"
expect 1 timeout 15 "$LCPFS" list "$POOL"
says "process $SERVER"
says "$SOCKET.control"
expect 1 timeout 15 "$LCPFS" remove "$POOL" one
timeout --foreground -s INT 1 "$LCPFS" remove "$POOL" two && fail "it was removed" || true
timeout --foreground -s INT 1 "$LCPFS" set "$POOL" db name=other && fail "it was renamed" || true
expect 1 timeout 15 "$LCPFS" set "$POOL" one name=other
# One that sends its request at once and does not wait for who answers.
/usr/bin/python3 - "$SOCKET.control" <<'PYTHON'
import socket, sys
for end in (lambda s: s.close(), lambda s: (s.shutdown(socket.SHUT_RDWR), s.close())):
	s = socket.socket(socket.AF_UNIX)
	s.connect(sys.argv[1])
	s.sendall(b'{"command":"remove","name":"three"}\n')
	end(s)
PYTHON
kill -CONT "$SERVER"
sleep 0.5
for name in db one two three; do
	[ "$(field "$name" 'p["name"]')" = "$name" ] || fail "$name is gone"
done
# Who only has nothing more to say still gets the answer.
/usr/bin/python3 - "$SOCKET.control" <<'PYTHON'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"command":"remove","name":"three"}\n')
s.shutdown(socket.SHUT_WR)
assert b'"ok":true' in s.makefile("rb").readline()
PYTHON
unserve
check_clean "$POOL"

# In JSON, complaints too.
for command in "list $T/nowhere --json" "remove $POOL nobody --json" "list --json" "list $POOL --nonsense --json" \
	"check $T/nowhere --json" "dump $T/nowhere --json"; do
	# shellcheck disable=SC2086
	lcpfs $command >out 2>err && fail "$command is well" || true
	/usr/bin/python3 -c 'import json, sys
e = json.load(open("err"))["error"]
assert e["name"].isupper() and e["message"], e' || fail "$command: $(cat err)"
	[ "$(wc -l <err)" -eq 1 ] || fail "$command: $(cat err)"
done
