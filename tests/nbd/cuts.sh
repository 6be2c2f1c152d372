#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A recorded conversation with every command, cut after each of its bytes on real sockets: the client closes,
# resets the connection, or says nothing more. Nothing is left of it, nobody else notices, and the volume
# holds in each block what was there before or what was sent. (serve-cuts does the same without sockets, with
# workers that are late.)
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool
PORT=$((10000 + $$ % 20000)) # below those that the kernel gives to clients

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" cut --min 16M --max 48M --volume 16M >/dev/null
lcpfs add "$POOL" calm --min 16M --max 48M --volume 16M >/dev/null
serve "$POOL" --listen "127.0.0.1:$PORT"
/usr/bin/python3 - "$SOCKET" "$PORT" "$SERVER" <<'PYTHON'
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time

import nbd

path, port, server = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def option(number, data=b""):
	return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def request(command, offset, length, flags=0, data=b""):
	return struct.pack(">IHHQQI", 0x25609513, flags, command, 7, offset, length) + data


NAME = struct.pack(">I", 3) + b"cut"
HANDSHAKE = (struct.pack(">I", 3) + option(8) + option(3) + option(6, NAME + struct.pack(">HH", 1, 3)) +
	option(10, NAME + struct.pack(">II", 1, 15) + b"base:allocation") + option(7, NAME + bytes(2)))
WRITTEN = b"w" * 600
REQUESTS = (request(1, 4096, 600, 1, WRITTEN) + request(0, 4096, 600) + request(3, 0, 0) + request(4, 8192, 4096) +
	request(6, 16384, 4096) + request(6, 16384, 4096, 2) + request(5, 0, 65536) + request(7, 0, 1 << 20) +
	request(7, 0, 1 << 20, 8) + request(0, 0, 1 << 20) + request(2, 0, 0))
CONVERSATION = HANDSHAKE + REQUESTS


def connected(by_tcp):
	s = socket.socket(socket.AF_INET if by_tcp else socket.AF_UNIX)
	s.connect(("127.0.0.1", port) if by_tcp else path)
	return s


def begun(length, by_tcp):
	s = connected(by_tcp)
	s.sendall(CONVERSATION[:length])
	if length % 3 == 0:
		s.settimeout(5)
		s.recv(18)  # it has looked at us
	return s


def close(s):
	s.close()


def reset(s):
	s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	s.close()


def sockets():
	"""Those of the server. (Its threads open rings, too, when they first need one.)"""
	count = 0
	for fd in os.listdir(f"/proc/{server}/fd"):
		try:
			count += os.readlink(f"/proc/{server}/fd/{fd}").startswith("socket:")
		except FileNotFoundError:
			pass  # closed since
	return count


stop, checked = False, [0]


def calm():
	h, n = nbd.NBD(), 0
	h.connect_uri(f"nbd+unix:///calm?socket={path}")
	while not stop:
		n += 1
		data = n.to_bytes(4, "big") * 3000
		h.pwrite(data, n % 100 << 16)
		assert h.pread(len(data), n % 100 << 16) == data
		checked[0] = n
	h.flush()
	h.shutdown()


def wait_for(what):
	deadline = time.monotonic() + 60
	while not what():
		assert time.monotonic() < deadline, "in vain"
		time.sleep(0.05)


verifier = threading.Thread(target=calm, daemon=True)
verifier.start()
wait_for(lambda: checked[0] > 3)
at_first = sockets()
for end, by_tcp in ((close, False), (close, True), (reset, True)):
	for length in range(len(CONVERSATION) + 1):
		end(begun(length, by_tcp))
wait_for(lambda: sockets() <= at_first)
silent = [begun(length, length % 2) for length in range(len(CONVERSATION))]
h = nbd.NBD()
h.connect_uri(f"nbd+unix:///cut?socket={path}")
volume = h.pread(1 << 20, 0)
assert volume[4096:4696] in (WRITTEN, bytes(600)) and not any(volume[:4096]) and not any(volume[4696:])
h.shutdown()
before = checked[0]
wait_for(lambda: checked[0] > before + 3)
# Who is in its handshake has ten seconds; who got through it may be silent for ever.
wait_for(lambda: sockets() <= at_first + len(REQUESTS))
for length in (10, len(HANDSHAKE) - 1):
	silent[length].settimeout(5)
	try:
		while silent[length].recv(65536):
			pass
	except ConnectionResetError:
		pass
os.kill(server, 0)
stop = True
verifier.join()
os.kill(server, signal.SIGTERM)
wait_for(lambda: not os.path.exists(path))
silent[-1].settimeout(10)
try:
	while silent[-1].recv(65536):
		pass
except ConnectionResetError:
	pass
print(f"{4 * len(CONVERSATION)} cuts; {checked[0]} times verified beside them; {len(REQUESTS)} silent at the end")
PYTHON
status=0
wait "$SERVER" || status=$?
SERVER=
[ "$status" -eq 0 ] || fail "the server ended with $status"
[ "$(wc -l <server.log)" -lt 400 ] || fail "$(wc -l <server.log) lines"
check_clean "$POOL"
