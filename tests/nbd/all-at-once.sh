#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything at once against one server: fio over several connections on each partition, resizes, scrubs,
# partitions that come and go, whoever looks, the engine on until it has moved a boundary; then the end while
# clients are at it. ROUNDS: how often (1). For a build with a sanitizer (make test-tsan, test-asan): any report of
# it fails.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
needs fio nbdinfo
fio --enghelp | grep -qw nbd || skip "fio without its nbd engine"
POOL=$T/pool
ROUNDS=${ROUNDS:-1}

lcpfs create "$POOL" --size 256M --metaslab 1M
for name in a b c; do
	lcpfs add "$POOL" "$name" --space --min 32M --max 128M --size 60M --volume 16M >/dev/null
done
lcpfs add "$POOL" tight --space --min 16M --max 128M --size 24M --volume 14M >/dev/null # it will get more

# Until the file "stop" is there; what the server refuses is no failure, a signal's exit code is.
again() {
	while [ ! -e stop ]; do
		status=0
		"$@" >/dev/null 2>&1 || status=$?
		[ "$status" -lt 60 ] || { echo "$*: $status" >>broken; return; }
		echo "$2" >>done
	done
}

resize() {
	lcpfs resize "$POOL" "$1" "$(shuf -i 40-80 -n 1)M" --space
}

come_and_go() {
	lcpfs add "$POOL" "$1" --space --min 8M --max 16M
	nbdinfo "$(uri "$1")"
	lcpfs remove "$POOL" "$1"
}

# Clients that verify: fio. A client that does what fio does not: extents, FUA, zeros, cached handles.
cat >client.py <<'PYTHON'
import os
import random
import sys

import nbd

hands = [nbd.NBD() for _ in range(3)]
for h in hands:
	h.add_meta_context("base:allocation")
	h.connect_uri(sys.argv[1])
while not os.path.exists("stop"):
	h, at = random.choice(hands), 12 * 2**20 + random.randrange(0, 1000) * 4096
	h.pwrite(random.randbytes(random.randrange(1, 9000)), at, random.choice((0, nbd.CMD_FLAG_FUA)))
	random.choice(hands).zero(5000, at + 100)
	random.choice(hands).trim(8192, at)
	random.choice(hands).block_status(2**20, 12 * 2**20, lambda *_: 0)
	random.choice(hands).pread(20000, at)
	random.choice(hands).flush()
PYTHON

moves() {
	lcpfs log "$POOL" | grep -c '  moved  ' || true
}

start() {
	"$@" &
	jobs="$jobs $!"
	at_end "end_job $!"
}

for round in $(seq "$ROUNDS"); do
	rm -f stop
	jobs=
	serve "$POOL" --tune on
	for name in a b c; do
		start fio --name="$name" --thread --ioengine=nbd --uri="$(uri "$name")" --rw=randrw --bsrange=512-32k \
			--size=4m --offset_increment=4m --numjobs=2 --iodepth=8 --io_size="${IO_SIZE:-2m}" \
			--fsync=32 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --output="fio.$name"
	done
	fios=$jobs
	for name in a b; do
		start /usr/bin/python3 client.py "$(uri "$name")"
	done
	fio --name=tight --thread --ioengine=nbd --uri="$(uri tight)" --rw=randwrite --bs=8k --size=14m \
		--numjobs=2 --iodepth=8 --time_based --runtime=1000 --output=fio.tight &
	tight=$!
	at_end "end_job $tight"
	start again resize a
	start again resize b
	start again lcpfs list "$POOL" --json
	start again lcpfs status "$POOL"
	start again lcpfs explain "$POOL" --json
	start again lcpfs log "$POOL"
	start again lcpfs scrub "$POOL"
	start again come_and_go brief
	for job in $fios; do
		wait "$job" || fail "fio: $(cat fio.?)"
	done
	waited=0
	until [ "$(moves)" -ge "$round" ] || [ "$waited" -ge 60 ]; do
		sleep 1
		waited=$((waited + 1))
	done
	kill -INT "$tight" || fail "fio: $(cat fio.tight)"
	wait "$tight" || [ $? -eq 128 ] || fail "fio: $(cat fio.tight)"
	touch stop
	for job in $jobs; do
		case " $fios " in *" $job "*) ;; *) wait "$job" || fail "a client ended with $?" ;; esac
	done
	[ ! -e broken ] || fail "$(cat broken)"
	unserve TERM
	serve "$POOL" # the end while clients go on
	fio --name=last --thread --ioengine=nbd --uri="$(uri c)" --rw=randwrite --bs=4k --size=4m --numjobs=4 \
		--time_based --runtime=100 >/dev/null 2>&1 &
	last=$!
	at_end "end_job $last"
	sleep 1
	unserve TERM
	end_job "$last" || true
	wait "$last" 2>/dev/null || true
	! grep -q "WARNING: ThreadSanitizer\|ERROR: \(Address\|Leak\)Sanitizer\|runtime error" server.log ||
		fail "the sanitizer reports"
	check_clean "$POOL"
done
sort done | uniq -c
echo "boundaries moved by the engine: $(moves)"
