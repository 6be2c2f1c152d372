#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One writer by ways that no lock knows: a pool file seen through FUSE is another file to the system, but its claim
# tells.
# Copies are no aliases; who was killed has nothing any more; who stood still for too long writes nothing any more.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
needs nbdkit nbdfuse fusermount3
[ -c /dev/fuse ] || skip "no /dev/fuse"
POOL=$T/pool

# through: the same file, at $T/far/nbd.
through() {
	mkdir -p far
	nbdkit --foreground -U "$T/far.sock" file "$POOL" >far.log 2>&1 &
	FAR=$!
	at_end "kill $FAR 2>/dev/null"
	wait_until [ -S far.sock ]
	nbdfuse far "nbd+unix:///?socket=$T/far.sock" >fuse.log 2>&1 &
	at_end "fusermount3 -u $T/far 2>/dev/null || umount -l $T/far 2>/dev/null"
	for _ in $(seq 600); do
		[ ! -e far/nbd ] || return 0
		sleep 0.1
	done
	skip "nbdfuse does not mount: $(cat fuse.log)"
}

write() {
	/usr/bin/python3 - "$(uri db)" "$1" <<'PYTHON'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(64):
	h.pwrite(bytes([int(sys.argv[2])]) * 4096, i * 4096)
h.flush()
PYTHON
}

lcpfs create "$POOL" --size 64M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 32M >/dev/null
through
expect 0 lcpfs list far/nbd
serve "$POOL"
write 1
for command in "list" "add more --min 8M --max 8M" "check"; do
	# shellcheck disable=SC2086
	set -- $command
	verb=$1
	shift
	code=0
	timeout 60 "$LCPFS" "$verb" far/nbd "$@" >out 2>err || code=$?
	[ "$code" -eq 1 ] || [ "$code" -eq 2 ] || fail "$command: $code: $(cat out err)"
	says "process $SERVER"
done
expect 1 timeout 60 "$LCPFS" create far/nbd --force
says "process $SERVER"
cp "$POOL" copy
expect 0 timeout 9 "$LCPFS" add copy more --min 8M --max 8M
unserve KILL
expect 0 timeout 9 "$LCPFS" list far/nbd # its owner is known to be gone
expect 0 timeout 9 "$LCPFS" add far/nbd more --min 8M --max 8M
expect 0 timeout 9 "$LCPFS" remove "$POOL" more
check_clean "$POOL"

# A server whose claim was written over acknowledges nothing, and ends.
serve "$POOL"
write 2
/usr/bin/python3 - "$POOL" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
	for at in (4096, (63 << 20) + 4096):
		f.seek(at)
		f.write(bytes(4096))
PYTHON
! write 3 2>err || fail "it still acknowledges"
status=0
wait "$SERVER" || status=$?
SERVER=
[ "$status" -ne 0 ] || fail "it ended as if nothing had happened"
grep -q "taken the pool over" server.log || fail "it does not say why it ended: $(cat server.log)"
serve "$POOL"
unserve
check_clean "$POOL"

# Another machine takes over what this one has not renewed for long; and this one, going on, writes nothing.
[ "$(id -u)" -eq 0 ] || exit 0
needs unshare
cat /proc/sys/kernel/random/uuid >boot
unshare -m sh -c 'mount --bind boot /proc/sys/kernel/random/boot_id' 2>/dev/null || exit 0
elsewhere() {
	unshare -m sh -c 'mount --bind boot /proc/sys/kernel/random/boot_id; exec "$@"' sh "$@"
}
serve "$POOL"
write 4
expect 1 elsewhere timeout 60 "$LCPFS" list far/nbd
says "process $SERVER"
kill -STOP "$SERVER"
at_end "kill -CONT $SERVER 2>/dev/null"
expect 0 elsewhere timeout 60 "$LCPFS" add far/nbd taken --min 8M --max 8M
kill -CONT "$SERVER"
status=0
wait "$SERVER" || status=$?
SERVER=
[ "$status" -ne 0 ] || fail "it does not notice that it lost the pool"
[ "$(field taken 'p["name"]')" = taken ] || fail "what the other did is gone"
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON'
import sys, nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
assert h.pread(4096, 0) == bytes([4]) * 4096
PYTHON
rm "$POOL"
wait_until grep -q "file was removed" server.log # not in silence
