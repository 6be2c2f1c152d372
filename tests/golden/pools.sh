#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pools that earlier versions wrote: every later one has to open them, with all that they hold. NAME.img.gz is a
# pool, NAME.PARTITION its content as content.py has it, NAME.PARTITION@SNAPSHOT that of a snapshot, NAME.copy and
# NAME.branch those of clones, NAME.json and NAME.bookmarks what list said of partitions and bookmarks.
#
# `pools.sh make NAME` writes a new one beside the others. Its server is stopped; where the name begins with
# "killed" it is killed. None is ever written anew: that one would not be an earlier version's any more.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd, xxhash' 2>/dev/null || skip "no python3-libnbd or python3-xxhash"
HERE=$TESTS/golden
DECODE=$TESTS/../tools/decode.py
POOL=$T/pool

content() {
	/usr/bin/python3 "$HERE/content.py" "$@"
}

# What a person has set, and what is there.
properties() {
	lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys
for p in json.load(sys.stdin)["partitions"]:
	keys = "name id thin size_blocks min_size_blocks max_size_blocks volume_bytes when_full_wait_s data_blocks"
	print(json.dumps({key: p[key] for key in keys.split()}))'
}

bookmarks() {
	lcpfs list "$POOL" --bookmarks --json | /usr/bin/python3 -c '
import json, sys
for n in json.load(sys.stdin)["bookmarks"]:
	print(n["name"], n["created_s"], n["guid"])'
}

snapshot() {
	lcpfs snapshot "$POOL" "$2" >/dev/null
	cp "$1.${2%@*}" "$1.$2"
}

# Three heads and one, volumes of three levels and of one, ids that came free, moved boundaries, a pool that grew;
# snapshots, one that was destroyed and one that was rolled back to; clones, one that was destroyed; snapshots and
# bookmarks of a clone, and a clone of such a snapshot.
make() {
	lcpfs create "$POOL" --size 60M --metaslab 1M >/dev/null
	lcpfs add "$POOL" db --min 2M --max 30M --size 18M --volume 1000M --thin --when-full wait=1m >/dev/null
	lcpfs add "$POOL" gone --min 1M --max 4M >/dev/null
	lcpfs add "$POOL" small --min 1M --max 4M >/dev/null
	for round in 1 2 3; do
		serve "$POOL"
		content write "$(uri db)" "$round" "$1.db"
		content write "$(uri small)" "$round$round" "$1.small"
		case $round in
		1)
			lcpfs remove "$POOL" gone --force >/dev/null
			snapshot "$1" db@first
			snapshot "$1" small@one
			;;
		2)
			lcpfs grow "$POOL" --size 64M >/dev/null
			lcpfs resize "$POOL" db 20M >/dev/null
			snapshot "$1" db@second
			snapshot "$1" db@third
			lcpfs rollback "$POOL" small@one >/dev/null
			cp "$1.small@one" "$1.small"
			lcpfs clone "$POOL" db@first copy >/dev/null
			cp "$1.db@first" "$1.copy"
			content write "$(uri copy)" 52 "$1.copy"
			snapshot "$1" copy@mine
			lcpfs bookmark "$POOL" copy@mine mark >/dev/null
			lcpfs bookmark "$POOL" db@second since >/dev/null
			lcpfs clone "$POOL" copy@mine branch >/dev/null
			cp "$1.copy@mine" "$1.branch"
			content write "$(uri branch)" 56 "$1.branch"
			content write "$(uri copy)" 57 "$1.copy"
			snapshot "$1" copy@gone
			;;
		3)
			lcpfs resize "$POOL" db 17M >/dev/null
			lcpfs tune "$POOL" on >/dev/null
			lcpfs destroy "$POOL" db@second >/dev/null
			rm "$1.db@second"
			content write "$(uri copy)" 53 "$1.copy"
			lcpfs clone "$POOL" db@third other >/dev/null
			content write "$(uri other)" 54 "$T/other"
			lcpfs destroy "$POOL" other >/dev/null
			snapshot "$1" copy@later
			content write "$(uri copy)" 58 "$1.copy"
			lcpfs destroy "$POOL" copy@gone >/dev/null
			rm "$1.copy@gone"
			;;
		esac
		content write "$(uri db)" "4$round" "$1.db"
		properties >"$1.json"
		bookmarks >"$1.bookmarks"
		case $round$1 in 3*/killed*) unserve KILL ;; *) unserve TERM ;; esac
	done
	gzip -9nc "$POOL" >"$1.img.gz"
}

