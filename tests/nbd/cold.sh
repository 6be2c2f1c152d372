#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reads of what the system has not in its cache: right, refused where the device has gone bad, and in the cache
# from the second time on, or where they come in order.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
needs fincore
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 128M --max 200M --size 128M --volume 64M >/dev/null
cat >client.py <<'PYTHON'
import ctypes
import os
import random
import subprocess
import sys

import nbd

uri, server = sys.argv[1:]
SIZE, ORDERED, BLOCK = 32 << 20, 16 << 20, 4096  # what is read at random, and behind it in order
BLOCKS = SIZE // BLOCK
seed = int(os.environ.get("SEED", "1"))
random.seed(seed)
print("seed", seed)
data = random.randbytes(SIZE + ORDERED)
h = nbd.NBD()
h.connect_uri(uri)
pool = open("pool", "r+b", buffering=0)


def kernel_tells():
	"""What is past the cache where O_DIRECT, io_uring and cachestat(2) are to be had."""
	try:
		os.close(os.open("pool", os.O_RDONLY | os.O_DIRECT))
	except OSError:
		return False
	pages = (ctypes.c_uint64 * 5)()
	return not ctypes.CDLL(None).syscall(451, pool.fileno(), (ctypes.c_uint64 * 2)(0, 4096), pages, 0)


def forget():
	h.flush()
	os.fsync(pool.fileno())
	os.posix_fadvise(pool.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached():
	return int(subprocess.run(["fincore", "-bno", "RES", "pool"], capture_output=True, check=True).stdout)


def read_from_device():
	with open(f"/proc/{server}/io") as io:
		return next(int(line.split()[1]) for line in io if line.startswith("read_bytes"))


def read_all(order, depth=32):
	"""How much came into the cache, and from the device."""
	before, device, reads = cached(), read_from_device(), []
	for at, block in enumerate(order):
		reads.append((block, nbd.Buffer(BLOCK)))
		h.aio_pread(reads[-1][1], block * BLOCK)
		while h.aio_in_flight() >= depth or (at == len(order) - 1 and h.aio_in_flight()):
			h.poll(-1)
	for block, found in reads:
		assert found.to_bytearray() == data[block * BLOCK:(block + 1) * BLOCK], block
	return cached() - before, read_from_device() - device


for offset in range(0, len(data), 1 << 20):
	h.pwrite(data[offset:offset + (1 << 20)], offset)
order = list(range(BLOCKS))
random.shuffle(order)
forget()
passes = [read_all(order) for _ in range(4)]
forget()
read_all(order[:BLOCKS // 4])  # or few had missed lately
in_order = read_all(range(BLOCKS, BLOCKS + ORDERED // BLOCK))
print("random, MiB into the cache and from the device:", [(a >> 20, b >> 20) for a, b in passes])
print("in order:", [n >> 20 for n in in_order])
if kernel_tells():
	assert passes[0][0] < SIZE / 8, "the first read of a block goes into the cache"
	assert passes[0][1] < SIZE * 1.1, "blocks are read twice"
assert passes[1][0] + passes[0][0] > SIZE * 0.9, "the second one does not"
assert passes[3][1] < SIZE / 50, "what is read over and over comes from the device each time"
assert in_order[0] > ORDERED * 0.9, "what is read in order does not go into the cache"

# Rot on the device: of that block alone, and it says so.
bad = order[7]
image = open("pool", "rb").read()
place = image.find(data[bad * BLOCK:(bad + 1) * BLOCK])
assert place > 0
forget()
pool.seek(place + 100)
pool.write(b"rot")
forget()
for block in (*order[:20], *order[:20]):
	try:
		assert h.pread(BLOCK, block * BLOCK) == data[block * BLOCK:(block + 1) * BLOCK], block
		assert block != bad, "rot was read"
	except nbd.Error as error:
		assert block == bad, error
h.pwrite(data[bad * BLOCK:(bad + 1) * BLOCK], bad * BLOCK)
forget()
read_all(order)
h.shutdown()
PYTHON
serve "$POOL"
/usr/bin/python3 client.py "$(uri db)" "$SERVER"
lcpfs log "$POOL" >out
[ "$(grep -c "a read at byte" out)" -ge 1 ] || fail "$(cat out)"
unserve
check_clean "$POOL"
