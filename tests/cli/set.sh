#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a partition was given can be changed, without a server and with one: limits, volume, name, what happens when
# it is full. What is refused changes nothing, and a dry run says the same and does nothing.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M --size 32M >/dev/null
lcpfs add "$POOL" other --min 16M --max 64M >/dev/null
# It ends with a block that is not whole.
cat >client.py <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
at, what = int(sys.argv[3]), sys.argv[2]
if what == "write":
	h.pwrite(b"x" * 1000, at, nbd.CMD_FLAG_FUA)
elif what == "zero":
	assert h.pread(h.get_size() - at, at).strip(b"\0") == b"", at
elif what == "trim":
	h.trim(h.get_size() - at, at, nbd.CMD_FLAG_FUA)
else:
	h.pread(1000, at)
	print("held", flush=True)
	sys.stdin.readline()
PYTHON
at() {
	/usr/bin/python3 client.py "$(uri "$1")" "$2" "$3"
}

facts() {
	lcpfs get "$POOL" -Hp id thin space min-space max-space volume when-full
}

# same COMMAND...: by a dry run and then for good, or refused by both, with the same words.
same() {
	wanted=$1
	shift
	facts >before
	expect "$wanted" lcpfs set "$POOL" "$@" --dry-run
	cp out dry.out
	cp err dry.err
	facts >after
	cmp before after || fail "a dry run changed something: $*"
	expect "$wanted" lcpfs set "$POOL" "$@"
	cmp err dry.err || fail "the dry run of $* says something else"
	[ "$wanted" -ne 0 ] || [ "$(sed 's/^would be: //' dry.out)" = "$(cat out)" ] ||
		fail "the dry run of $*: $(cat dry.out) but $(cat out)"
	[ "$wanted" -eq 0 ] || { facts >after && cmp before after; } || fail "refused, and changed: $*"
}

journey() { # with a server or without
	id=$(field db 'p["id"]')
	same 0 db max=100M volume=100M
	[ "$(field db 'p["max_data_blocks"], p["volume_bytes"]')" = "(25600, 104857600)" ] || fail "max, volume"
	same 0 db max=80M volume=50000001
	[ "$(field db 'p["volume_bytes"]')" -eq 50000001 ] || fail "not to the byte"
	same 0 db min=40M
	[ "$(field db 'p["size_data_blocks"]')" -ge 10240 ] || fail "it did not grow to its min"
	same 0 db min=8M max=24M volume=24M # smaller than it is
	[ "$(field db 'p["size_blocks"] == p["max_size_blocks"]')" = True ] || fail "it did not shrink to its max"
	expect 2 lcpfs set "$POOL" db size=30M
	same 0 db min=30M max=60M volume=60M when-full=wait=2m
	[ "$(field db 'p["when_full_wait_s"]')" -eq 120 ] || fail "when-full"
	same 0 db when-full=wait=2h when-full=error
	[ "$(field db 'p["when_full_wait_s"]')" -eq 0 ] || fail "when-full=error"
	same 1 db volume=61M
	says "--thin"
	same 0 db volume=200M --thin
	[ "$(field db 'p["thin"]')" = True ] || fail "thin"
	same 0 db max=70M # less thin needs no word, more does
	same 1 db max=60M
	says "--thin"
	same 0 db max=64M volume=64M min=16M
	same 1 db min=65M
	same 1 db min=300M max=300M
	says "add up to more than the pool"
	same 1 db max=8M
	same 0 db snapshots=weekly:255,hourly:24
	[ "$(field db 'p["schedule"]')" = hourly:24,weekly:255 ] || fail "schedule"
	[ "$(lcpfs get "$POOL" db -Hp snapshots | cut -f 3)" = hourly:24,weekly:255 ] || fail "get"
	same 0 db snapshots=off
	[ "$(field db 'p["schedule"]')" = off ] || fail "schedule"
	same 0 db name=data
	same 0 data name=db # nothing of it is left
	same 1 db name=other
	says "exists already"
	same 1 db name=../x
	same 1 nobody max=1G
	same 0 db name=db
	[ "$(field db 'p["id"]')" -eq "$id" ] || fail "another id"
	for wrong in min max= max=0 max=x =1 size=1M x=y when-full= when-full=wait when-full=wait=0s \
		when-full=wait=2d snapshots= snapshots=hourly snapshots=hourly:0 snapshots=hourly:256 \
		snapshots=hourly:1,hourly:2 snapshots=yearly:1 snapshots=daily:1, snapshots=daily:1x; do
		expect 2 lcpfs set "$POOL" db "$wrong"
	done
	expect 2 lcpfs set "$POOL" db
	lcpfs log "$POOL" | grep -q "changed  *db, once data" || fail "$(lcpfs log "$POOL")"
}
journey
check_clean "$POOL"

serve "$POOL"
journey
# Data beyond the new end.
at db write 60000000
same 1 db volume=50M
says "at byte 5[0-9]* "
same 1 db volume=60000001
says "at byte 60000001 "
same 0 db volume=60001000
same 0 db volume=64M
at db zero 60001000
at db trim 50000000
same 0 db volume=50M
same 0 db volume=64M
at db zero 50000000
# Not under a client's feet.
mkfifo go
/usr/bin/python3 client.py "$(uri db)" hold 0 <go >held &
exec 7>go
wait_until grep -q held held
same 1 db volume=50M
says "in use by 1 client"
same 1 db name=data
same 0 db max=90M volume=90M
exec 7>&-
wait $!
at db write 90000000
same 0 db name=data
at data zero 91000000
unserve
check_clean "$POOL"
serve "$POOL"
[ "$(nbdinfo --size "$(uri data)")" -eq $((90 << 20)) ] || fail "not kept"
unserve
