#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to a mounted file system in three commands, and back. By the kernel's nbd where there is one, else
# by nbdfuse and a loop device.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 512M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 64M --max 256M --volume 64M >/dev/null
if [ "$(id -u)" -ne 0 ]; then
	expect 1 lcpfs attach "$POOL" db
	says "be root"
	skip "only root can attach"
fi
[ -z "$SANITIZER" ] || skip "programs of others are run"
needs mkfs.ext4 losetup nbdfuse
[ -w /dev/fuse ] && [ -w /dev/loop-control ] || skip "neither nbd nor FUSE with loop devices here"

GUID=$(lcpfs status "$POOL" --json | sed 's/.*"guid":"\([0-9a-f]*\)".*/\1/')
RUN=/run/lcpfs
server() { pgrep -f "lcpfs serve $POOL " || true; }
# shellcheck disable=SC2016 # expanded at the end
at_end 'rm -rf $RUN/$GUID.*'
at_end 'for pid in $(server); do kill -9 $pid; done'
at_end '"$LCPFS" detach "$POOL" db --force 2>/dev/null'
at_end 'umount "$T/mnt" 2>/dev/null'

expect 2 lcpfs attach "$POOL" db --method x
for wrong in x -1 5m 86401 ""; do
	expect 2 lcpfs attach "$POOL" db --wait "$wrong"
	says "number of seconds"
done
expect 1 lcpfs attach "$POOL" none
says "no partition none"
expect 1 lcpfs attach "$POOL" ../../etc
says "no partition"
expect 1 lcpfs attach "$T/none" db
says "No such file"
expect 1 lcpfs detach "$POOL" db
says "db is not attached"

# The server, started by the first of these, serves on.
expect 0 lcpfs attach "$POOL" db --dry-run
grep -q "^would be: db: attached by " out || fail "$(cat out)"
expect 1 lcpfs attach "$POOL" nobody --dry-run
expect 0 lcpfs snapshot "$POOL" db@for.a.clone
expect 0 lcpfs clone "$POOL" db@for.a.clone copy
expect 0 lcpfs attach "$POOL" copy --dry-run
grep -q "^would be: copy: attached by " out || fail "$(cat out)"
expect 0 lcpfs attach "$POOL" copy
CLONED=$(cat out)
[ "$(blockdev --getsize64 "$CLONED")" = 67108864 ] || fail "the clone's length"
expect 1 lcpfs destroy "$POOL" copy
says "in use by 1 client"
expect 0 lcpfs detach "$POOL" copy
expect 0 lcpfs destroy "$POOL" copy
expect 0 lcpfs destroy "$POOL" db@for.a.clone
expect 1 lcpfs detach "$POOL" db
expect 0 lcpfs attach "$POOL" db
DEVICE=$(cat out)
expect 0 lcpfs attach "$POOL" db --dry-run
grep -q "^would be: db: $DEVICE, as it is already$" out || fail "$(cat out)"
expect 0 lcpfs detach "$POOL" db --dry-run
grep -q "^would be: db: $DEVICE detached$" out || fail "$(cat out)"
[ -b "$DEVICE" ] || fail "no block device: $DEVICE"
[ "$(blockdev --getsize64 "$DEVICE")" = 67108864 ] || fail "its length"
expect 0 lcpfs attach "$POOL" db
[ "$(cat out)" = "$DEVICE" ] || fail "attached twice: $(cat out)"
expect 1 lcpfs remove "$POOL" db

mkfs.ext4 -q "$DEVICE"
mkdir mnt
mount -o discard "$DEVICE" mnt
head -c 5000000 /dev/urandom >data
cp data mnt/data
expect 1 lcpfs detach "$POOL" db
says "mounted at $T/mnt: unmount it first"
cmp data mnt/data || fail "what was refused had an effect"
umount mnt
expect 0 lcpfs detach "$POOL" db
expect 1 lcpfs detach "$POOL" db
[ ! -e "$RUN/$GUID.db" ] || fail "something is left"

# What was written is durable: also the page cache of the device was written back.
expect 0 lcpfs get "$POOL" db recoveries -Hpo value
[ "$(cat out)" = 0 ] || fail "crashes: $(cat out)"
kill -9 "$(server)"
wait_released "$POOL"
expect 0 lcpfs attach "$POOL" db --read-only --json
DEVICE=$(sed 's/.*"device":"\([^"]*\)".*/\1/' out)
mount -o ro,noload "$DEVICE" mnt
cmp data mnt/data || fail "the data is another"
umount mnt
[ "$(blockdev --getro "$DEVICE")" = 1 ] || fail "not read-only"
expect 0 lcpfs get "$POOL" db recoveries -Hpo value
[ "$(cat out)" = 1 ] || fail "crashes: $(cat out)"
expect 0 lcpfs detach "$POOL" db --json

# What cannot be written back any more is told; --force lets it go.
expect 0 lcpfs attach "$POOL" db
DEVICE=$(cat out)
case $DEVICE in
/dev/loop*)
	dd if=/dev/urandom of="$DEVICE" bs=64k count=8 conv=notrunc status=none
	kill -9 "$(server)"
	wait_released "$POOL"
	expect 1 lcpfs detach "$POOL" db
	says "cannot be made durable"
	expect 0 lcpfs detach "$POOL" db --force
	;;
*)
	expect 0 lcpfs detach "$POOL" db
	;;
esac

# The socket that the pool names has to be its owner's; a device that is gone is not taken for attached.
expect 0 lcpfs attach "$POOL" db
DEVICE=$(cat out)
kill "$(server)"
gone() { [ -z "$(server)" ]; }
wait_until gone
case $DEVICE in
/dev/loop*)
	losetup -d "$DEVICE"
	expect 1 lcpfs detach "$POOL" db
	says "is not attached"
	umount -l "$RUN/$GUID.db.nbd"
	;;
esac

# A socket whose path means something else within a URI.
"$LCPFS" serve "$POOL" --socket "$T/a b&c%41?#" >serve.out 2>&1 &
wait_until grep -q serving serve.out
expect 0 lcpfs attach "$POOL" db --method fuse
expect 0 lcpfs detach "$POOL" db
