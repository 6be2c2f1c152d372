#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# iostat counts every operation of a client, once, with its latency; between two reports, only what came there.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 16M --volume 64M --thin >/dev/null
lcpfs add "$POOL" 2026 --min 16M --max 32M >/dev/null

# A pool that nobody serves has counters that begin now; watching it makes no sense.
expect 0 lcpfs iostat "$POOL"
grep -q '^db  *1[67].[0-9]M ' out || fail "$(cat out)"
grep -q '^TOTAL' out || fail "no total: $(cat out)"
expect 1 lcpfs iostat "$POOL" 1
says "is not served"
expect 1 lcpfs iostat "$T/none" 1
says "No such file"
expect 2 lcpfs iostat "$POOL" db 0
expect 2 lcpfs iostat "$POOL" db x
expect 2 lcpfs iostat "$POOL" db 1 0
expect 2 lcpfs iostat "$POOL" 1 1 1
expect 2 lcpfs iostat "$POOL" -y
expect 2 lcpfs iostat "$POOL" -z
expect 1 lcpfs iostat "$POOL" none
says "no partition none"

serve "$POOL"
cat >client.py <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for _ in range(int(sys.argv[2])):
	h.pwrite(b"x" * 8192, 0)
	h.pread(4096, 0)
	h.pread(4096, 4096)
h.trim(65536, 0)
h.flush()
try:
	for at in range(0, 64 << 20, 1 << 18):
		h.pwrite(bytes([at >> 18 | 1]) * (1 << 18), at)
except nbd.Error as e:
	assert e.errno == "ENOSPC", e
h.shutdown()
PYTHON
lcpfs iostat "$POOL" db 3 2 --json >watched &
watcher=$!
wait_until test -s watched
/usr/bin/python3 client.py "$(uri db)" 100
wait "$watcher"
lcpfs iostat "$POOL" --json >once
/usr/bin/python3 - <<'PYTHON' || fail "$(cat watched once)"
import json

zero, between = [json.loads(line)["partitions"] for line in open("watched")]
everything = json.load(open("once"))["partitions"]
assert [p["name"] for p in everything] == ["db", "2026"], everything
assert len(zero) == len(between) == 1 and zero[0]["write"]["ops"] == 0
for p in between[0], everything[0]:
	assert p["read"]["ops"] == 200 and p["trim"]["ops"] == 1 and p["flush"]["ops"] >= 1, p
	assert 100 < p["write"]["ops"] < 400 and p["write"]["no_space"] == p["write"]["errors"] >= 1, p
	for kind in "read", "write", "trim", "flush":
		o = p[kind]
		assert sum(o["latency_ops"]) == o["ops"] and len(o["latency_us"]) == len(o["latency_ops"])
		assert o["p50_us"] <= o["p99_us"] <= o["p999_us"]
	o = p["read"]
	assert abs(o["ops_per_s"] * p["interval_s"] - 200) < 0.01, p
	assert abs(o["bytes_per_s"] * p["interval_s"] - 200 * 4096) < 1, p
	assert p["write_amplification"] >= 1
assert 2.9 < between[0]["interval_s"] < 10, between
assert everything[1]["read"]["ops"] == 0 and everything[1]["read"]["p50_us"] is None
PYTHON

# Forms: for people, for programs.
expect 0 lcpfs iostat "$POOL" -l
[ "$(wc -L <out)" -le 80 ] || fail "wider than 80 columns: $(cat out)"
grep -q '^NAME  *P50  *P99  *P99.9' out || fail "$(cat out)"
expect 0 lcpfs iostat "$POOL"
[ "$(wc -L <out)" -le 80 ] || fail "wider than 80 columns: $(cat out)"
expect 0 lcpfs iostat "$POOL" db -w
[ "$(awk 'NR > 1 { n += $2 } END { print n }' out)" = 200 ] || fail "reads in the histogram: $(cat out)"
expect 0 lcpfs iostat "$POOL" -Hp
[ "$(wc -l <out)" -eq 2 ] || fail "$(cat out)"
[ "$(head -n 1 out | cut -f 1)" = db ] || fail "$(cat out)"
[ "$(head -n 1 out | cut -f 2)" = "$(($(field db 'p["size_data_blocks"]') * 4096))" ] || fail "$(cat out)"
[ "$(head -n 1 out | tr '\t' '\n' | wc -l)" -eq 11 ] || fail "$(cat out)"
expect 0 lcpfs iostat "$POOL" 0.2 3 -T
[ "$(grep -c '^TOTAL' out)" -eq 3 ] || fail "not three reports: $(cat out)"
[ "$(grep -c '^NAME' out)" -eq 1 ] || fail "titles again and again: $(cat out)"
[ "$(grep -c '^20[0-9-]* [0-9:]* [+-]' out)" -eq 3 ] || fail "no times: $(cat out)"

# A server that comes back is again on, from zero.
"$LCPFS" iostat "$POOL" db 0.3 --json >again 2>err &
watcher=$!
wait_until test -s again
unserve
wait_until grep -q 'waiting for it' err
serve "$POOL"
seen=$(wc -l <again)
more() { [ "$(wc -l <again)" -gt "$1" ]; }
wait_until more $((seen + 2))
kill "$watcher"
wait "$watcher" || true
[ "$(wc -l <err)" -eq 1 ] || fail "said more than once: $(cat err)"
/usr/bin/python3 - <<'PYTHON' || fail "$(cat again)"
import json

for line in open("again"):
	p = json.loads(line)["partitions"][0]
	assert 0 < p["interval_s"] < 100, p
	assert all(p[kind]["ops"] < 1000 for kind in ("read", "write", "trim", "flush")), p
PYTHON
unserve