if [ "${1-}" = make ]; then
	[ ! -e "$HERE/$2.img.gz" ] || fail "there is a $2"
	make "$HERE/$2"
	ls -l "$HERE/$2".*
	exit 0
fi
# What it has: partitions, snapshots of them, and clones.
volumes() {
	for content in "$HERE/$name".*; do
		case $content in *.json | *.bookmarks | *.img.gz) ;; *) echo "${content#"$HERE/$name".}" ;; esac
	done
}

cat >unsaid.py <<'PYTHON'
"""Takes a bit of a partition's features away. unsaid.py DECODE POOL PARTITION BIT"""
import importlib.util
import os
import struct
import sys

import xxhash

spec = importlib.util.spec_from_file_location("decode", sys.argv[1])
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
pool = decoder.Pool(sys.argv[2])
label = pool.label
page = label.map_pages + next(p.slot for p in pool.partitions if p.name == sys.argv[3])
data = bytearray(pool.pages[page])
features, = struct.unpack_from("<Q", data, 192)
assert features & int(sys.argv[4]), features
struct.pack_into("<Q", data, 192, features & ~int(sys.argv[4]))
data[24:32] = bytes(8)
data[24:32] = struct.pack("<Q", xxhash.xxh3_64_intdigest(bytes(data)))
file = os.open(sys.argv[2], os.O_WRONLY)
for copy in range(2):
	os.pwrite(file, data, 4096 * label.page_block(copy, page, pool.uberblock.slot(page)))
PYTHON

# A pool with snapshots, clones, bookmarks, or snapshots of clones, whose partition does not say so, is damaged.
for bit in 1 4 8 32; do
	gzip -dc "$HERE/closed-4.img.gz" >"$POOL"
	/usr/bin/python3 unsaid.py "$DECODE" "$POOL" db $bit
	expect 1 lcpfs check "$POOL"
	grep -q "page does not say so" out || fail "bit $bit: $(cat out)"
	! "$DECODE" "$POOL" >out || fail "the decoder is content without bit $bit"
	grep -q "page does not say so" out || fail "bit $bit: $(cat out)"
done

for image in "$HERE"/*.img.gz; do
	name=$(basename "$image" .img.gz)
	gzip -dc "$image" >"$POOL"
	expect 0 lcpfs check "$POOL" --data
	properties >now
	cmp now "$HERE/$name.json" || fail "$name: other properties: $(cat now)"
	if [ -e "$HERE/$name.bookmarks" ]; then
		bookmarks >now
		cmp now "$HERE/$name.bookmarks" || fail "$name: other bookmarks: $(cat now)"
	fi
	for volume in $(volumes); do
		"$DECODE" "$POOL" --totals --extract "$volume" volume >out || fail "$name: damage: $(cat out)"
		content file volume "$HERE/$name.$volume" || fail "$name: the decoder reads something else of $volume"
	done
	serve "$POOL"
	for volume in $(volumes); do
		content served "$(uri "$volume")" "$HERE/$name.$volume" || fail "$name: $volume"
	done
	for partition in db small; do
		cp "$HERE/$name.$partition" "now.$partition"
		content write "$(uri $partition)" 99 "now.$partition"
		content served "$(uri $partition)" "now.$partition" || fail "$name: $partition, written to"
	done
	for clone in copy branch; do
		[ -e "$HERE/$name.$clone" ] || continue
		cp "$HERE/$name.$clone" "now.$clone"
		content write "$(uri $clone)" 98 "now.$clone"
		content served "$(uri $clone)" "now.$clone" || fail "$name: $clone, written to"
	done
	for volume in $(volumes | grep @ || true); do
		content served "$(uri "$volume")" "$HERE/$name.$volume" || fail "$name: $volume, after writing"
	done
	unserve
	check_clean "$POOL"
done
