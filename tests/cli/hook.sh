#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --hook runs a program with events; one that fails, hangs or is gone harms nobody. The journal gets the same.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool

lcpfs create "$POOL" --size 128M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 24M --volume 64M --thin >/dev/null
lcpfs add "$POOL" log --min 16M --max 32M >/dev/null
printf '#!/bin/sh\ncat >>"%s"\n' "$T/told" >hook
printf '#!/bin/sh\necho $$ >>"%s"\nsleep 100\n' "$T/hanging" >hanging-hook
chmod +x hook hanging-hook
touch told no-program

expect 2 lcpfs serve "$POOL" --socket "$SOCKET" --hook hook
says "from the root on"
expect 2 lcpfs serve "$POOL" --socket "$SOCKET" --hook "$T/none"
expect 2 lcpfs serve "$POOL" --socket "$SOCKET" --hook "$T/no-program"
for wrong in 0 9 101 x 50x; do
	expect 2 lcpfs serve "$POOL" --socket "$SOCKET" --hook "$T/hook" --alarm "$wrong"
done

cat >fill.py <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for _ in range(3):
	try:
		for at in range(0, 64 << 20, 1 << 18):
			h.pwrite(bytes([at >> 18 | 1]) * (1 << 18), at)
	except nbd.Error as e:
		assert e.errno == "ENOSPC", e
h.trim(64 << 20, 0)
h.flush()
h.shutdown()
PYTHON

serve "$POOL" --hook "$T/hook"
/usr/bin/python3 fill.py "$(uri db)"
told() { grep -q "\"event\":\"$1\".*\"partition\":\"$2\"" told; }
wait_until told no_space db
unserve
/usr/bin/python3 - <<'PYTHON' || fail "$(cat told)"
import json

events = [json.loads(line) for line in open("told")]
assert [e["event"] for e in events].count("no_space") == 1, "told again and again"
for e in events:
	assert e["pool"].endswith("/pool") and len(e["guid"]) == 16 and e["time_s"] > 1.6e9 and e["text"], e
	assert e["partition"] in ("db", ""), "the other partition is well"
PYTHON

# By the alarm level, once, until it was below.
: >told
lcpfs set "$POOL" alarm=60% >/dev/null
serve "$POOL" --hook "$T/hook"
told full db && fail "it is empty"
/usr/bin/python3 -c 'import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for at in range(0, 16 << 20, 1 << 18): h.pwrite(b"x" * (1 << 18), at)
h.flush()
time.sleep(2.5)' "$(uri db)"
wait_until told full db
unserve
[ "$(grep -c '"event":"full"' told)" -eq 1 ] || fail "told more than once: $(cat told)"

# One that hangs holds up neither clients nor the end; one that is gone is told of.
cp hook gone-hook
serve "$POOL" --hook "$T/hanging-hook"
/usr/bin/python3 fill.py "$(uri db)"
wait_until test -s hanging
before=$(date +%s)
unserve
[ $(($(date +%s) - before)) -lt 60 ] || fail "the end was held up"
while read -r pid; do
	! kill -0 "$pid" 2>/dev/null || fail "the program was left"
done <hanging
serve "$POOL" --hook "$T/gone-hook"
rm gone-hook
/usr/bin/python3 fill.py "$(uri db)"
wait_until grep -q "hook: $T/gone-hook: No such file" server.log
unserve

# The journal: each event a datagram of fields.
/usr/bin/python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("journal")
open("listening", "w").close()
s.settimeout(30)
while True:
	with open("journalled", "ab") as f: f.write(s.recv(65536))' &
at_end "end_job $!"
wait_until test -e listening
JOURNAL_STREAM=1:1 LCPFS_JOURNAL_SOCKET=$T/journal serve "$POOL"
/usr/bin/python3 fill.py "$(uri db)"
wait_until grep -qs '^LCPFS_EVENT=no_space$' journalled
for line in PRIORITY=3 LCPFS_PARTITION=db "LCPFS_POOL=$POOL" SYSLOG_IDENTIFIER=lcpfs; do
	grep -qx "$line" journalled || fail "no $line: $(cat journalled)"
done
unserve
