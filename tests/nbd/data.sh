#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reading, writing, trimming, zeroing and asking for extents: any offset and length, against a model in memory.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 64M --size 32M --volume 8M >/dev/null
serve "$POOL"
cat >client.py <<'PYTHON'
import errno
import os
import random
import sys

import nbd

SIZE = 8 << 20
seed = int(os.environ.get("SEED", "1"))
random.seed(seed)
print("seed", seed)
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
assert h.get_size() == SIZE
model = bytearray(SIZE)


def place(most=300000):
	offset = random.randrange(SIZE)
	if random.random() < 0.5:
		offset &= ~4095
	length = random.choice((1, 511, 4096, 8192, random.randrange(1, most)))
	return offset, min(length, SIZE - offset)


def extents(offset, length):
	found = []
	h.block_status(length, offset, lambda context, start, entries, error: found.append(entries) and 0)
	return found[0]


def check_extents():
	offset, length = place(2 << 20)
	entries = extents(offset, length)
	assert entries
	for size, flags in zip(entries[::2], entries[1::2]):
		end = min(offset + size, SIZE)
		if flags & nbd.STATE_ZERO:
			assert not any(model[offset:end]), ("data in a hole", offset, size)
		offset = end


def step():
	offset, length = place()
	kind = random.random()
	fua = nbd.CMD_FLAG_FUA if random.random() < 0.05 else 0
	if kind < 0.45:
		data = random.randbytes(length)
		h.pwrite(data, offset, fua)
		model[offset:offset + length] = data
	elif kind < 0.6:
		h.trim(length, offset, fua)
		model[offset:offset + length] = bytes(length)
	elif kind < 0.7:
		h.zero(length, offset, fua | random.choice((0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO)))
		model[offset:offset + length] = bytes(length)
	elif kind < 0.75:
		h.flush()
	elif kind < 0.8:
		check_extents()
	else:
		assert h.pread(length, offset) == model[offset:offset + length], (offset, length)


def whole():
	return b"".join(h.pread(1 << 20, o) for o in range(0, SIZE, 1 << 20))


def check_cold():
	"""Many at a time, of what the system has no longer in its cache."""
	h.flush()
	with open("pool", "rb") as pool:
		os.posix_fadvise(pool.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
	reads = []
	for _ in range(100):
		offset, length = place(32768)
		reads.append((offset, nbd.Buffer(length)))
		h.aio_pread(reads[-1][1], offset)
	while h.aio_in_flight():
		h.poll(-1)
	for offset, found in reads:
		assert found.to_bytearray() == model[offset:offset + len(found)], offset


if len(sys.argv) > 2:  # what the first run has left behind
	assert whole() == open("model", "rb").read()
	sys.exit(0)

assert not any(whole())
assert extents(0, SIZE) == [SIZE, nbd.STATE_HOLE | nbd.STATE_ZERO]
for _ in range(1500):
	step()
assert whole() == model
for _ in range(20):
	check_cold()
for wrong in (lambda: h.pread(1, SIZE), lambda: h.pwrite(b"xx", SIZE - 1), lambda: h.trim(2, SIZE - 1)):
	try:
		wrong()
		sys.exit("beyond the end was not refused")
	except nbd.Error as error:
		assert error.errnum in (errno.EINVAL, errno.ENOSPC, errno.EIO), error
h.trim(1 << 20, 1 << 20)
model[1 << 20:2 << 20] = bytes(1 << 20)
assert extents(1 << 20, 1 << 20) == [1 << 20, nbd.STATE_HOLE | nbd.STATE_ZERO]
assert whole() == model
open("model", "wb").write(model)
h.shutdown()
PYTHON
/usr/bin/python3 client.py "$(uri db)"
/usr/bin/python3 client.py "$(uri db)" again
unserve
serve "$POOL"
/usr/bin/python3 client.py "$(uri db)" again
unserve
check_clean "$POOL"
