#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The second decoder (tools/decode.py) and check judge the same pools: closed ones, killed ones, and copies with a
# bit flipped in each kind of structure. They agree, and the volume that the decoder reads is what was flushed.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd, xxhash' 2>/dev/null || skip "no python3-libnbd or python3-xxhash"
POOL=$T/pool
DECODE=$TESTS/../tools/decode.py

cat >work.py <<'PYTHON'
"""Writes and trims at random, flushes, and keeps in a file what the volume then holds. work.py URI SEED FILE"""
import mmap
import os
import random
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
model = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(model, h.get_size())
data = mmap.mmap(model, h.get_size())
blocks = len(data) // 4096
for step in range(500):
	# A few hot blocks, a few anywhere: pages of the volume come, are written anew, and vanish.
	at = chance.randrange(300) if chance.random() < 0.7 else chance.randrange(blocks)
	count = min(chance.choice([1, 1, 1, 3, 20]), blocks - at)
	what = chance.random()
	if what < 0.8:
		new = chance.randbytes(4096 * count)
		h.pwrite(new, at * 4096)
	elif what < 0.97:
		count = min(chance.choice([1, 30, 600]), blocks - at)
		new = bytes(4096 * count)
		h.trim(len(new), at * 4096)
	else:
		h.flush()
		continue
	data[at * 4096:at * 4096 + len(new)] = new
h.flush()
PYTHON

cat >flip.py <<'PYTHON'
"""A pool with a bit flipped, in each kind of structure: do both agree? flip.py LCPFS DECODE POOL SEED"""
import collections
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys

lcpfs, decode, pool = sys.argv[1:4]
spec = importlib.util.spec_from_file_location("decode", decode)
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
chance = random.Random(int(sys.argv[4]))
image = open(pool, "rb").read()
AREA = 256  # blocks: no larger in a pool of this size
COPY = pool + ".flipped"
KINDS = {1: "label", 2: "lease", 3: "uberblock", 4: "map", 5: "partition", 6: "engine", 7: "history", 8: "root"}


def block(number):
	return image[4096 * number:4096 * number + 4096]


def run(*command):
	done = subprocess.run(command, capture_output=True, text=True, check=False)
	return done.returncode, done.stdout + done.stderr


def decoded(path):
	"""Does it find damage? In a child, since it keeps the pool; a program of its own starts slowly."""
	child = os.fork()
	if child == 0:
		try:
			os._exit(1 if decoder.Pool(path).report.found else 0)
		except BaseException as why:
			print(f"decode.py: {type(why).__name__}: {why}", file=sys.stderr, flush=True)
			os._exit(3)
	return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def damaged(path):
	"""Do both find damage? They have to agree."""
	check, said = run(lcpfs, "check", path, "--data")
	code = decoded(path)
	if check not in (0, 1) or code != check:
		sys.exit(f"check ends with {check}:\n{said}\ndecode.py with {code}")
	return check == 1


def places():
	"""Of each kind: groups of blocks that hold the same."""
	found = collections.defaultdict(list)
	for number in range(AREA):
		kind = block(number)[6] if block(number)[:4] == b"lpfs" else None
		if kind:
			found[KINDS[kind]].append([number, len(image) // 4096 - AREA + number])
	for p in json.loads(run(decode, pool, "--json")[1])["partitions"]:
		for kind in ("table_pages", "space_pages", "volume_pages"):
			same = collections.defaultdict(list)
			for number in p[kind]:
				same[block(number)].append(number)
			found[kind] += same.values()
		found["headers"] += [[number, number + 1] for number in p["headers"]]
		found["data"] += [[mapping["block"]] for mapping in p["map"]]
	return found


def flip(numbers):
	offsets = [4096 * n + chance.choice([chance.randrange(4096), chance.randrange(200)]) for n in numbers]
	with open(COPY, "r+b", buffering=0) as copy:
		for at in offsets:
			os.pwrite(copy.fileno(), bytes([image[at] ^ 1 << chance.randrange(8)]), at)
		found = damaged(COPY)
		for at in offsets:
			os.pwrite(copy.fileno(), image[at:at + 1], at)
	return found


shutil.copyfile(pool, COPY)
for kind, groups in sorted(places().items()):
	tries = [[chance.choice(chance.choice(groups))] for _ in range(3)] + [chance.choice(groups)]
	hits = [flip(numbers) for numbers in tries]
	print(f"{kind}: {len(groups)}, damage found {sum(hits)} of {len(hits)}")
	if kind.endswith("pages") or kind == "data":
		assert all(hits), f"a flipped bit in {kind} was not found: {tries}"
free = [n for n in range(AREA, len(image) // 4096 - AREA) if not any(block(n))]
assert not flip([chance.choice(free)]), "damage found where nothing lies"
os.unlink(COPY)
PYTHON

# The volume is as in the model, and the two find nothing.
judge() {
	"$DECODE" "$POOL" --extract db volume || fail "damage; check says: $(lcpfs check "$POOL")"
	cmp volume model || fail "the decoder reads something else than was written"
	check_clean "$POOL"
}

lcpfs create "$POOL" --size 48M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 2M --max 30M --size 18M --volume 48M --thin >/dev/null
lcpfs add "$POOL" other --min 1M --max 4M >/dev/null
"$DECODE" "$POOL" || fail "a new pool"
for round in 1 2 3 4; do
	serve "$POOL" --tune off
	/usr/bin/python3 work.py "$(uri db)" "$round" model
	case $round in
	1) unserve KILL ;;
	2) # to one head of the log, and back, with writes in between
		lcpfs resize "$POOL" db 6M >/dev/null
		/usr/bin/python3 work.py "$(uri db)" 22 model
		lcpfs resize "$POOL" db 18M >/dev/null
		/usr/bin/python3 work.py "$(uri db)" 23 model
		unserve KILL
		;;
	3) unserve TERM ;;
	4) # what nobody flushed may be there or not
		/usr/bin/python3 -c '
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for block in range(200):
	h.pwrite(bytes([block]) * 4096, block * 4096)' "$(uri other)"
		unserve KILL
		;;
	esac
	wait_released "$POOL"
	judge
	case $round in 2 | 3) /usr/bin/python3 flip.py "$LCPFS" "$DECODE" "$POOL" "$round" ;; esac
done
expect 0 "$DECODE" "$POOL" --totals
grep -q "^partition db: id 1, " out || fail "$(cat out)"
head -c 65536 /dev/zero >none
code=0
"$DECODE" none 2>err || code=$?
[ "$code" -eq 2 ] && grep -q "this is no pool" err || fail "no pool: $code $(cat err)"
serve "$POOL"
code=0
"$DECODE" "$POOL" 2>err || code=$?
[ "$code" -eq 2 ] && grep -q "is in use" err || fail "a pool in use: $code $(cat err)"
unserve

# A label of another version, and whole: it says which, and nothing is done to it.
for version in 1 3; do
	/usr/bin/python3 - "$POOL" $version <<'PYTHON'
import os
import sys

import xxhash

pool = os.open(sys.argv[1], os.O_RDWR)
label = bytearray(os.pread(pool, 4096, 0))
label[4:6] = int(sys.argv[2]).to_bytes(2, "little")
label[24:32] = bytes(8)
label[24:32] = xxhash.xxh3_64_intdigest(bytes(label)).to_bytes(8, "little")
os.pwrite(pool, label, 0)
PYTHON
	expect 1 lcpfs list "$POOL"
	case $version in 1) says "older format" ;; *) says "a newer lcpfs" ;; esac
	expect 1 lcpfs create "$POOL" --size 48M
	says "--force"
done
