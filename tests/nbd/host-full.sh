#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The file system under a sparse pool file is full: who writes something new is refused, all else goes on, also
# after a restart; a trim gives space back to the host; and all of it is said. On each file system to be had here.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ "$(id -u)" -eq 0 ] || skip "not root"
POOL=$T/host/pool

cat >client.py <<'PYTHON'
import errno
import random
import sys
import time

import nbd

PIECE = 1 << 16
h = nbd.NBD()
h.connect_uri(sys.argv[1])
random.seed(1)
first, second = random.randbytes(PIECE), random.randbytes(PIECE)


def fill():
	"""Until it is refused; how far it came."""
	for at in range(0, h.get_size(), PIECE):
		try:
			h.pwrite(first, at)
		except nbd.Error as error:
			assert error.errnum == errno.ENOSPC, error
			return at
	sys.exit("it was never refused")


def expect(pattern, end, step=1):
	for at in range(0, end, PIECE * step):
		assert h.pread(PIECE, at) == pattern, at


what = sys.argv[2]
if what == "fill":
	end = fill()
	h.flush()
	expect(first, end)
	for at in range(0, end, 3 * PIECE):
		h.pwrite(second, at)
	h.flush()
	print(end)
elif what == "press":  # until it is killed: what is new is refused, or soon will be
	at = int(sys.argv[3])
	while at < h.get_size():
		try:
			h.pwrite(first, at)
			at += PIECE
		except nbd.Error as error:
			assert error.errnum == errno.ENOSPC, error
			time.sleep(0.05)
elif what == "again":
	end = int(sys.argv[3])
	expect(second, end, 3)
	for at in range(0, end, PIECE):
		h.pwrite(first, at, nbd.CMD_FLAG_FUA if at % (64 * PIECE) == 0 else 0)
	h.flush()
	h.trim(end // 2, 0)
	h.flush()
	assert h.pread(PIECE, 0) == bytes(PIECE)
elif what == "more":
	h.pwrite(second, h.get_size() - PIECE)
	for at in range(0, 16 << 20, PIECE):
		h.pwrite(first, at)
	h.flush()
elif what == "places":
	expect(first, 16 << 20)
	for at in range(0, 16 << 20, 2 * PIECE):
		h.pwrite(second, at)
	h.flush()
	h.trim(8 << 20, 0)
	h.flush()
PYTHON

# until_says TEXT COMMAND...
until_says() {
	text=$1
	shift
	for _ in $(seq 300); do
		! "$@" 2>/dev/null | tr -s '\n ' ' ' | grep -q "$text" || return 0
		sleep 0.1
	done
	fail "never says \"$text\": $("$@")"
}

# It says so while it refuses, and for two seconds more.
says_full() { # KIND END
	/usr/bin/python3 client.py "$(uri db)" press "$2" 2>/dev/null &
	presser=$!
	until_says "health.*DEGRADED.*host is full.*$POOL" lcpfs status "$POOL"
	until_says '"host_is_full": *true' lcpfs status "$POOL" --json
	kill "$presser"
	wait "$presser" || true
	lcpfs log "$POOL" | grep -q "host is full: $1 at $T/host" || fail "log: $(lcpfs log "$POOL")"
	grep -q "^lcpfs: .*the host is full: $1 at $T/host" server.log || fail "server: $(cat server.log)"
}

on_disk() { # MiB
	du -m "$POOL" | cut -f1
}

# journey KIND: on what is mounted at host.
journey() {
	lcpfs create "$POOL" --size 2G --metaslab 4M
	lcpfs add "$POOL" db --min 64M --max 1500M --size 1G --volume 900M >/dev/null
	lcpfs add "$POOL" other --min 64M --max 512M --size 128M >/dev/null
	free=$(df -m --output=avail host | tail -1)
	fallocate -l $((free - 110))M host/ballast
	: >server.log
	serve "$POOL"
	end=$(/usr/bin/python3 client.py "$(uri db)" fill)
	[ "$end" -gt $((40 << 20)) ] || fail "$1: only $end bytes went in"
	says_full "$1" "$end"
	unserve
	: >server.log
	serve "$POOL"
	[ -z "$(lcpfs list "$POOL" | grep -i fault)" ] || fail "$1: faulted after a restart"
	before=$(on_disk)
	/usr/bin/python3 client.py "$(uri db)" again "$end"
	for _ in $(seq 300); do
		[ "$(on_disk)" -gt $((before - end / 4 / 1048576)) ] || break
		sleep 0.1
	done
	[ "$(on_disk)" -le $((before - end / 4 / 1048576)) ] || fail "$1: of ${before}M, $((end >> 20))M written, not a quarter came back"
	rm host/ballast
	until_says "host has space again: $1 at" lcpfs log "$POOL"
	until_says "health *ONLINE" lcpfs status "$POOL"
	/usr/bin/python3 client.py "$(uri db)" more
	[ "$(lcpfs log "$POOL" | grep -c 'host has space again')" -ge 1 ]
	unserve
	check_clean "$POOL"
	[ "$1" != ext4 ] || without_places
	rm -f "$POOL"
}

# A copy, and a pool of an earlier version, have places for what they hold only: it stays, and can be worked with.
without_places() {
	fallocate --dig-holes "$POOL"
	fallocate -l $(($(df -m --output=avail host | tail -1) - 14))M host/ballast
	serve "$POOL"
	/usr/bin/python3 client.py "$(uri db)" places
	unserve
	check_clean "$POOL"
	rm host/ballast
}

# format_disk MKFS: a new file "disk", formatted. mkfs.btrfs looks at every mount of the machine first, and gives up
# when one is just then going away, which those of other tests do.
format_disk() {
	for _ in 1 2 3 4 5; do
		rm -f disk
		truncate -s 512M disk
		! "$1" -q disk >mkfs.log 2>&1 || return 0
		sleep 1
	done
	fail "$1: $(cat mkfs.log)"
}

# What the kernel still does for a server that has ended may keep the file system busy for a moment.
unmount() {
	for _ in $(seq 100); do
		! umount host 2>umount.log || return 0
		sleep 0.1
	done
	fail "umount: $(cat umount.log)"
}

did=
mkdir -p host
for kind in tmpfs ext4 xfs btrfs; do
	case $kind in
	tmpfs)
		mount -t tmpfs -o size=400M none host 2>mount.log || continue
		at_end "umount -l $T/host 2>/dev/null"
		;;
	*)
		command -v mkfs.$kind >/dev/null || continue
		format_disk "mkfs.$kind"
		loop_of "$T/disk"
		mount -t $kind "$LOOP" host 2>mount.log || { loop_end "$LOOP"; continue; }
		at_end "umount -l $T/host 2>/dev/null"
		;;
	esac
	journey $kind
	unmount
	[ $kind = tmpfs ] || loop_end "$LOOP"
	did="$did $kind"
done
[ -n "$did" ] || skip "nothing can be mounted here"
echo "full hosts:$did"
