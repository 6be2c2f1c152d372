#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Random writes on three partitions at once, verified by checksum, while boundaries are moved by hand every second.
. "$(dirname "$0")/../cli/lib.sh"
needs fio
fio --enghelp | grep -qw nbd || skip "fio without its nbd engine"
POOL=$T/pool

lcpfs create "$POOL" --size 768M --metaslab 1M
for name in a b c; do
	lcpfs add "$POOL" "$name" --min 96M --max 512M --size 160M --volume 96M >/dev/null
done
serve "$POOL" --tune off
for name in a b c; do
	fio --name="$name" --ioengine=nbd --uri="$(uri "$name")" --rw=randwrite --bsrange=512-64k \
		--size=64m --iodepth=8 --io_size="${IO_SIZE:-400m}" --randseed=1 --fsync=64 \
		--verify=crc32c --verify_backlog=512 --verify_fatal=1 --output="fio.$name" >/dev/null 2>&1 &
	eval "FIO_$name=$!"
	at_end "end_job $!"
done
round=0
resizes=0
while kill -0 "$FIO_a" 2>/dev/null || kill -0 "$FIO_b" 2>/dev/null || kill -0 "$FIO_c" 2>/dev/null; do
	for name in a b c; do
		size=$((112 + (round * 37 + resizes * 53) % 112))
		if lcpfs resize "$POOL" "$name" "${size}M" >resize.out 2>resize.err; then
			resizes=$((resizes + 1))
		else # at times another has not handed over yet what this one would get
			grep -q "free" resize.err || fail "resize $name $size: $(cat resize.err)"
		fi
	done
	round=$((round + 1))
	[ "$round" -lt 400 ] || fail "fio does not end"
	sleep 1
done
for name in a b c; do
	eval "wait \$FIO_$name" || fail "fio on $name: $(cat "fio.$name")"
done
echo "$resizes resizes"
[ "$resizes" -ge 3 ] || fail "hardly a boundary moved: $(cat resize.err)"
unserve
check_clean "$POOL"
