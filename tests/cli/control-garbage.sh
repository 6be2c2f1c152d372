#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nothing that comes over the control socket hangs or ends the server.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 32M >/dev/null
serve "$POOL"
lcpfs list "$POOL" | cut -c1-40 >before
/usr/bin/python3 - "$SOCKET.control" <<'PYTHON'
import json
import random
import socket
import struct
import sys
import time

PATH = sys.argv[1]
random.seed(1)


def connect():
	s = socket.socket(socket.AF_UNIX)
	s.connect(PATH)
	s.settimeout(10)
	return s


def answers(data, count=1):
	"""What comes back for these bytes: `count` lines, as JSON."""
	s = connect()
	s.sendall(data)
	lines = s.makefile("rb")
	got = [json.loads(lines.readline()) for _ in range(count)]
	s.close()
	return got


def refused(data, name="INVALID"):
	answer = answers(data + b"\n")[0]
	assert answer["ok"] is False and answer["error"]["name"] == name, (data[:80], answer)
	message = answer["error"]["message"]
	assert message and "\n" not in message and len(message) < 500, message


NOT_REQUESTS = r"""
garbage
{
[]
null
1
"list"
{}
{"command":1}
{"command":null}
{"command":"frobnicate"}
{"command":"list","what":1}
{"command":"list"} x
{"command":"resize"}
{"command":"remove"}
{"command":"resize","name":1,"size_bytes":1}
{"command":"resize","name":"db","size_bytes":"1"}
{"command":"resize","name":"db","size_bytes":-1}
{"command":"resize","name":"db","size_bytes":1.5}
{"command":"resize","name":"db","size_bytes":1e30}
{"command":"resize","name":"db","size_bytes":null}
{"command":"remove","name":"d\u0000b"}
{"command":"tune","mode":"perhaps"}
{"command":"log","after":-1}
{"command":"add","name":"x","min_bytes":18446744073709551615,"max_bytes":18446744073709551616}
"""
for text in NOT_REQUESTS.encode().split(b"\n"):  # among them an empty line
	refused(text)
for text in (b"\xff\xfe\x00", b'{"command":"\xff"}', b"[" * 1000, b'{"a":' * 1000,
		b'{"command":"add","name":"' + b"x" * 60000 + b'","min_bytes":1,"max_bytes":1}'):
	refused(text)
refused(b'{"command":"remove","name":"nobody"}', "NOT_FOUND")
refused(b"x" * 65536, "RANGE")

# many requests at once, and in pieces
many = answers(b'{"command":"tune"}\n' * 200, 200)
assert all(a["ok"] for a in many)
s = connect()
for byte in b'{"command":"tune"}\n':
	s.sendall(bytes([byte]))
assert json.loads(s.makefile().readline())["ok"]
s.close()

# noise, and requests with noise in them
for _ in range(300):
	request = bytearray(b'{"command":"explain","name":"db"}\n')
	for _ in range(random.randrange(4)):
		request[random.randrange(len(request) - 1)] = random.randrange(256)
	s = connect()
	s.sendall(bytes(request) if random.random() < 0.7 else random.randbytes(random.randrange(5000)))
	if random.random() < 0.5:  # some leave without waiting, some at once and without a goodbye
		s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	s.close()

# gone in the middle of long work
for _ in range(20):
	s = connect()
	s.sendall(b'{"command":"scrub"}\n{"command":"resize","name":"db","size_bytes":33554432}\n')
	s.close()

# many clients, once those are gone; the ones too many are told so
def are_served():
	few = [connect() for _ in range(8)]
	try:
		for s in few:
			s.sendall(b'{"command":"tune"}\n')
	except BrokenPipeError:
		return False
	return all(json.loads(s.makefile().readline())["ok"] for s in few)

tries = 0
while not are_served():
	tries += 1
	assert tries < 300
	time.sleep(0.1)
crowd = [connect() for _ in range(100)]
turned_away = 0
for s in crowd:
	try:
		s.sendall(b'{"command":"tune"}\n')
	except BrokenPipeError:
		pass  # told already
	answer = json.loads(s.makefile().readline())
	turned_away += not answer["ok"] and answer["error"]["name"] == "BUSY"
assert 0 < turned_away < 100, turned_away
for s in crowd:
	s.close()
PYTHON
listed() { # it may take a moment until all of them are gone
	lcpfs list "$POOL" >listed 2>/dev/null
}
wait_until listed
cut -c1-40 listed >after
cmp before after || fail "something changed"

# Another user gets no further than the socket, and where its mode was changed, not into it.
for socket in "$SOCKET" "$SOCKET.control"; do
	[ "$(stat -c %a "$socket")" = 600 ] || fail "$socket has mode $(stat -c %a "$socket")"
done
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	chmod 711 "$T"
	chmod 666 "$SOCKET.control"
	# shellcheck disable=SC2016
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c 'import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
	s.sendall(b"{\"command\":\"tune\"}\n")
except BrokenPipeError:
	pass
answer = json.loads(s.makefile().readline())
assert not answer["ok"] and "owner" in answer["error"]["message"], answer' nbd.sock.control || fail "anybody may"
fi

# a client that does not read, and one that does not finish, do not hold up the server's end
/usr/bin/python3 - "$SOCKET.control" <<'PYTHON' &
import socket
import sys
import time

lazy, partial = (socket.socket(socket.AF_UNIX) for _ in range(2))
for s in (lazy, partial):
	s.connect(sys.argv[1])
partial.sendall(b'{"command":')
lazy.setblocking(False)
try:
	while True:
		lazy.send(b'{"command":"log"}\n' * 100)
except BlockingIOError:
	open("stuck", "w").close()
	time.sleep(600)
PYTHON
CLIENT=$!
at_end "end_job $CLIENT"
wait_until [ -e stuck ]
expect 0 lcpfs list "$POOL"
started=$(date +%s)
unserve
[ $(($(date +%s) - started)) -lt 60 ] || fail "the server's end took long"
check_clean "$POOL"
