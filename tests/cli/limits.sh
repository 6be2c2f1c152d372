#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the system sets limits to is said in one line: closed standard descriptors, the length of files, read-only
# devices, files that others have.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool
lcpfs create "$POOL" --size 64M --metaslab 1M
lcpfs add "$POOL" db --min 8M --max 32M --size 24M >/dev/null

# Whatever is closed, nothing but the pool's own writes reaches the pool.
picture() {
	head -c 4096 "$POOL" | sha1sum
}
picture >before
for command in "scrub $POOL --progress" "resize $POOL db 30M --progress" "resize $POOL db 20M" "list $POOL" \
	"status $POOL" "add $POOL more --min 8M --max 8M" "remove $POOL more" "check $POOL --progress --data" \
	"list $POOL --nonsense" "remove $POOL nobody"; do
	# shellcheck disable=SC2086
	for closed in 0 1 2 012; do
		case $closed in
		0) lcpfs $command <&- >/dev/null 2>&1 ;;
		1) lcpfs $command >&- 2>/dev/null ;;
		2) lcpfs $command 2>&- >/dev/null ;;
		012) lcpfs $command <&- >&- 2>&- ;;
		esac || true
		picture >now
		cmp -s before now || fail "$command with descriptor $closed closed wrote into the pool"
	done
done
check_clean "$POOL"
! lcpfs list "$POOL" >&- 2>err || fail "nobody could read the list, and that is no failure"

# A file may not get that long.
(
	ulimit -f 1000
	expect 1 lcpfs create "$T/long" --size 64M
	says "ulimit"
	[ ! -e "$T/long" ] || fail "a part of it was left"
)

# In use: by whom.
hold "$POOL"
expect 2 lcpfs check "$POOL"
says "in use by process [0-9]* (\(flock\|sleep\))"
expect 1 lcpfs create "$POOL" --force
says "in use by process"
kill "$HOLDER"
wait "$HOLDER" || true

[ "$(id -u)" -eq 0 ] || exit 0
. "$TESTS/nbd/lib.sh"

# A read-only device can be looked at.
losetup --read-only --find --show "$POOL" >readonly 2>/dev/null || skip "no loop devices"
at_end "losetup -d $(cat readonly)"
LOOP=$(cat readonly)
for command in "serve $LOOP --socket $T/s" "add $LOOP x --min 8M --max 8M" "resize $LOOP db 30M" \
	"create $LOOP --force"; do
	# shellcheck disable=SC2086
	expect 1 lcpfs $command
	says "read-only device"
done
expect 0 lcpfs list "$LOOP"
expect 0 lcpfs check "$LOOP" --data
