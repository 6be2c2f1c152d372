#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A hot partition with 2 % spare beside a cold one with 60 %: tune observe moves nothing and says what would have
# moved; tune on, without any option, brings write amplification to within 1.5 × of the best split's.
. "$(dirname "$0")/../cli/lib.sh"
needs fio
fio --enghelp | grep -qw nbd || skip "fio without its nbd engine"
POOL=$T/pool

lcpfs create "$POOL" --size 384M --metaslab 1M
lcpfs add "$POOL" hot --space --min 64M --max 320M --size 134M --volume 112M >/dev/null
lcpfs add "$POOL" cold --space --min 64M --max 320M --size 224M --volume 88M >/dev/null
serve "$POOL" --tune observe
for name in hot:112m cold:88m; do
	fio --name=fill --ioengine=nbd --uri="$(uri "${name%:*}")" --rw=write --bs=1m --iodepth=4 \
		--size="${name#*:}" >fio.out 2>&1 || fail "filling: $(cat fio.out)"
done
# As small as it goes: what the store keeps back for its tables counts as spare, too.
least=$(field hot 'p["least_size_blocks"] * 4096')
small=$(field hot 'max(p["least_size_blocks"] * 4096, int(p["live_blocks"] * 4096 * 1.02))')
lcpfs resize "$POOL" hot "$small" --space >/dev/null
echo "hot can be as small as $least bytes"
fio --name=hot --ioengine=nbd --uri="$(uri hot)" --rw=randwrite --bs=4k --iodepth=8 --size=112m --time_based \
	--runtime=600 >fio.hot 2>&1 &
at_end "end_job $!"
fio --name=cold --ioengine=nbd --uri="$(uri cold)" --rw=randwrite --bs=4k --iodepth=1 --rate_iops=20 --size=88m \
	--time_based --runtime=600 >fio.cold 2>&1 &
at_end "end_job $!"

# wa_of BLOCKS: what hot wrote to the device per block written, over so many of these and 4 s at least.
wa_of() {
	field hot 'p["device_blocks"], p["written_blocks"]' >wa.first
	sleep 4
	tries=0
	until lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys
a = eval(open("wa.first").read())
hot = next(p for p in json.load(sys.stdin)["partitions"] if p["name"] == "hot")
b = hot["device_blocks"], hot["written_blocks"]
print(round((b[0] - a[0]) / max(1, b[1] - a[1]), 3))
sys.exit(b[1] - a[1] < int(sys.argv[1]))' "$1" >wa; do
		tries=$((tries + 1))
		[ "$tries" -lt 120 ] || fail "the client hardly writes: $(cat fio.hot)"
		sleep 0.5
	done
	cat wa
}

sizes() {
	lcpfs list "$POOL" --json | /usr/bin/python3 -c '
import json, sys
print(*((p["name"], p["size_blocks"]) for p in json.load(sys.stdin)["partitions"]))'
}

says_what_it_would_do() {
	lcpfs log "$POOL" >log.observe && grep -q "decision" log.observe
}

# All of hot's volume, about: less says little where the machine is busy with something else.
enough=28672
sizes >before
wait_until says_what_it_would_do
before=$(wa_of $enough)
sizes >after
cmp before after || fail "observe moved something: $(cat before after)"
lcpfs explain "$POOL" --json | grep -q '"action":"would_move"' || echo "now: $(lcpfs explain "$POOL" | head -1)"

# Some 20 s where it has the machine for itself.
lcpfs tune "$POOL" on >/dev/null
began=$(date +%s)
until after=$(wa_of $enough)
	best=$(lcpfs list "$POOL" --json | /usr/bin/python3 "$TESTS/nbd/best_wa.py" hot cold 20)
	echo "after $(($(date +%s) - began)) s: WA $after, best split's $best, $(sizes)"
	/usr/bin/python3 -c "exit(not $after <= 1.5 * $best)"; do
	[ "$(($(date +%s) - began))" -lt 300 ] || break
done
echo "WA of hot: $before watched, $after acting; best split's $best"
/usr/bin/python3 -c "exit(not $after <= 1.5 * $best)" || fail "$(lcpfs explain "$POOL"; lcpfs log "$POOL")"
/usr/bin/python3 -c "exit(not $before > 2 * $after)" || fail "it was hardly better than before: $before, $after"
# What came of each move is told in words, too.
lcpfs log "$POOL" >log.words
! grep -q epsilon log.words || fail "epsilon: $(cat log.words)"
grep " outcome " log.words >outcomes || fail "no outcome: $(cat log.words)"
number='[0-9][0-9.,]*'
joined='with the next move, '
! grep -v "not judged: \|: more was copied since than it saves$" outcomes | grep -v \
	": \($joined\)\?[a-z]*: clients wait $number % ± $number % [a-z]*, expected was $number % less$" ||
	fail "other words: $(cat outcomes)"
unserve
check_clean "$POOL"
