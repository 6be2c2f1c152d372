#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Memory has a bound, whatever clients ask for and however little they take of it.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ -z "$SANITIZER" ] || skip "a sanitizer has memory of its own"
POOL=$T/pool

lcpfs create "$POOL" --size 512M --metaslab 1M
lcpfs add "$POOL" db --min 32M --max 400M --size 300M --volume 200M >/dev/null
serve "$POOL" --cache 16M
/usr/bin/python3 - "$SOCKET" "$SERVER" <<'PYTHON'
import resource
import socket
import struct
import sys
import threading

import nbd

path, server = sys.argv[1:]
uri = f"nbd+unix:///db?socket={path}"
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def resident_mib():
	for line in open(f"/proc/{server}/status"):
		if line.startswith("VmRSS"):
			return int(line.split()[1]) // 1024


def connected(structured=True):
	h = nbd.NBD()
	h.set_request_structured_replies(structured)
	h.connect_uri(uri)
	return h


def check(most, what):
	now = resident_mib()
	print(f"{what}: {now} MiB")
	assert now <= most, (what, now, most)


h = connected()
for i in range(6):
	h.pwrite(bytes([i + 1]) * (32 << 20), i << 25)
check(96, "one client that writes 32 MiB at a time")
for structured in (True, False):
	h = connected(structured)
	for i in range(6):
		assert h.pread(32 << 20, (i % 6) << 25) == bytes([i % 6 + 1]) * (32 << 20)
	check(96, f"one client that reads 32 MiB at a time, structured: {structured}")
cookies = [h.aio_pread(nbd.Buffer(32 << 20), 0) for _ in range(8)]
while any(not h.aio_command_completed(c) for c in cookies[-1:]):
	h.poll(-1)
check(96, "the same, 8 at a time")
h.shutdown()
idle = [connected() for _ in range(500)]
check(64, "500 idle clients")
for h in idle:
	h.shutdown()
del idle


def entered():
	s = socket.socket(socket.AF_UNIX)
	s.connect(path)
	s.recv(18, socket.MSG_WAITALL)
	s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 2) + b"db")
	s.recv(10, socket.MSG_WAITALL)
	return s


# Those that ask for much and take nothing; and beside them one that works.
greedy = [entered() for _ in range(200)]
for s in greedy:
	for i in range(8):
		s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, i << 22, 32 << 20))
	s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 9, 0, 32 << 20) + bytes(4000))
h = connected()
for i in range(20):
	h.pwrite(b"z" * (1 << 20), 100 << 20)
	assert h.pread(4 << 20, 100 << 20)[:1 << 20] == b"z" * (1 << 20)
h.flush()
check(200, "200 clients that take nothing of what they ask for")
for s in greedy:
	s.close()


def busy(number):
	h, buffers = connected(number % 3 > 0), [nbd.Buffer(131072) for _ in range(8)]
	for _ in range(10):
		for i, buffer in enumerate(buffers):
			(h.aio_pread if (number + i) % 2 else h.aio_pwrite)(buffer, (number * 8 + i) << 17)
		while h.aio_in_flight():
			h.poll(-1)
	h.shutdown()


threads = [threading.Thread(target=busy, args=(n,)) for n in range(50)]
for t in threads:
	t.start()
for t in threads:
	t.join()
check(160, "50 busy clients")
PYTHON
unserve
check_clean "$POOL"
