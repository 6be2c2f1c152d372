#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Readers and writers that are killed at random moments, beside a client that verifies: it notices nothing, and the
# server lives. KILLS: how many (120).
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool
KILLS=${KILLS:-120}

lcpfs create "$POOL" --size 512M --metaslab 1M
lcpfs add "$POOL" calm --min 32M --max 128M --size 64M --volume 32M >/dev/null
lcpfs add "$POOL" wild --min 32M --max 300M --size 200M --volume 96M >/dev/null
serve "$POOL"
cat >calm.py <<'PYTHON'
import os
import random
import sys

import nbd

h, model, checked = nbd.NBD(), bytearray(8 << 20), 0
h.connect_uri(sys.argv[1])
while not os.path.exists("stop"):
	length = random.choice((4096, 65536, 300000))
	offset = random.randrange(len(model) - length)
	data = random.randbytes(length)
	h.pwrite(data, offset)
	model[offset:offset + length] = data
	if random.random() < 0.2:
		h.flush()
	offset = random.randrange(len(model) - length)
	assert h.pread(length, offset) == model[offset:offset + length], offset
	checked += 1
assert h.pread(len(model), 0) == model
h.shutdown()
print(f"verified {checked} times")
PYTHON
/usr/bin/python3 calm.py "$(uri calm)" >calm.out 2>&1 &
CALM=$!
at_end "end_job $CALM"
cat >killer.py <<'PYTHON'
import os
import random
import signal
import sys
import time

import nbd

uri, kills, server = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def read_and_write(ready):
	"""As fast as it can, large and small, many at a time; it never ends."""
	h = nbd.NBD()
	if random.random() < 0.3:
		h.set_request_structured_replies(False)
	h.connect_uri(uri)
	reads = random.random() < 0.5
	buffers = [nbd.Buffer(n) for n in (512, 4096, 131072, 1 << 20, 8 << 20)]
	os.write(ready, b"x")
	while True:
		while h.aio_in_flight() < 16:
			buffer = random.choice(buffers)
			offset = random.randrange(h.get_size() - buffer.size())
			(h.aio_pread if reads else h.aio_pwrite)(buffer, offset)
		h.poll(-1)
		if random.random() < 0.05:
			h.aio_flush()
		while (cookie := h.aio_peek_command_completed()) > 0:
			h.aio_command_completed(cookie)


def victim():
	"""(process, what tells that it is connected). Forked: a program of its own starts slowly."""
	told, ready = os.pipe()
	child = os.fork()
	if child == 0:
		signal.signal(signal.SIGINT, signal.SIG_DFL)
		os.close(told)
		random.seed()
		try:
			read_and_write(ready)
		finally:
			os._exit(1)
	os.close(ready)
	return child, told


def kill(child, told, number):
	os.kill(child, number)
	os.waitpid(child, 0)
	os.close(told)


victims = []
for _ in range(kills):
	while len(victims) < 3:
		victims.append(victim())
	child, told = victims.pop(0)
	assert os.read(told, 1), "it could not connect"
	time.sleep(random.random() * 0.05)
	kill(child, told, random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT)))
	os.kill(server, 0)
for child, told in victims:
	kill(child, told, signal.SIGKILL)
PYTHON
/usr/bin/python3 killer.py "$(uri wild)" "$KILLS" "$SERVER" || fail "$(cat server.log)"
touch stop
wait "$CALM" || fail "$(cat calm.out)"
cat calm.out
[ ! -s server.log ] || fail "the server said: $(cat server.log)"
expect 0 lcpfs scrub "$POOL"
unserve
check_clean "$POOL"
