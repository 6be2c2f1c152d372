#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The kernel's NBD client with xfs on it: files written, compared, trimmed; a server that is ended and one that is
# killed under it, and the client connected anew. For a kernel that has nbd, as root; run.sh runs it in a guest.
. "$(dirname "$0")/../cli/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "not root"
needs nbd-client mkfs.xfs xfs_repair
modprobe nbd nbds_max=2 2>/dev/null || [ -b /dev/nbd0 ] || skip "no nbd in this kernel"
modprobe xfs 2>/dev/null || true
POOL=$T/pool

step() { # emulated it takes minutes
	echo "$(cut -d. -f1 /proc/uptime) s: $*"
}
disconnect() { # the kernel keeps a device whose server has gone until it is told
	nbd-client -d /dev/nbd0
	wait_until sh -c '! nbd-client -check /dev/nbd0 >/dev/null'
}
connect() {
	nbd-client -unix "$SOCKET" /dev/nbd0 -name fs -block-size 4096 -connections 2
	at_end "nbd-client -d /dev/nbd0 2>/dev/null"
}
mount_it() {
	mount -o discard /dev/nbd0 mnt
	at_end "umount -l $T/mnt 2>/dev/null"
}
fill() { # NAME: a folder of files, with their sums, synced
	mkdir "mnt/$1"
	for i in 1 2 3 4 5 6 7 8; do
		head -c $((i * 400000)) /dev/urandom >"mnt/$1/$i"
	done
	(cd mnt && sha256sum "$1"/*) >"sums.$1"
	sync -f mnt
}
compare() {
	echo 3 >/proc/sys/vm/drop_caches
	for name; do
		(cd mnt && sha256sum --quiet -c "../sums.$name") || fail "$name differs"
	done
}

lcpfs create "$POOL" --size 1G --metaslab 4M
lcpfs add "$POOL" fs --min 64M --max 900M --size 700M --volume 512M >/dev/null
serve "$POOL"
connect
[ "$(blockdev --getsize64 /dev/nbd0)" -eq $((512 << 20)) ] || fail "of $(blockdev --getsize64 /dev/nbd0) bytes"
step "mkfs.xfs"
mkfs.xfs -q -f /dev/nbd0
mkdir mnt
mount_it
fill first
step "files, trimmed"
compare first
before=$(field fs 'p["live_blocks"]')
fill gone
rm -r mnt/gone
sync -f mnt
fstrim mnt
after=$(field fs 'p["live_blocks"]')
[ "$after" -lt $((before + 1000)) ] || fail "nothing was trimmed: $before, then $after live blocks"

step "a server that ends, and comes again: the client is told, and is connected anew"
umount mnt
unserve
! dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null || fail "nobody told the client"
disconnect
serve "$POOL"
connect
mount_it
compare first
fill second

step "one that is killed under it: what was synced is there"
head -c 3000000 /dev/urandom >mnt/unsynced
unserve KILL
umount mnt || umount -l mnt
disconnect
wait_released "$POOL"
serve "$POOL"
connect
mount_it
compare first second
umount mnt
xfs_repair -n /dev/nbd0 >repair.log 2>&1 || fail "$(cat repair.log)"
disconnect
unserve
check_clean "$POOL"
echo "the kernel's client: xfs over two restarts"
