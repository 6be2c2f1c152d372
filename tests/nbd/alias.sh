#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One pool has one writer, whatever names lead to it: a loop device, two of them, one over another, a partition of
# one, a hard link, a bind mount. What the first wrote is seen by whoever opens it next by another name.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ "$(id -u)" -eq 0 ] || skip "not root"

# stamp VALUE: writes it to every 16th block, flushed; seen VALUE: it is there.
stamp() {
	/usr/bin/python3 - "$(uri db)" "$1" <<'PYTHON'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(0, 512, 16):
	h.pwrite(bytes([int(sys.argv[2])]) * 4096, i * 4096)
h.flush()
PYTHON
}
seen() {
	/usr/bin/python3 - "$(uri db)" "$1" <<'PYTHON'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(0, 512, 16):
	assert h.pread(4096, i * 4096) == bytes([int(sys.argv[2])]) * 4096, i
PYTHON
}

truncate -s 130M disk
lcpfs create "$T/disk" --metaslab 1M
lcpfs add "$T/disk" db --min 16M --max 64M >/dev/null
loop_of "$T/disk"
A=$LOOP
loop_of "$T/disk"
B=$LOOP
loop_of "$A" # its reads go through the cache of $A
OVER=$LOOP
mkdir bound
mount --bind "$T" bound && at_end "umount $T/bound" || skip "no bind mounts"
ln disk hard
ln -s "$A" soft
# Others lock files by flock; that is heard through a loop device, too.
hold disk
expect 1 timeout 60 "$LCPFS" serve "$A" --socket "$T/other.sock"
says "in use"
kill "$HOLDER"
wait "$HOLDER" || true
NAMES="$T/disk $A $B $OVER $T/hard $T/bound/disk $T/soft"

value=0
for first in $NAMES; do
	value=$((value + 1))
	serve "$first"
	[ "$value" -eq 1 ] || seen $((value - 1))
	for second in $NAMES; do
		expect 1 timeout 60 "$LCPFS" serve "$second" --socket "$T/other.sock"
		says "in use"
		says "$SERVER"
		[ "$first" = "$OVER" ] || continue
		expect 2 timeout 60 "$LCPFS" check "$second"
		expect 1 timeout 60 "$LCPFS" create "$second" --force
	done
	stamp "$value"
	if [ $((value % 2)) -eq 0 ]; then
		unserve KILL
		wait_released "$first"
	else
		unserve
	fi
done
check_clean "$T/disk"

# Two pools in one file are two: the ranges of their loop devices do not overlap.
truncate -s 128M two
losetup --find --show --sizelimit $((64 << 20)) two >loop1 2>/dev/null || skip "no loop devices"
at_end "losetup -d $(cat loop1)"
losetup --find --show --offset $((64 << 20)) two >loop2
at_end "losetup -d $(cat loop2)"
for loop in $(cat loop1 loop2); do
	expect 0 lcpfs create "$loop" --metaslab 1M
	expect 0 lcpfs add "$loop" db --min 16M --max 32M
done
serve "$(cat loop1)"
expect 0 lcpfs add "$(cat loop2)" more --min 8M --max 16M
expect 1 lcpfs create "$T/two" --force # both of them
unserve

# A partition of a loop device.
if command -v sfdisk >/dev/null; then
	truncate -s 140M parted
	printf 'start=2048\n' | sfdisk -q parted
	losetup --find --show --partscan parted >loop3
	at_end "losetup -d $(cat loop3)"
	losetup --find --show --offset $((2048 * 512)) parted >loop4
	at_end "losetup -d $(cat loop4)"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ -b "$(cat loop3)p1" ] || sleep 0.1
	done
	if [ -b "$(cat loop3)p1" ]; then
		expect 0 lcpfs create "$(cat loop3)p1" --metaslab 1M
		expect 0 lcpfs add "$(cat loop3)p1" db --min 16M --max 32M
		serve "$(cat loop3)p1"
		expect 1 timeout 60 "$LCPFS" serve "$(cat loop4)" --socket "$T/other.sock"
		says "in use"
		unserve
		serve "$(cat loop4)"
		expect 1 timeout 60 "$LCPFS" serve "$(cat loop3)p1" --socket "$T/other.sock"
		unserve
	fi
fi
