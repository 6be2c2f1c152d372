#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# However much of a pool is damaged, check counts it all and lists the first thousand.
. "$(dirname "$0")/lib.sh"
needs nbdcopy
POOL=$T/pool

lcpfs create "$POOL" --size 64M --metaslab 1M
lcpfs add "$POOL" p --min 32M --max 32M --volume 12M >/dev/null
serve "$POOL"
head -c 12M /dev/urandom >data
nbdcopy data "nbd+unix:///p?socket=$SOCKET"
unserve
/usr/bin/python3 - "$POOL" data <<'PYTHON'
import sys

content = open(sys.argv[2], "rb").read()
blocks = {content[i : i + 4096] for i in range(0, len(content), 4096)}
with open(sys.argv[1], "r+b") as pool:
	while block := pool.read(4096):
		if block in blocks:
			pool.seek(-4096, 1)
			pool.write(bytes(4096))
PYTHON
lcpfs check "$POOL" --data >out 2>err && fail "the damage was not found"
[ "$(wc -l <out)" -eq 1001 ] || fail "$(wc -l <out) lines"
tail -1 out | grep -q "^and 2072 more$" || fail "$(tail -1 out)"
grep -q ": 3072 damaged places" err || fail "$(cat err)"
lcpfs check "$POOL" --data --json >out 2>/dev/null && fail "the damage was not found"
/usr/bin/python3 - <<'PYTHON'
import json

result = json.load(open("out"))
assert result["damaged"] == 3072 and len(result["findings"]) == 1000, len(result["findings"])
PYTHON
