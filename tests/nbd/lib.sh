# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Block devices out of partitions: nbdfuse gives a file, losetup a device on it. Sourced after ../cli/lib.sh.

# file_of NAME: mounts the partition as $T/NAME.fuse/nbd.
file_of() {
	needs nbdfuse fusermount3
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	mkdir -p "$1.fuse"
	nbdfuse -C 4 "$1.fuse" "$(uri "$1")" >fuse.log 2>&1 &
	FUSE=$!
	at_end "fusermount3 -u $T/$1.fuse 2>/dev/null || umount -l $T/$1.fuse 2>/dev/null; wait $FUSE 2>/dev/null"
	tries=0
	until [ -e "$1.fuse/nbd" ]; do
		kill -0 "$FUSE" 2>/dev/null || skip "no FUSE here: $(cat fuse.log)"
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || skip "nbdfuse does not mount"
		sleep 0.1
	done
}

# A partition's file no longer in use: its FUSE mount goes. A loop device on it may be open for a moment
# longer, where somebody else looks for a free one.
file_end() {
	for _ in $(seq 200); do
		! fusermount3 -u "$T/$1.fuse" 2>/dev/null || break
		sleep 0.3
	done
	! mountpoint -q "$T/$1.fuse" || umount "$T/$1.fuse"
	wait "$FUSE" || true
}

# The next free loop device, in $LOOP: by /dev's node, or by one of ours where others left none or something else.
loop_free() {
	LOOP=$(losetup --find 2>loop.log) || return
	number=${LOOP#/dev/loop}
	[ "$(stat -c %t:%T "$LOOP" 2>/dev/null)" != "7:$(printf %x "$number")" ] || return 0
	LOOP=$T/loop$number
	[ -b "$LOOP" ] || mknod "$LOOP" b 7 "$number" 2>loop.log
}

# loop_of FILE: a loop device on it, in $LOOP.
loop_of() {
	[ "$(id -u)" -eq 0 ] || skip "only root makes loop devices"
	needs losetup
	for _ in 1 2 3 4 5 6 7 8; do # somebody else may take the same one
		loop_free && losetup "$LOOP" "$1" 2>loop.log || continue
		at_end "loop_end $LOOP"
		return
	done
	skip "no loop device: $(cat loop.log)"
}

# loop_end DEVICE: detaches it, if it is still ours: by now another test may have been given the same one.
loop_end() {
	case $(cat "/sys/block/loop${1##*/loop}/loop/backing_file" 2>/dev/null) in
	"$T"/*) losetup -d "$1" ;;
	esac
}

# mount_at DEVICE FOLDER
mount_at() {
	mkdir -p "$2"
	mount "$1" "$2" 2>mount.log || skip "cannot mount: $(cat mount.log)"
	at_end "umount $T/$2 2>/dev/null || umount -l $T/$2 2>/dev/null"
}

# filesystem_journey MKFS CHECK: make one, unpack a source tree, unmount, check, mount again, compare.
filesystem_journey() {
	lcpfs create "$POOL" --size 2G --metaslab 4M
	lcpfs add "$POOL" fs --min 64M --max 1536M --size 512M --volume 1G >/dev/null
	lcpfs add "$POOL" other --min 64M --max 512M --size 128M >/dev/null
	serve "$POOL"
	file_of fs
	loop_of "$T/fs.fuse/nbd"
	$1 "$LOOP" >mkfs.log 2>&1 || fail "mkfs: $(cat mkfs.log)"
	mount_at "$LOOP" mnt
	(cd "$TESTS/.." && tar -cf - --exclude=.git --exclude='build*' .) | tar -xf - -C mnt
	cp -r /usr/include mnt/include
	(cd mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum) >sums
	[ "$(wc -l <sums)" -gt 200 ] || fail "that was no source tree"
	lcpfs resize "$POOL" fs 256M >/dev/null # while it is mounted
	umount mnt
	$2 "$LOOP" >fsck.log 2>&1 || fail "fsck: $(cat fsck.log)"
	lcpfs resize "$POOL" fs 1G >/dev/null
	mount_at "$LOOP" mnt
	(cd mnt && sha256sum --quiet -c ../sums) || fail "files differ"
	umount mnt
	loop_end "$LOOP"
	file_end fs
	unserve
	check_clean "$POOL"
}
