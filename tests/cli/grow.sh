#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A pool takes what its file or device has gained: served or not, by hand or with --size; what it cannot take it says.
# Others see the disk as partitioned, and what a later version marks as its own is refused, only read, or ignored.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd, xxhash' 2>/dev/null || skip "no python3-libnbd or python3-xxhash"
POOL=$T/pool
DECODE=$TESTS/../tools/decode.py

cat >work.py <<'PYTHON'
"""Writes until FILE is there, flushes, and keeps in MODEL what the volume then holds. work.py URI FILE MODEL"""
import os
import random
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
chance = random.Random(7)
data = bytearray(h.get_size())
while not os.path.exists(sys.argv[2]):
	at = chance.randrange(len(data) // 4096)
	new = chance.randbytes(4096 * min(chance.choice([1, 1, 8]), len(data) // 4096 - at))
	h.pwrite(new, at * 4096)
	data[at * 4096:at * 4096 + len(new)] = new
	if chance.random() < 0.05:
		h.flush()
h.flush()
with open(sys.argv[3], "wb") as model:
	model.write(data)
PYTHON

# number NAME: of the last result.
number() {
	/usr/bin/python3 -c 'import json, sys; print(json.load(open("out"))[sys.argv[1]])' "$1"
}

has() {
	lcpfs status "$POOL" --json >status || fail "no status"
	[ "$(/usr/bin/python3 -c 'import json; print(json.load(open("status"))["pool"]["size_blocks"] // 256)')" = "$1" ] ||
		fail "the pool does not have $1M: $(cat status)"
}

judge() {
	"$DECODE" "$POOL" --totals >decoded || fail "the second decoder: $(cat decoded)"
	check_clean "$POOL"
}

lcpfs create "$POOL" --size 48M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 2M --max 300M --size 8M --volume 8M >/dev/null

# -- nobody serves it --

expect 0 lcpfs grow "$POOL"
grep -q "^nothing gained: the pool stays at 46.0M; .* at least 1.00M larger$" out || fail "$(cat out)"
truncate -s 60M "$POOL"
cp "$POOL" before
expect 0 lcpfs grow "$POOL" --dry-run
grep -q "^would be: the pool: 46.0M → 58.0M$" out || fail "$(cat out)"
expect 0 lcpfs grow "$POOL" --dry-run --json
[ "$(number old_size_blocks) $(number size_blocks) $(number dry_run)" = "11776 14848 True" ] || fail "$(cat out)"
cmp "$POOL" before || fail "a dry run changed something"
expect 0 lcpfs grow "$POOL"
grep -q "^the pool: 46.0M → 58.0M$" out || fail "$(cat out)"
has 58
judge
lcpfs log "$POOL" | grep -q "  grown  *the pool: 46.0M → 58.0M$" || fail "$(lcpfs log "$POOL")"

# -- by itself --

expect 0 lcpfs grow "$POOL" --size 70M --dry-run
[ "$(stat -c %s "$POOL")" -eq 62914560 ] || fail "a dry run made the file larger"
expect 0 lcpfs grow "$POOL" --size 70M --json
[ "$(number size_blocks)" = 17408 ] && [ "$(number missing_blocks)" = 0 ] || fail "$(cat out)"
[ "$(stat -c %s "$POOL")" -eq 73400320 ] || fail "the file is not larger"
expect 0 lcpfs grow "$POOL" --size 70M
grep -q "^nothing gained" out || fail "$(cat out)"
expect 1 lcpfs grow "$POOL" --size 69M
says "does not get smaller"
expect 1 lcpfs grow "$POOL" --size 2G
says "can grow to 1010M, not to 2048M"
expect 2 lcpfs grow "$POOL" --size lots
[ "$(stat -c %s "$POOL")" -eq 73400320 ] || fail "what was refused made the file larger"
judge

# -- served, while a client writes --

serve "$POOL"
/usr/bin/python3 work.py "$(uri db)" stop model &
client=$!
for size in 75 80 100 101 102; do
	truncate -s ${size}M "$POOL"
	expect 0 lcpfs grow "$POOL"
	has $((size - 2))
	expect 0 lcpfs scrub "$POOL"
	grep -q " 0 damaged" out || fail "$(cat out)"
done
expect 0 lcpfs grow "$POOL" --size 110M --dry-run
grep -q "^would be: the pool: 100M → 108M$" out || fail "$(cat out)"
expect 0 lcpfs grow "$POOL" --size 110M
has 108
expect 0 lcpfs grow "$POOL" --json
[ "$(number size_blocks) $(number missing_blocks) $(number dry_run)" = "27648 256 False" ] || fail "$(cat out)"
lcpfs metrics "$POOL" | grep -q "^lcpfs_pool_size_bytes{[^}]*} $((108 << 20))$" || fail "$(lcpfs metrics "$POOL")"
expect 0 lcpfs resize "$POOL" db 80M
touch stop
wait "$client" || fail "the client's writes failed"
unserve KILL
wait_released "$POOL"
has 108
"$DECODE" "$POOL" --extract db volume || fail "damage; check says: $(lcpfs check "$POOL")"
cmp volume model || fail "something else lies there than was written"
judge

# What the server says of itself, and takes back when it ends, lies in the new back area.
lease() {
	od -An -tx1 -j$((110 * 1048576 - 1048576 + 4096 + $1)) -N"$2" "$POOL" | tr -d ' \n'
}
mv "$POOL" whole
lcpfs create "$POOL" --size 48M --metaslab 1M >/dev/null
serve "$POOL"
expect 0 lcpfs grow "$POOL" --size 110M
[ "$(lease 0 4)" = 6c706673 ] && [ "$(lease 2088 16)" != 00000000000000000000000000000000 ] || fail "no claim there"
unserve
[ "$(lease 0 4)" = 6c706673 ] && [ "$(lease 2088 16)" = 00000000000000000000000000000000 ] || fail "the claim stays"
[ "$(od -An -tx1 -j$((47 * 1048576 + 4096)) -N4 "$POOL" | tr -d ' ')" = 6c706673 ] || fail "nothing is left of the old area"
judge
mv whole "$POOL"

# -- cut short --

cp "$POOL" whole
truncate -s 100M "$POOL"
for command in "list $POOL" "grow $POOL" "check $POOL"; do
	code=0
	# shellcheck disable=SC2086
	lcpfs $command >out 2>&1 || code=$?
	[ "$code" -ne 0 ] && grep -q "is truncated" out || fail "$command: $code $(cat out)"
done
cp whole "$POOL"

# -- a device, served --

DEVICE=
if [ "$(id -u)" -eq 0 ] && losetup --find --show "$POOL" >loop 2>/dev/null; then
	DEVICE=$(cat loop)
	at_end '[ -z "$DEVICE" ] || losetup -d "$DEVICE"'
	serve "$DEVICE"
	truncate -s 130M "$POOL"
	expect 0 lcpfs grow "$DEVICE"
	grep -q "^nothing gained" out || fail "$(cat out)"
	losetup -c "$DEVICE"
	expect 1 lcpfs grow "$DEVICE" --size 200M
	says "is a device"
	expect 0 lcpfs grow "$DEVICE"
	grep -q "^the pool: 108M → 128M$" out || fail "$(cat out)"
	unserve KILL
	wait_released "$DEVICE"
	expect 0 lcpfs check "$DEVICE" --data
	expect 0 lcpfs scrub "$DEVICE"
	losetup -d "$DEVICE"
	DEVICE=
	judge
fi
cp whole "$POOL"

# -- as others see it --

[ "$(od -An -tx1 -j446 -N16 "$POOL" | tr -d ' ')" = 00000200eeffffff01000000ff6f0300 ] || fail "no partition table"
[ "$(od -An -tx1 -j510 -N2 "$POOL" | tr -d ' ')" = 55aa ] || fail "no end of a partition table"
! command -v blkid >/dev/null || blkid -p "$POOL" | grep -q 'PTTYPE="PMBR"' || fail "$(blkid -p "$POOL")"
! command -v wipefs >/dev/null || wipefs "$POOL" | grep -q PMBR || fail "$(wipefs "$POOL")"
if command -v mkfs.xfs >/dev/null; then
	! mkfs.xfs "$POOL" >out 2>&1 || fail "mkfs.xfs does not ask"
fi
if command -v mkfs.ext4 >/dev/null && command -v script >/dev/null; then
	! script -qec "mkfs.ext4 -q $POOL" /dev/null </dev/null >out || fail "mkfs.ext4 does not ask: $(cat out)"
	grep -q "PMBR" out || fail "mkfs.ext4 does not ask: $(cat out)"
fi
expect 1 lcpfs create "$POOL" --size 110M
says "is an lcpfs pool already"
judge

# -- what a later version marks --

cat >mark.py <<'PYTHON'
"""Sets a bit in a mask: of both labels, or of the page of the first partition. mark.py POOL label|partition MASK"""
import os
import struct
import sys

import xxhash

pool = os.open(sys.argv[1], os.O_RDWR)
mask = {"incompatible": 0, "read_only": 8, "compatible": 16}[sys.argv[3]]
label = os.pread(pool, 4096, 0)
device, area = struct.unpack_from("<QQ", label, 56)
slots, map_pages, engine, history = struct.unpack_from("<4I", label, 88)


def mark(block, offset):
	data = bytearray(os.pread(pool, 4096, 4096 * block))
	data[offset + mask + 7] |= 0x80
	data[24:32] = bytes(8)
	data[24:32] = xxhash.xxh3_64_intdigest(bytes(data)).to_bytes(8, "little")
	os.pwrite(pool, data, 4096 * block)


for first in (0, device - area):
	if sys.argv[2] == "label":
		mark(first, 32)
	else: # in both slots
		for slot in range(2):
			block = first + 10 + 2 * map_pages + slot
			if os.pread(pool, 4, 4096 * block) == b"lpfs":
				mark(block, 192)
PYTHON

mark() {
	cp whole "$POOL"
	/usr/bin/python3 mark.py "$POOL" "$1" "$2"
	cp "$POOL" marked
}

lcpfs check "$POOL" >/dev/null
cp "$POOL" whole
mark label incompatible
for command in "list $POOL" "serve $POOL --socket $SOCKET" "grow $POOL" "tune $POOL on"; do
	# shellcheck disable=SC2086
	expect 1 lcpfs $command
	says "uses a feature that this lcpfs does not know"
done
cmp "$POOL" marked || fail "it wrote into what it does not know"

mark label read_only
for command in "serve $POOL --socket $SOCKET" "grow $POOL" "tune $POOL on" "scrub $POOL"; do
	# shellcheck disable=SC2086
	expect 1 lcpfs $command
	says "uses a feature that this lcpfs can only read"
done
expect 0 lcpfs list "$POOL"
expect 0 lcpfs check "$POOL" --data
cmp "$POOL" marked || fail "it wrote into what it can only read"

mark label compatible
expect 0 lcpfs grow "$POOL" --size 120M
expect 0 lcpfs scrub "$POOL"
judge
for copy in 0 $((119 * 1048576)); do
	[ "$(od -An -tx1 -j$((copy + 48)) -N8 "$POOL" | tr -d ' ')" = 0000000000000080 ] || fail "the mark was not kept"
done

mark partition incompatible
expect 0 lcpfs list "$POOL"
lcpfs status "$POOL" | grep -q "DEGRADED: db: it uses a feature that this lcpfs does" || fail "$(lcpfs status "$POOL")"
expect 1 lcpfs resize "$POOL" db 9M
says "does not know"
expect 0 lcpfs add "$POOL" other --min 2M --max 4M
expect 1 lcpfs check "$POOL"

mark partition read_only
expect 0 lcpfs check "$POOL" --data
expect 1 lcpfs resize "$POOL" db 9M
says "can only read"
expect 0 lcpfs add "$POOL" other --min 2M --max 4M
check_clean "$POOL"

mark partition compatible
expect 0 lcpfs resize "$POOL" db 9M
judge

# An older copy of the pool is put over one that has grown, and grows, too: what lies in the gained space are
# records of this very pool, of a life that it never had.
POOL=$T/twice
# fill COUNT SEED: the volume's first MiB, COUNT times over, with a flush in between
fill() {
	serve "$POOL" --tune off
	/usr/bin/python3 -c '
import random, sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
chance = random.Random(int(sys.argv[3]))
for _ in range(int(sys.argv[2])):
	for mib in range(40):
		h.pwrite(chance.randbytes(1 << 20), mib << 20)
	h.flush()' "$(uri db)" "$1" "$2"
	unserve
}
lcpfs create "$POOL" --size 64M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 200M --size 24M --volume 40M >/dev/null
serve "$POOL" --tune off
/usr/bin/python3 -c '
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"first" * 800 + bytes(96), 0)' "$(uri db)"
unserve
cp "$POOL" older
truncate -s 256M "$POOL"
lcpfs grow "$POOL" >/dev/null
lcpfs resize "$POOL" db 150M >/dev/null
fill 3 1
dd if=older of="$POOL" bs=1M conv=notrunc status=none
lcpfs grow "$POOL" >/dev/null
lcpfs resize "$POOL" db 150M >/dev/null
check_clean "$POOL"
lcpfs list "$POOL" --json | grep -q '"faulted":false' || fail "$(lcpfs list "$POOL")"

# What cannot grow is as long as before.
if [ "$(id -u)" -eq 0 ] && mkdir -p small && mount -t tmpfs -o size=30M none small 2>/dev/null; then
	at_end "umount -l $T/small 2>/dev/null"
	POOL=$T/small/pool
	lcpfs create "$POOL" --size 64M --metaslab 1M >/dev/null
	head -c 60M /dev/zero >small/ballast 2>/dev/null || true
	expect 1 lcpfs grow "$POOL" --size 128M
	[ "$(stat -c %s "$POOL")" -eq $((64 << 20)) ] || fail "it stays $(stat -c %s "$POOL") bytes long"
	rm small/ballast
	check_clean "$POOL"
fi
