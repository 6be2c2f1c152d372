#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every way to end the server, beside clients of every kind: it ends in order and soon, says who asked, leaves no
# socket behind, and has everything durable that was acknowledged.
# HUP as a terminal gives it to its programs, also where this test was begun by nohup.
[ -n "${HUP_IS_ITSELF-}" ] || exec env --default-signal=HUP HUP_IS_ITSELF=1 sh "$0"
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 64M --volume 48M >/dev/null

# Clients that are idle, stuck in their handshake, half through a request, not reading what they asked for; and
# one that writes and notes what was acknowledged. Ready when the file "ready" is there.
cat >clients.py <<'PYTHON'
import socket
import struct
import sys
import threading

import nbd

path, number = sys.argv[1], int(sys.argv[2])
uri = f"nbd+unix:///db?socket={path}"


def raw(greeted=True):
	s = socket.socket(socket.AF_UNIX)
	s.connect(path)
	if greeted:
		s.recv(18, socket.MSG_WAITALL)
	return s


def entered():
	s = raw()
	s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 2) + b"db")
	s.recv(10, socket.MSG_WAITALL)
	return s


idle = nbd.NBD()
idle.connect_uri(uri)
silent = [raw(False), raw(), entered()]
half = entered()
half.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, 1 << 20) + bytes(1000))
unread = entered()
for i in range(40):  # 40 MiB that nobody takes
	unread.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 1 << 20))
writer = nbd.NBD()
writer.connect_uri(uri)
writer.pwrite(number.to_bytes(4, "little") * 1024, 0)
writer.flush()
open("ready", "w").close()
written = 0
try:
	while True:
		writer.pwrite((number + written + 1).to_bytes(4, "little") * 1024, 4096)
		written += 1
except nbd.Error:
	open("written", "w").write(str(written))
PYTHON
cat >verify.py <<'PYTHON'
import sys

import nbd

number, written = int(sys.argv[2]), int(open("written").read())
h = nbd.NBD()
h.connect_uri(sys.argv[1])
assert h.pread(4096, 0) == number.to_bytes(4, "little") * 1024
found = int.from_bytes(h.pread(4, 4096), "little") - number
assert written <= found <= written + 1, (written, found)
h.shutdown()
PYTHON

start_clients() {
	rm -f ready written
	/usr/bin/python3 clients.py "$SOCKET" "$1" &
	CLIENTS=$!
	at_end "end_job $CLIENTS"
	wait_until [ -e ready ]
}

# ended WITHIN_MS: since $began; everything is as it has to be.
ended() {
	status=0
	wait "$SERVER" || status=$?
	took=$(($(date +%s%3N) - began))
	SERVER=
	[ "$status" -eq 0 ] || fail "it ended with $status"
	[ "$took" -lt "$1" ] || fail "ending took $took ms"
	! ls "$SOCKET" "$SOCKET.control" 2>/dev/null || fail "a socket was left"
	wait "$CLIENTS" || fail "the clients failed"
	check_clean "$POOL"
}

number=1000000
for signal in TERM INT QUIT HUP; do
	number=$((number + 1000000))
	: >server.log
	serve "$POOL"
	start_clients $number
	began=$(date +%s%3N)
	kill -"$signal" "$SERVER"
	ended 20000
	grep -q "^lcpfs: stopping: .*, from process [0-9]" server.log ||
		fail "$signal: no line says why: $(cat server.log)"
	serve "$POOL"
	/usr/bin/python3 verify.py "$(uri db)" $number
	unserve
done

# HUP that was ignored from the start, as nohup has it.
trap '' HUP
serve "$POOL"
trap - HUP
kill -HUP "$SERVER"
sleep 0.3
expect 0 lcpfs list "$POOL"
unserve

# A second signal waits for nobody, a third ends it on the spot; what was flushed is there in any case.
number=$((number + 1000000))
serve "$POOL"
start_clients $number
began=$(date +%s%3N)
kill -TERM "$SERVER"
kill -INT "$SERVER" 2>/dev/null || true
ended 20000
serve "$POOL"
start_clients $((number + 1000000))
kill -TERM "$SERVER"
kill -INT "$SERVER" 2>/dev/null || true
kill -QUIT "$SERVER" 2>/dev/null || true
wait "$SERVER" || true
SERVER=
wait "$CLIENTS" || fail "the clients failed"
wait_released "$POOL"
serve "$POOL"
/usr/bin/python3 - "$(uri db)" $((number + 1000000)) <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
assert h.pread(4096, 0) == int(sys.argv[2]).to_bytes(4, "little") * 1024, "what was flushed is gone"
PYTHON
unserve

# A reader of its messages that goes is no reason to end.
mkfifo messages
rm server.out
head -n 1 messages >server.out &
"$LCPFS" serve "$POOL" --socket "$SOCKET" --verbose >messages 2>&1 &
SERVER=$!
wait_until grep -qs "^lcpfs: serving" server.out
for _ in 1 2 3; do
	nbdinfo --size "$(uri db)" >/dev/null || fail "it ended when nobody read its messages"
done
unserve
check_clean "$POOL"
