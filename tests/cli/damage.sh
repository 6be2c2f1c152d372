#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Damage that cannot be repaired: check and scrub name the partition, and status knows of it until a later scrub
# finds none, whoever opens the pool.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

# write NAME BYTE: 64 blocks of that, into blocks that name themselves.
write() {
	/usr/bin/python3 - "$(uri "$1")" "$2" <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for block in range(64):
	h.pwrite(f"{sys.argv[2]} block {block} ".encode().ljust(4096, b"."), block * 4096)
h.flush()
PYTHON
}

lcpfs create "$POOL" --size 128M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 32M >/dev/null
lcpfs add "$POOL" log --min 16M --max 32M >/dev/null
lcpfs status "$POOL" | grep -q "^scrub  *never$" || fail "$(lcpfs status "$POOL")"
serve "$POOL"
write db old
write log old
unserve
expect 0 lcpfs scrub "$POOL"
lcpfs status "$POOL" >out
grep -q "^scrub  *20[0-9-]* [0-9:]* [+-][0-9]*: no damage$" out || fail "$(cat out)"

/usr/bin/python3 - "$POOL" <<'PYTHON'
import sys

pool = bytearray(open(sys.argv[1], "rb").read())
at = pool.rindex(b"old block 7 ")  # log's: it was written last
pool[at + 1000] ^= 1
open(sys.argv[1], "wb").write(pool)
PYTHON
expect 1 lcpfs check "$POOL" --data
grep -q "^log: block 7 cannot be read" out || fail "check does not name the partition: $(cat out)"
says "1 damaged place;"
# A copy of a record's header can be repaired; that does not make the rest good.
cp "$POOL" both
/usr/bin/python3 - both <<'PYTHON'
import sys

pool = bytearray(open(sys.argv[1], "rb").read())
at = pool.rindex(b"old block 7 ")
while pool[at:at + 4] != b"lpfs" or pool[at:at + 4096] != pool[at + 4096:at + 8192]:
	at -= 4096
pool[at + 2000] ^= 1
open(sys.argv[1], "wb").write(pool)
PYTHON
expect 1 lcpfs scrub both
says "1 damaged place cannot be repaired"
grep -q "2 damaged.* 1 .*repaired" out err || fail "$(cat out err)"
expect 1 lcpfs scrub "$POOL"
grep -q "^log: block 7 cannot be read" out || fail "scrub does not name the partition: $(cat out)"
says "1 damaged place cannot be repaired"

damaged() {
	lcpfs status "$POOL" >out
	grep -q "^health  *DEGRADED: the last scrub could not repair 1 damaged place" out || fail "$1: $(cat out)"
	grep -q "^scrub  *20.*: 1 damaged, 0 of them repaired$" out || fail "$1: $(cat out)"
}
damaged "unserved"
lcpfs log "$POOL" >out
grep -q "  damage  *log: block 7 cannot be read" out || fail "the log does not name the partition: $(cat out)"
grep -q "  scrub  *.* verified, 1 damaged, 0 repaired$" out || fail "the log lacks the scrub: $(cat out)"
serve "$POOL"
damaged "served"
/usr/bin/python3 - "$(uri log)" <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
try:
	h.pread(4096, 7 * 4096)
	sys.exit("damaged data were read")
except nbd.Error:
	pass
PYTHON
lcpfs log "$POOL" >out
grep -q "  damage  *log: a read at byte 28672 of its volume failed" out || fail "$(cat out)"
write log new
expect 0 lcpfs scrub "$POOL"
unserve
lcpfs status "$POOL" >out
grep -q "^health  *ONLINE$" out && grep -q "^scrub  *20.*: no damage$" out || fail "$(cat out)"
check_clean "$POOL"
