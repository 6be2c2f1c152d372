#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Clients that want harm, or are merely broken: each gets what the protocol has for it, none hurts the client that
# works beside them, and the server says little.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool
IN_TURN=${IN_TURN:-1500}

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 64M --volume 32M >/dev/null
serve "$POOL"
/usr/bin/python3 - "$SOCKET" "$IN_TURN" <<'PYTHON'
import os
import random
import socket
import struct
import sys
import threading
import time

import nbd

path, in_turn = sys.argv[1], int(sys.argv[2])
rng = random.Random(1)


def raw():
	s = socket.socket(socket.AF_UNIX)
	s.settimeout(30)
	s.connect(path)
	return s


def greeted():
	s = raw()
	assert s.recv(18, socket.MSG_WAITALL) == b"NBDMAGICIHAVEOPT\0\3"
	return s


def option(number, data=b""):
	return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def entered():
	s = greeted()
	s.sendall(struct.pack(">I", 3) + option(1, b"db"))
	s.recv(10, socket.MSG_WAITALL)
	return s


def request(command, offset, length, flags=0, magic=0x25609513):
	return struct.pack(">IHHQQI", magic, flags, command, 5, offset & (1 << 64) - 1, length)


def ended(s):
	"""Nothing more comes."""
	try:
		return s.recv(1 << 16) == b""
	except ConnectionResetError:
		return True


def answer(s):
	magic, error, cookie = struct.unpack(">IIQ", s.recv(16, socket.MSG_WAITALL))
	assert magic == 0x67446698 and cookie == 5
	return error


stop = False
counted = [0]


def work():
	h = nbd.NBD()
	h.connect_uri(f"nbd+unix:///db?socket={path}")
	while not stop:
		data = os.urandom(9000)
		h.pwrite(data, 1 << 20)
		assert h.pread(9000, 1 << 20) == data
		counted[0] += 1
	h.flush()
	h.shutdown()


worker = threading.Thread(target=work, daemon=True)
worker.start()

# slower than anybody is
slow, began = greeted(), time.monotonic()
slow_end = []


def dribble():
	for byte in struct.pack(">I", 3) + option(7, bytes(500)):
		try:
			slow.send(bytes([byte]))
			time.sleep(0.3)
		except OSError:
			break
	slow_end.append(time.monotonic())


dribbler = threading.Thread(target=dribble, daemon=True)
dribbler.start()
silent = raw()

# what is no NBD
for nonsense in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(64), b"\xff" * 64, rng.randbytes(1000)):
	s = greeted()
	s.sendall(nonsense)
	assert ended(s), nonsense
s = greeted()
s.sendall(struct.pack(">I", 3) + b"IHAVENOT" + bytes(8))
assert ended(s)
s = entered()
s.sendall(request(0, 0, 512, magic=0x12560953))
assert ended(s)

# options of every length, also some that do not come
s = greeted()
s.sendall(struct.pack(">I", 3))
for number, length in ((3, 1 << 20), (99, 1 << 22), (10, 70000)):
	s.sendall(option(number, bytes(length)))
	head = s.recv(20, socket.MSG_WAITALL)
	s.recv(struct.unpack(">I", head[16:])[0], socket.MSG_WAITALL)
	assert head[12] == 0x80, head
s.sendall(b"IHAVEOPT" + struct.pack(">II", 7, 0xffffffff) + bytes(100000))
huge = s

# requests that cannot be
s = entered()
for command, offset, length, code in ((0, 0, 0xffffffff, 22), (0, 1 << 63, 512, 22), (4, -1, 512, 22),
	(6, (1 << 64) - 512, 512, 28), (7, 0, 512, 22), (8, 0, 512, 22), (0xffff, 0, 0xffffffff, 22),
	(3, 1, 1, 22)):
	s.sendall(request(command, offset, length))
	assert answer(s) == code, (command, code)
s.sendall(request(1, 0, 33 << 20) + bytes(33 << 20))
assert answer(s) == 22
s.sendall(request(3, 0, 0))
assert answer(s) == 0
never = entered()
never.sendall(request(1, 0, 0xffffffff) + bytes(50000))  # and that is all of it

# one after the other, each ended at some point
for i in range(in_turn):
	s = raw() if i % 3 else greeted()
	if i % 3 == 2:
		s.sendall(struct.pack(">I", 3) + option(1, b"db"))
	if i % 5 == 0:
		s.sendall(rng.randbytes(rng.randrange(200)))
	s.close()
# and many at once
many = [entered() for _ in range(200)] + [raw() for _ in range(300)]
for s in many[:200]:
	s.sendall(request(0, 0, 4096))
for s in many[:200]:
	assert answer(s) == 0 and len(s.recv(4096, socket.MSG_WAITALL)) == 4096
for s in many:
	s.close()

before = counted[0]
dribbler.join()
assert 9 < slow_end[0] - began < 20, slow_end[0] - began
silent.recv(100)
assert ended(silent)
deadline = time.monotonic() + 60
while counted[0] == before:
	assert time.monotonic() < deadline, "who works was held up"
	time.sleep(0.01)
stop = True
worker.join()
for s in (huge, never):
	s.close()
PYTHON
[ "$(wc -l <server.log)" -lt 300 ] || fail "$(wc -l <server.log) lines"
expect 0 lcpfs list "$POOL"
unserve
check_clean "$POOL"
