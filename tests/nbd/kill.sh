#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kill -9 at a random time under load: reopens in seconds, clean, with everything that a flush covered.
# ROUNDS: how often (4). Two clients note what they flushed; fio writes one region and flushes it, and another
# one until the end.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
needs fio
fio --enghelp | grep -qw nbd || skip "fio without its nbd engine"
POOL=$T/pool
ROUNDS=${ROUNDS:-4}
OPEN_MAX=${OPEN_MAX:-5} # processor seconds: how busy the machine is otherwise does not count

lcpfs create "$POOL" --size 512M --metaslab 1M
for name in db log fio; do
	lcpfs add "$POOL" "$name" --min 32M --max 192M --size 96M --volume 64M >/dev/null
done
cat >client.py <<'PYTHON'
"""Writes to random blocks, each with a number that only grows; notes what a flush has covered. Or verifies."""
import random
import sys

import nbd

uri, notes, verify = sys.argv[1], sys.argv[2], len(sys.argv) > 3
BLOCKS = 16384
try:
	flushed = {int(k): int(v) for k, v in (line.split() for line in open(notes) if line.endswith("\n"))}
except FileNotFoundError:
	flushed = {}
h = nbd.NBD()
h.connect_uri(uri)
if verify:
	for block, number in flushed.items():
		data = h.pread(4096, block * 4096)
		found = int.from_bytes(data[:8], "little")
		assert data == found.to_bytes(8, "little") * 512, f"block {block} is torn"
		assert found >= number, f"block {block}: {found}, but {number} was flushed"
	print(len(flushed), "blocks hold what was flushed, or newer")
	sys.exit(0)
number = max(flushed.values(), default=0)
with open(notes, "a") as log:
	while True:
		pending = {}
		for _ in range(random.randrange(1, 200)):
			number += 1
			block = random.randrange(BLOCKS)
			h.pwrite(number.to_bytes(8, "little") * 512, block * 4096)
			pending[block] = number
		h.flush()
		log.write("".join(f"{block} {number}\n" for block, number in pending.items()))
		log.flush()
PYTHON

# fio_at REGION OPTIONS...: fio on a region of its partition.
fio_at() {
	region=$1
	shift
	fio --name="$region" --thread --ioengine=nbd --uri="$(uri fio)" --bs=4k --size=4m --iodepth=8 "$@"
}

# flushed ROUND OPTIONS...: each block there names itself and the round.
flushed() {
	pattern="%o\"round $1 \""
	shift
	fio_at flushed --verify=pattern --verify_pattern="$pattern" "$@" >fio.flushed 2>&1 ||
		fail "fio $*: $(cat fio.flushed)"
}

# Something that the server's end ends, too.
in_background() {
	"$@" >/dev/null 2>&1 &
	background="$background $!"
	at_end "end_job $!"
}

serve "$POOL" --tune off
fio_at flying --offset=32m --rw=write --verify=crc32c --do_verify=0 --end_fsync=1 >fio.fill 2>&1 ||
	fail "filling: $(cat fio.fill)"
unserve
slowest=0
for round in $(seq "$ROUNDS"); do
	background=
	serve "$POOL" --tune off
	in_background /usr/bin/python3 client.py "$(uri db)" notes.db
	in_background /usr/bin/python3 client.py "$(uri log)" notes.log
	# As a process of its own: what runs a shell function in the background is a shell.
	in_background fio --name=flying --thread --ioengine=nbd --uri="$(uri fio)" --bs=4k --size=4m --offset=32m \
		--iodepth=8 --numjobs=2 --rw=randrw --verify=crc32c --do_verify=0 --fsync=16 --time_based \
		--runtime=600 --randrepeat=0
	in_background fio --name=trims --thread --ioengine=nbd --uri="$(uri fio)" --bs=64k --size=16m --offset=40m \
		--rw=randtrimwrite --time_based --runtime=600
	flushed "$round" --rw=randwrite --do_verify=0 --end_fsync=1
	[ $((round % 2)) -eq 1 ] || in_background "$LCPFS" resize "$POOL" db "$((80 + round * 7 % 60))M"
	sleep "$(shuf -i 0-1 -n 1).$(shuf -i 100-999 -n 1)"
	unserve KILL
	for job in $background; do
		end_job "$job" || true
		wait "$job" 2>/dev/null || true
	done
	wait_released "$POOL"
	[ $((round % 2)) -eq 1 ] || check_clean "$POOL" # what was not rolled forward yet is clean, too
	serve "$POOL" --tune off
	took=$(awk -v second="$(getconf CLK_TCK)" '{ print int(($14 + $15) / second) }' "/proc/$SERVER/stat")
	[ "$took" -le "$OPEN_MAX" ] || fail "it took $took s to open"
	[ "$took" -le "$slowest" ] || slowest=$took
	for name in db log; do
		/usr/bin/python3 client.py "$(uri "$name")" "notes.$name" verify
	done
	flushed "$round" --rw=read
	fio_at flying --offset=32m --rw=read --verify=crc32c >fio.flying 2>&1 || fail "fio: $(cat fio.flying)"
	unserve
	check_clean "$POOL"
done
writes=$(cat notes.db notes.log | wc -l)
[ "$writes" -gt $((ROUNDS * 100)) ] || fail "there was hardly any load: $writes writes flushed"
echo "$ROUNDS kills; $writes writes were flushed before one, and fio's; opening took $slowest processor seconds"
