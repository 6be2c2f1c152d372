#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Pools that earlier versions wrote: every later one has to open them, with all that they hold. NAME.img.gz is a
# pool, NAME.PARTITION its content as content.py has it, NAME.PARTITION@SNAPSHOT that of a snapshot, NAME.copy that
# of a clone, NAME.json what list said of each partition.
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

snapshot() {
	lcpfs snapshot "$POOL" "$2" >/dev/null
	cp "$1.${2%@*}" "$1.$2"
}

# Three heads and one, volumes of three levels and of one, ids that came free, moved boundaries, a pool that grew;
# snapshots, one that was destroyed and one that was rolled back to; clones, one that was destroyed.
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
			;;
		esac
		content write "$(uri db)" "4$round" "$1.db"
		properties >"$1.json"
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
		case $content in *.json | *.img.gz) ;; *) echo "${content#"$HERE/$name".}" ;; esac
	done
}

for image in "$HERE"/*.img.gz; do
	name=$(basename "$image" .img.gz)
	gzip -dc "$image" >"$POOL"
	expect 0 lcpfs check "$POOL" --data
	properties >now
	cmp now "$HERE/$name.json" || fail "$name: other properties: $(cat now)"
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
	if [ -e "$HERE/$name.copy" ]; then
		cp "$HERE/$name.copy" now.copy
		content write "$(uri copy)" 98 now.copy
		content served "$(uri copy)" now.copy || fail "$name: copy, written to"
	fi
	for volume in $(volumes | grep @ || true); do
		content served "$(uri "$volume")" "$HERE/$name.$volume" || fail "$name: $volume, after writing"
	done
	unserve
	check_clean "$POOL"
done
