#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Metrics: in both formats, each parsed by somebody else's parser, with the names that docs/metrics.md promises;
# from the command, in a file that is replaced as a whole, and over HTTP.
. "$(dirname "$0")/lib.sh"
needs curl
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 32M >/dev/null
lcpfs add "$POOL" log.1 --min 16M --max 16M >/dev/null
expect 0 lcpfs metrics "$POOL"
cp out unserved

sed -n 's/^# TYPE \(lcpfs_[a-z_0-9]*\) .*/\1/p' out | sort >names
sed -n 's/^| `\(lcpfs_[a-z_0-9]*\)` .*/\1/p' "$TESTS/../docs/metrics.md" | sort >promised
diff promised names >difference || fail "names differ from docs/metrics.md: $(cat difference)"
[ "$(wc -l <names)" -gt 30 ] || fail "$(cat names)"
grep -q '^lcpfs_partition_pressure{pool="[0-9a-f]*",partition="log.1"} +Inf$' out || fail "pressure at max"
grep -q "^lcpfs_pool_info{.*path=\"$POOL\"} 1$" out || fail "no path"
if command -v promtool >/dev/null; then
	promtool check metrics <out >complaints 2>&1 || fail "promtool: $(cat complaints)"
	[ ! -s complaints ] || fail "promtool: $(cat complaints)"
fi

expect 2 lcpfs metrics
expect 1 lcpfs metrics "$POOL" --format xml
says "prometheus or openmetrics"
expect 1 lcpfs metrics "$POOL" --output "$T/no/such/file"
expect 0 lcpfs metrics "$POOL" --output "$T/file.prom"
[ ! -s out ] || fail "$(cat out)"
[ "$(stat -c %a file.prom)" = 644 ] || fail "others cannot read it"
[ "$(wc -l <file.prom)" -eq "$(wc -l <unserved)" ] || fail "cut off"
# One that does not fit leaves the old one as it was.
cp file.prom whole
(ulimit -f 1 && lcpfs metrics "$POOL" --output "$T/file.prom") 2>err && fail "a part of a file is no file"
cmp whole file.prom || fail "the old file is gone: $(ls -l)"
[ "$(ls)" = "$(ls | grep -v 'prom\..')" ] || fail "something was left: $(ls)"

PORT=$(/usr/bin/python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
for wrong in 0 65536 "$PORT"x :"$PORT" 1.2.3:"$PORT" name:"$PORT" "[::1:$PORT"; do
	expect 2 lcpfs serve "$POOL" --socket "$SOCKET" --metrics "$wrong"
done
serve "$POOL" --metrics "$PORT"
curl -sSf "http://127.0.0.1:$PORT/metrics" >prometheus
sed -n 's/^# TYPE \([a-z_0-9]*\) .*/\1/p' prometheus | sort | cmp -s - names || fail "other names over HTTP"
curl -sSfI "http://127.0.0.1:$PORT/metrics" | grep -qi '^Content-Type: text/plain; version=0.0.4' || fail "type"
curl -sSf -D head -H 'Accept: application/openmetrics-text;version=1.0.0' "http://127.0.0.1:$PORT/metrics" >open
grep -qi '^Content-Type: application/openmetrics-text; version=1.0.0' head || fail "type: $(cat head)"
[ "$(tail -n 1 open)" = "# EOF" ] || fail "no end"
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/other")" = 404 ] || fail "other paths"
[ "$(curl -s -o /dev/null -w '%{http_code}' -d x "http://127.0.0.1:$PORT/metrics")" = 405 ] || fail "POST"
# What cannot listen does not start at all, and leaves the pool to others.
expect 1 lcpfs serve "$POOL.other" --socket "$T/other" --metrics "$PORT"
lcpfs create "$POOL.other" --size 64M >/dev/null
expect 1 lcpfs serve "$POOL.other" --socket "$T/other" --metrics "$PORT"
says "Address already in use"
check_clean "$POOL.other"

expect 0 lcpfs metrics "$POOL" --format openmetrics
cp out open.command
if /usr/bin/python3 -c 'import prometheus_client' 2>/dev/null; then
	/usr/bin/python3 - <<'PYTHON' || fail "parsers disagree"
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus


def samples(parse, name):
	return {(s.name, tuple(sorted(s.labels.items()))) for f in parse(open(name).read()) for s in f.samples}


assert samples(openmetrics, "open") == samples(openmetrics, "open.command") == samples(prometheus, "prometheus")
assert len(samples(openmetrics, "open")) > 200
PYTHON
fi

# Operations are counted, each once.
/usr/bin/python3 -c 'import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(7): h.pwrite(b"x" * 4096, 4096 * i)
h.shutdown()' "$(uri db)"
curl -sSf "http://127.0.0.1:$PORT/metrics" >prometheus
for line in 'lcpfs_partition_latency_seconds_count{.*partition="db",operation="write"} 7' \
	'lcpfs_partition_latency_seconds_bucket{.*partition="db",operation="write",le="+Inf"} 7' \
	'lcpfs_partition_operation_bytes_total{.*partition="db",operation="write"} 28672' \
	'lcpfs_partition_operation_errors_total{.*partition="db",operation="write"} 0'; do
	grep -q "^$line\$" prometheus || fail "not there: $line: $(grep _count prometheus)"
done
# The sum of latencies is in the unit of the buckets.
/usr/bin/python3 - <<'PYTHON' || fail "the sum of latencies: $(grep latency_seconds prometheus)"
import re

text = open("prometheus").read()
of_writes = r'lcpfs_partition_latency_seconds_%s\{[^}]*partition="db",operation="write"%s\} (\S+)'
buckets = [(float(le), int(n)) for le, n in re.findall(of_writes % ("bucket", ',le="([0-9][^"]*)"'), text)]
least, most, below, before = 0, 0, 0, 0
for bound, count in buckets:
	least, most = least + (count - before) * below, most + (count - before) * bound
	below, before = bound, count
assert least <= float(re.search(of_writes % ("sum", ""), text)[1]) <= most and before == 7
PYTHON
# A client that says nothing holds up nobody, and not the end.
/usr/bin/python3 -c 'import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)' "$PORT" &
silent=$!
at_end "end_job $silent"
sleep 0.3
curl -sSf -m 40 "http://127.0.0.1:$PORT/metrics" >/dev/null
unserve
