#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lcpfs attach by the kernel's nbd: a file system goes on over a restart of the server, also beside a writer; after
# a crash of the server, or with another volume in its place, the device fails; a volume that grows is seen. For a
# kernel that has nbd, as root; run.sh runs it in a guest.
. "$(dirname "$0")/../cli/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "not root"
needs mkfs.xfs xfs_repair
modprobe nbd 2>/dev/null || [ -d /sys/module/nbd ] || skip "no nbd in this kernel"
modprobe xfs 2>/dev/null || true
POOL=$T/pool

step() { # emulated it takes minutes
	echo "$(cut -d. -f1 /proc/uptime) s: $*"
}
attach() { # NAME [OPTIONS]: DEVICE
	expect 0 lcpfs attach "$POOL" "$@" --method nbd
	DEVICE=$(cat out)
	[ -b "$DEVICE" ] || fail "no block device: $DEVICE"
}
mount_it() {
	mount -o discard "$DEVICE" mnt
	at_end "umount -l $T/mnt 2>/dev/null"
}
is_gone() {
	[ ! -e "/sys/block/${DEVICE#/dev/}/pid" ]
}
length_is() {
	[ "$(blockdev --getsize64 "$DEVICE")" -eq "$1" ]
}

lcpfs create "$POOL" --size 1G --metaslab 4M >/dev/null
lcpfs add "$POOL" fs --min 64M --max 700M --size 400M --volume 384M >/dev/null
lcpfs add "$POOL" other --min 16M --max 64M >/dev/null
serve "$POOL"
attach fs
at_end "lcpfs detach $POOL fs --force 2>/dev/null"
length_is $((384 << 20)) || fail "of $(blockdev --getsize64 "$DEVICE") bytes"
step "mkfs.xfs on $DEVICE"
mkfs.xfs -q -f "$DEVICE"
mkdir mnt
mount_it
head -c 3000000 /dev/urandom >first
cp first mnt/first
expect 1 lcpfs detach "$POOL" fs
says "mounted at $T/mnt: unmount it first"
expect 1 lcpfs set "$POOL" fs volume=100M
says "in use by 1 client"

step "a restart, beside a writer"
cat >writer.sh <<'WRITER'
i=0
while [ ! -e enough ]; do
	i=$((i + 1))
	head -c 300000 /dev/urandom >"mnt/w$i" && sync -f "mnt/w$i" && sha256sum "mnt/w$i" >>sums || exit 1
done
WRITER
sh writer.sh &
WRITER=$!
wait_until test -s sums
for socket in "$SOCKET" "$T/elsewhere" "$SOCKET"; do
	unserve
	sleep 2
	SOCKET=$socket
	serve "$POOL"
	before=$(wc -l <sums)
	more() { [ "$(wc -l <sums)" -gt $((before + 1)) ]; }
	wait_until more
	step "served again: $(wc -l <sums) files"
done
touch enough
wait $WRITER || fail "the writer met an error"
echo 3 >/proc/sys/vm/drop_caches
sha256sum --quiet -c sums || fail "a file is another"
cmp first mnt/first || fail "the first file is another"
expect 0 lcpfs get "$POOL" fs recoveries -Hpo value
[ "$(cat out)" = 0 ] || fail "recoveries: $(cat out)"

step "the volume grows under it"
lcpfs set "$POOL" fs volume=512M >/dev/null
wait_until length_is $((512 << 20))
xfs_growfs mnt >grown.log 2>&1 || fail "$(cat grown.log)"
[ "$(df --output=size -B1M mnt | tail -n 1)" -gt 400 ] || fail "$(df mnt)"
cp first mnt/second
umount mnt
expect 0 lcpfs detach "$POOL" fs
expect 1 lcpfs detach "$POOL" fs
says "fs is not attached"
is_gone || fail "the device is there"

step "a snapshot"
lcpfs snapshot "$POOL" fs@a >/dev/null
attach fs@a
[ "$(blockdev --getro "$DEVICE")" = 1 ] || fail "it can be written to"
mount -o ro,norecovery,nouuid "$DEVICE" mnt
unserve
serve "$POOL"
echo 3 >/proc/sys/vm/drop_caches
cmp first mnt/second || fail "the snapshot differs"
umount mnt
expect 0 lcpfs detach "$POOL" fs@a

step "a server that is killed: the device fails, and what was synced is there"
attach fs
mount_it
cp first mnt/third
sync -f mnt
head -c 3000000 /dev/urandom >mnt/unsynced
unserve KILL
wait_released "$POOL"
serve "$POOL"
! dd if="$DEVICE" of=/dev/null bs=4096 count=1 skip=1000 iflag=direct 2>/dev/null || fail "it goes on"
umount mnt || umount -l mnt
wait_until is_gone
grep -q "its server crashed" /run/lcpfs/*.fs.log || fail "$(cat /run/lcpfs/*.fs.log)"
attach fs
mount_it
cmp first mnt/third || fail "what was synced is gone"
umount mnt

step "rolled back while it waits"
unserve
lcpfs rollback "$POOL" fs@a >/dev/null
serve "$POOL"
wait_until is_gone
grep -q "rolled back" /run/lcpfs/*.fs.log || fail "$(cat /run/lcpfs/*.fs.log)"

step "another partition of that name"
attach other
at_end "lcpfs detach $POOL other --force 2>/dev/null"
unserve
lcpfs remove "$POOL" other --force >/dev/null
lcpfs add "$POOL" other --min 16M --max 64M >/dev/null
serve "$POOL"
wait_until is_gone
grep -q "another one now" /run/lcpfs/*.other.log || fail "$(cat /run/lcpfs/*.other.log)"

step "no server: detach says so, and does not wait"
attach other
head -c 100000 /dev/urandom >"$DEVICE"
unserve
began=$(date +%s)
expect 1 lcpfs detach "$POOL" other
says "its server is gone"
expect 0 lcpfs detach "$POOL" other --force
[ $(($(date +%s) - began)) -lt 60 ] || fail "it waited"
is_gone || fail "the device is there"

step "nor does the device for longer than it was told"
serve "$POOL"
attach other --wait 4
unserve
! dd if="$DEVICE" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null || fail "nobody told the client"
wait_until is_gone
attach other # starts a server
lcpfs list "$POOL" >/dev/null
head -c 100000 /dev/urandom >third
dd if=third of="$DEVICE" bs=4096 conv=fsync,notrunc status=none
expect 0 lcpfs detach "$POOL" other
attach other --read-only
[ "$(blockdev --getro "$DEVICE")" = 1 ] || fail "it can be written to"
cmp -n 100000 third "$DEVICE" || fail "what was written is another"
expect 0 lcpfs detach "$POOL" other
kill "$(pgrep -f "lcpfs serve $POOL ")"
wait_released "$POOL"
check_clean "$POOL"
echo "attached by the kernel: over three restarts, a crash and a rollback"
