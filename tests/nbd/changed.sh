#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The context lcpfs:changed tells what of an export differs from the snapshot before: of snapshots, of the volume, of
# a clone; beside base:allocation in one answer, from any byte on, and after the one before has been destroyed.
# SEEDS: drawn loads (3).
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

cat >changed.py <<'PYTHON'
"""changed.py URI POOL SEED: a drawn load on volume db and a clone of it, compared with a model of both."""
import os
import random
import subprocess
import sys

import nbd

uri, pool, seed = sys.argv[1:4]
draw = random.Random(int(seed))
BLOCK, BLOCKS = 4096, 2048
versions = 0


def lcpfs(*words):
	subprocess.run([os.environ["LCPFS"], *words], check=True, stdout=subprocess.DEVNULL)


def connected(name):
	h = nbd.NBD()
	h.add_meta_context("base:allocation")
	h.add_meta_context("lcpfs:changed")
	h.connect_uri(uri.replace("NAME", name))
	assert h.can_meta_context("lcpfs:changed")
	return h


def status(h, offset, length, flags=0):
	"""Of each context the flags of each byte's block, as far as the answer goes."""
	found = {}

	def take(context, start, entries, error):
		assert start == offset and context not in found
		found[context] = list(zip(entries[::2], entries[1::2]))

	h.block_status(length, offset, take, flags)
	assert set(found) == {"base:allocation", "lcpfs:changed"}, found
	return found


def looked_at(name):
	"""Which blocks are data, and which have changed."""
	h = connected(name)
	data, changed = [None] * BLOCKS, [None] * BLOCKS
	for context, blocks in (("base:allocation", data), ("lcpfs:changed", changed)):
		at = 0
		while at < BLOCKS * BLOCK:
			for length, flags in status(h, at, BLOCKS * BLOCK - at)[context]:
				assert length and length % BLOCK == 0
				for block in range(at // BLOCK, (at + length) // BLOCK):
					blocks[block] = flags
				at += length
	one = status(h, 0, BLOCKS * BLOCK, nbd.CMD_FLAG_REQ_ONE)
	assert all(len(extents) == 1 for extents in one.values())
	for _ in range(20):
		at = draw.randrange(BLOCKS * BLOCK - 1)
		length = draw.randrange(1, min(30000, BLOCKS * BLOCK - at) + 1)
		for context, blocks in (("base:allocation", data), ("lcpfs:changed", changed)):
			end = at
			for n, flags in status(h, at, length)[context]:
				assert n and all(blocks[b] == flags for b in range(end // BLOCK, -(-(end + n) // BLOCK))), (at, length)
				end += n
			assert at < end <= at + length
	h.shutdown()
	return [flags == 0 for flags in data], changed


def must_be(name, now, before):
	data, changed = looked_at(name)
	assert data == [v != 0 for v in now], name
	assert changed == [int(now[b] != before[b]) for b in range(BLOCKS)], name


def work(name, blocks):
	global versions
	h = connected(name)
	for _ in range(draw.randrange(1, 40)):
		first = draw.randrange(BLOCKS)
		count = min(draw.choice((1, 2, 30, 300)), BLOCKS - first)
		trims = draw.randrange(4) == 0
		versions += 1
		if trims:
			h.trim(count * BLOCK, first * BLOCK)
		else:
			h.pwrite(draw.randbytes(count * BLOCK), first * BLOCK)
		blocks[first:first + count] = [0 if trims else versions] * count
	h.shutdown()


volume, none = [0] * BLOCKS, [0] * BLOCKS
snapshots = []
work("db", volume)
must_be("db", volume, none)
for number in range(5):
	lcpfs("snapshot", pool, f"db@{number}")
	snapshots.append((number, volume[:]))
	must_be(f"db@{number}", volume, snapshots[-2][1] if number else none)
	must_be("db", volume, volume)
	work("db", volume)
	must_be("db", volume, snapshots[-1][1])
	if draw.randrange(3) == 0 and len(snapshots) > 1:
		gone = draw.randrange(len(snapshots))
		lcpfs("destroy", pool, f"db@{snapshots[gone][0]}")
		del snapshots[gone]
	for i, (which, blocks) in enumerate(snapshots):
		must_be(f"db@{which}", blocks, snapshots[i - 1][1] if i else none)
number, base = draw.choice(snapshots)
lcpfs("clone", pool, f"db@{number}", "copy")
clone = base[:]
must_be("copy", clone, base)
work("copy", clone)
must_be("copy", clone, base)
lcpfs("snapshot", pool, "copy@own")
must_be("copy@own", clone, base)
must_be("copy", clone, clone)
PYTHON

for seed in $(seq "${SEEDS:-3}"); do
	rm -f "$POOL"
	lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
	lcpfs add "$POOL" db --min 32M --max 128M --size 128M --volume 8M >/dev/null
	serve "$POOL" --tune off
	LCPFS=$LCPFS /usr/bin/python3 changed.py "$(uri NAME)" "$POOL" "$seed" || fail "seed $seed"
	unserve TERM
	check_clean "$POOL"
done
