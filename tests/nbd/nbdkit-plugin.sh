#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The plugin for nbdkit: what is written through it is what lcpfs serve serves, and the other way round; exports,
# snapshots, trims, a full partition, two that want one pool, and what is wrong.
. "$(dirname "$0")/../cli/lib.sh"
needs nbdkit nbdcopy nbdinfo
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ -z "$SANITIZER" ] || skip "nbdkit has no sanitizer"
POOL=$T/pool

client() { # URI PROGRAM: h is connected
	/usr/bin/python3 -c "import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
$2" "$1"
}
begin() { # [PARAMETERS]: nbdkit with the pool
	nbdkit --foreground --pidfile "$T/pid" --unix "$SOCKET" "$PLUGIN" "$POOL" "$@" >nbdkit.log 2>&1 &
	NBDKIT=$!
	at_end "end_job $NBDKIT"
	wait_until test -s pid
}
end() { # [SIGNAL]
	kill "-${1:-TERM}" "$NBDKIT"
	wait "$NBDKIT" || [ -n "${1-}" ] || fail "nbdkit ended with $?: $(cat nbdkit.log)"
	rm -f pid "$SOCKET"
}

lcpfs create "$POOL" --size 512M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 64M --max 128M --volume 64M >/dev/null
! nbdkit "$PLUGIN" 2>err || fail "without a pool"
says "which pool"
! nbdkit "$PLUGIN" "$POOL" tune=maybe 2>err || fail "a mode that is none"
says "off, observe or on"
! nbdkit "$PLUGIN" "$POOL" size=1 2>err || fail "a parameter that is none"
! nbdkit --foreground --unix "$SOCKET" "$PLUGIN" "$T/none" 2>err || fail "a pool that is none"

head -c 20000000 /dev/urandom >data
begin tune=observe cache=32M
[ "$(nbdinfo --size "nbd+unix:///?socket=$SOCKET")" = 67108864 ] || fail "the only partition has no name"
nbdcopy --flush data "$(uri db)"
client "$(uri db)" '
assert h.can_fua() and h.can_multi_conn() and h.can_trim() and h.can_zero() and not h.is_read_only()
h.pwrite(b"fua" * 100, 30000001, nbd.CMD_FLAG_FUA)
assert h.pread(302, 30000000) == b"\0" + b"fua" * 100 + b"\0"
h.trim(1 << 20, 0)
h.zero(4096, 1 << 20)
h.zero(4096, 40 << 20, nbd.CMD_FLAG_NO_HOLE)
assert h.pread((1 << 20) + 4096, 0) == bytes((1 << 20) + 4096)'
nbdinfo --map "$(uri db)" >map
head -n 1 map | grep -q "^ *0 .* 3 *hole,zero" || fail "no hole: $(cat map)"
grep -q "41943040 .* 0 *data" map || fail "no data: $(cat map)"
expect 1 lcpfs list "$POOL"
says "in use"
end
dd if=/dev/zero of=data bs=4096 count=257 conv=notrunc status=none

check_clean "$POOL"
lcpfs snapshot "$POOL" db@a >/dev/null
lcpfs add "$POOL" other --min 16M --max 16M --volume 32M --thin >/dev/null
serve "$POOL"
nbdcopy "$(uri db)" back
cmp -n 20000000 data back || fail "lcpfs serve has other data"
nbdcopy --flush back "$(uri db)"
! nbdkit --foreground --unix "$T/second" "$PLUGIN" "$POOL" 2>err || fail "a pool that is served"
says "in use"
unserve

begin
! nbdinfo "nbd+unix:///?socket=$SOCKET" >out 2>&1 || fail "which of two?"
nbdinfo --list --json "nbd+unix://?socket=$SOCKET" >list
for name in db other; do
	grep -q "\"export-name\": \"$name\"" list || fail "no $name: $(cat list)"
done
! nbdinfo "$(uri none)" >out 2>&1 || fail "an export that is none"
nbdcopy "$(uri db@a)" back
cmp -n 20000000 data back || fail "the snapshot has other data"
client "$(uri db@a)" 'assert h.is_read_only()'
client "$(uri other)" '
try:
	for at in range(0, 32 << 20, 1 << 18):
		h.pwrite(bytes([at >> 18 | 1]) * (1 << 18), at)
	assert False, "it is never full"
except nbd.Error as e:
	assert e.errno == "ENOSPC", e
h.trim(32 << 20, 0)
h.pwrite(b"again" * 1000, 0)
h.flush()'
end KILL
wait_released "$POOL"
begin
[ "$(client "$(uri other)" 'print(h.pread(5, 4995).decode())')" = again ] || fail "what was flushed is gone"
end
check_clean "$POOL"
