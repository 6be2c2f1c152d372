#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# get shows all properties with their sources, says the same with a server and without, and in JSON; what set
# takes, get shows by the same name.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool
TAB=$(printf '\t')

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
lcpfs add "$POOL" small --min 8M --max 16M --volume 20000001 --thin --when-full wait=90s >/dev/null

# is WANTED ARGUMENTS...: what a script gets, lines separated by commas.
is() {
	says=$1
	shift
	expect 0 lcpfs get "$POOL" "$@"
	[ "$(tr '\n\t' ', ' <out)" = "$says," ] || fail "get $*: $(cat out)"
}

journey() {
	# Values and sources.
	is "db min 16777216 given" -Hp db min
	is "db min 16.0M given" -H db min
	is "db max 67108864 given,db volume 67108864 default,db thin off default" -Hp db max volume thin
	is "db name db given" -Hp db name
	is "db when-full error default" -Hp db when-full
	is "small when-full wait=90s given" -Hp small when-full
	is "small volume 20000001 given,small thin on given" -Hp small volume,thin
	from="inherited from the pool"
	is "- tune observe default,db tune observe $from,small tune observe $from" -Hp tune
	is "1048576,1048576,1048576" -Hp -o value metaslab
	is "given db" -H -o source,partition db min
	is "- last-scrub never -" -H last-scrub
	is "db thin off default,small thin on given" -H thin
	# A partition that is called as a property is a partition first.
	lcpfs set "$POOL" small name=tune >/dev/null
	is "tune id 2 -" -H tune id
	is "2" -Ho value tune id
	lcpfs set "$POOL" tune name=small >/dev/null

	# All of them: for people, for scripts and in JSON the same ones, each once.
	expect 0 lcpfs get "$POOL"
	sed -n 1p out | grep -q '^PARTITION PROPERTY  *VALUE  *SOURCE *$' || fail "$(cat out)"
	[ "$(awk '{ print length($0) }' out | sort -n | tail -1)" -le 80 ] || fail "wider than 80: $(cat out)"
	sed 1d out | awk '{ print $1, $2 }' >people
	expect 0 lcpfs get "$POOL" -H
	cut -f 1,2 out | tr "$TAB" ' ' >scripts
	expect 0 lcpfs get "$POOL" --json
	/usr/bin/python3 -c '
import json, sys
r = json.load(sys.stdin)
for name, o in [("-", r["pool"])] + [(p["name"], p) for p in r["partitions"]]:
	for key in o["properties"]: print(name, key)' <out >json
	cmp people scripts && cmp scripts json || fail "not the same properties"
	[ "$(wc -l <json)" -gt 40 ] && [ "$(sort -u json | wc -l)" -eq "$(wc -l <json)" ] || fail "$(cat json)"
	expect 0 lcpfs get "$POOL" db all
	[ "$(sed 1d out | awk '{ print $1, $2 }')" = "$(grep '^db ' people)" ] || fail "all: $(cat out)"
	expect 0 lcpfs get "$POOL" db --json
	! grep -q '"pool"' out || fail "$(cat out)"

	# As list has them.
	for pair in "size 4096*p['size_data_blocks']" "live 4096*p['live_blocks']" "space 4096*p['size_blocks']" \
		"data 4096*p['data_blocks']" "least-space 4096*p['least_size_blocks']" "id p['id']" \
		"min-space 4096*p['min_size_blocks']" "max-space 4096*p['max_size_blocks']"; do
		is "$(field db "${pair#* }")" -Hpo value db "${pair%% *}"
	done

	expect 2 lcpfs get "$POOL" db frobnicate
	says "no property frobnicate"
	expect 2 lcpfs get "$POOL" db min,
	expect 2 lcpfs get "$POOL" db -o value,height
	expect 1 lcpfs get "$POOL" nobody
	says "no partition nobody"
	expect 1 lcpfs get "$POOL" nobody min
	expect 1 lcpfs get "$POOL" db guid
	says "of the pool"
	expect 1 lcpfs get "$T/none"
}
journey
cp "$POOL" before
expect 0 lcpfs get "$POOL"
cmp "$POOL" before || fail "asking changed the pool"
expect 0 lcpfs get "$POOL" --json
cp out unserved
serve "$POOL"
expect 0 lcpfs get "$POOL" --json
[ "$(cat out)" = "$(cat unserved)" ] ||
	fail "served: $(cat out) but $(cat unserved)"
is "db cache 256M $from,db alarm 90% $from" -H db cache alarm
journey
lcpfs tune "$POOL" on >/dev/null
is "- tune on given,db tune on $from,small tune on $from" -H tune

# What set says can be set is there.
lcpfs set "$POOL" db frobnicate=1 2>&1 | grep -o '[a-z-]*=' | tr -d = | sort -u |
	grep -v 'frobnicate\|wait' >settable
[ "$(wc -l <settable)" -ge 5 ] || fail "$(cat settable)"
while read -r key; do
	expect 0 lcpfs get "$POOL" db "$key" </dev/null
done <settable
unserve
check_clean "$POOL"
expect 0 lcpfs set "$POOL" tune=off --dry-run
[ "$(cat out)" = "would be: off" ] || fail "$(cat out)"
is on -Hpo value db tune
expect 0 lcpfs set "$POOL" tune=observe
is observe -Hpo value db tune
expect 2 lcpfs set "$POOL" tune=x
expect 2 lcpfs set "$POOL" max=20M
for wrong in cache=x cache=0 alarm=9 alarm=101 alarm= alarm=9x tune=on,cache=1M; do
	expect 2 lcpfs set "$POOL" "$wrong"
done
expect 2 lcpfs set "$POOL" db
serve "$POOL" --cache 64M --alarm 80
is "db cache 67108864 $from,db alarm 80 $from" -Hp db cache alarm
lcpfs get "$POOL" -H cache alarm | tr '\t\n' ' ,' >out
grep -q '^- cache 64.0M given,- alarm 80% given,db ' out || fail "$(cat out)"
expect 0 lcpfs set "$POOL" tune=on
is "on" -Ho value db tune

# What the pool keeps holds where the server was told nothing else.
expect 0 lcpfs set "$POOL" cache=32M alarm=70 --dry-run
[ "$(cat out)" = "would be: tune on, cache 32.0M, alarm 70%" ] || fail "$(cat out)"
expect 0 lcpfs set "$POOL" cache=32M tune=off
[ "$(cat out)" = "tune off, cache 32.0M, alarm 90%" ] || fail "$(cat out)"
expect 0 lcpfs set "$POOL" alarm=70% --json
grep -qx '{"mode":"off","cache_bytes":33554432,"alarm_percent":70,"dry_run":false}' out || fail "$(cat out)"
is "db cache 67108864 $from,db alarm 80 $from" -Hp db cache alarm
unserve
lcpfs get "$POOL" -H tune cache alarm | grep '^-' | tr '\t\n' ' ,' >out
[ "$(cat out)" = "- tune off given,- cache 32.0M given,- alarm 70% given," ] || fail "$(cat out)"
serve "$POOL"
is "db cache 33554432 $from,db alarm 70 $from" -Hp db cache alarm
expect 0 lcpfs set "$POOL" cache=default alarm=default
is "db cache 268435456 $from,db alarm 90 $from" -Hp db cache alarm
lcpfs get "$POOL" -H cache alarm | grep -q '^-.alarm.90%.default' || fail "no default"

# All stand in the documents.
lcpfs get "$POOL" -Ho property | sort -u >names
while read -r name; do
	grep -q "\`$name\`" "$TESTS/../docs/control.md" || fail "docs/control.md does not have $name"
	grep -q "\*$name\*" "$TESTS/../man/lcpfs-get.1.scd" || fail "its page does not have $name"
done <names
unserve
