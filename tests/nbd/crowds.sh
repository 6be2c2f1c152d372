#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Too many clients: they are turned away at once, in few words; who works goes on, commands too, and when there is
# room again others are let in. With descriptors of every number, and clients that say nothing.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool
PORT=$((10000 + $$ % 20000)) # below those that the kernel gives to clients

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
cat >crowd.py <<'PYTHON'
import os
import resource
import socket
import subprocess
import sys
import time

import nbd

lcpfs, pool, path, port, clients, server = sys.argv[1:7]
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
uri = f"nbd+unix:///db?socket={path}"


def connected():
	h = nbd.NBD()
	h.connect_uri(uri)
	return h


def busy_us():
	fields = open(f"/proc/{server}/stat").read().rsplit(")", 1)[1].split()
	return (int(fields[11]) + int(fields[12])) * 10000


def listed():
	done = subprocess.run([lcpfs, "list", pool], capture_output=True, timeout=20, check=False)
	assert done.returncode == 0, done.stderr


old = connected()
old.pwrite(b"A" * 65536, 0)
# silent ones, over both kinds of sockets
crowd = []
for i in range(int(clients)):
	s = socket.socket(socket.AF_INET if i % 2 else socket.AF_UNIX)
	s.connect(("127.0.0.1", int(port)) if i % 2 else path)
	crowd.append(s)
time.sleep(0.5)
before = busy_us()
time.sleep(1)
assert busy_us() - before < 500000, "it spins"
old.pwrite(b"B" * 65536, 65536)
old.flush()
assert old.pread(1, 0) == b"A"
listed()
connected().shutdown()  # who has something to say goes before those that say nothing
for s in crowd:
	s.close()
time.sleep(0.5)
# workers, until no more are let in; each is greeted, or ended at once
crowd = []
while len(crowd) < int(clients):
	try:
		crowd.append(connected())
	except nbd.Error:
		break
for h in crowd:
	assert h.pread(512, 0) == b"A" * 512
assert len(crowd) >= 8, len(crowd)
began = time.monotonic()
if len(crowd) < int(clients):
	try:
		connected()
		sys.exit("one more was let in")
	except nbd.Error:
		assert time.monotonic() - began < 20, "it was not turned away at once"
listed()
for attempt in range(100):  # when the server has seen that one is gone, or two: some come while it counts
	if attempt % 20 == 0:
		crowd.pop().shutdown()
	try:
		connected().shutdown()
		break
	except nbd.Error:
		time.sleep(0.1)
else:
	sys.exit("nobody is let in although one has gone")
old.shutdown()
print(f"{len(crowd) + 1} clients at a time")
PYTHON
serve_with() { # LIMIT, as ulimit takes it
	rm -f server.out
	# shellcheck disable=SC2086
	(ulimit $1 && exec "$LCPFS" serve "$POOL" --socket "$SOCKET" --listen "127.0.0.1:$PORT") \
		>server.out 2>server.log &
	SERVER=$!
	wait_until grep -qs "^lcpfs: serving" server.out
}

for limit in 48 64 128 1024; do
	serve_with "-n $limit"
	/usr/bin/python3 crowd.py "$LCPFS" "$POOL" "$SOCKET" "$PORT" $((limit + 50)) "$SERVER" ||
		fail "limit $limit: $(tail -3 server.log)"
	[ "$(wc -l <server.log)" -lt 100 ] || fail "limit $limit: $(wc -l <server.log) lines in the log"
	unserve
done
# The soft limit is raised to the hard one.
serve_with "-Sn 32"
/usr/bin/python3 crowd.py "$LCPFS" "$POOL" "$SOCKET" "$PORT" 200 "$SERVER" || fail "$(tail -3 server.log)"
unserve
# Hardly any: refused in one line, and nothing is left behind.
(ulimit -n 16 && expect 1 lcpfs serve "$POOL" --socket "$SOCKET") || fail "with 16 descriptors"
! ls "$SOCKET" "$SOCKET.control" 2>/dev/null || fail "a socket was left"
check_clean "$POOL"
