#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A chain of 200 increments, some from a snapshot and some from a bookmark, between two pools that are served: each
# snapshot over there has what the volume had, byte for byte. And a snapshot that is being sent stays, while its
# neighbours can go.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
HERE=$T/here
THERE=$T/there

cat >chain.py <<'PYTHON'
"""chain.py LCPFS HERE URI THERE URI"""
import random
import subprocess
import sys

import nbd

lcpfs, here, here_uri, there, there_uri = sys.argv[1:]
BLOCK, STEPS = 4096, 200
chance = random.Random(5)


def connected(uri):
	h = nbd.NBD()
	h.connect_uri(uri)
	return h


def do(*command, **how):
	return subprocess.run([lcpfs, *command], check=True, stdout=subprocess.PIPE, **how).stdout


def content(name):
	h = connected(there_uri.replace("/v?", f"/{name}?"))
	read = b"".join(h.pread(1 << 20, at) for at in range(0, h.get_size(), 1 << 20))
	h.shutdown()
	return read


v = connected(here_uri)
model = bytearray(v.get_size())
blocks = len(model) // BLOCK
held = {}
for step in range(STEPS):
	for _ in range(chance.choice([0, 1, 5, 40])):
		at, count = chance.randrange(blocks - 16) * BLOCK, chance.choice([1, 1, 3, 16]) * BLOCK
		new = chance.choice([chance.randbytes(count), bytes(count)])
		if any(new) or chance.random() < 0.5:
			v.pwrite(new, at)
		else:
			v.trim(count, at)
		model[at:at + count] = new
	v.flush()
	do("snapshot", here, f"v@{step}")
	base = []
	if step:
		base = ["--from", f"#{step - 1}" if step % 3 == 0 else f"{step - 1}"]
	do("receive", there, "v", input=do("send", here, f"v@{step}", *base))
	held[step] = bytes(model)
	do("bookmark", here, f"v@{step}", f"{step}")
	if step % 3 == 2:
		do("destroy", here, f"v@{step}")
	if step > 4:
		do("destroy", here, f"v#{step - 4}")
for step, wanted in held.items():
	assert content(f"v@{step}") == wanted, f"increment {step} has brought something else"
assert content("v") == held[STEPS - 1]
PYTHON

for pool in "$HERE" "$THERE"; do
	lcpfs create "$pool" --size 96M --metaslab 1M >/dev/null
	lcpfs add "$pool" v --min 24M --max 64M --size 64M --volume 4M >/dev/null
done
serve "$HERE"
: >there.out
"$LCPFS" serve "$THERE" --socket "$T/there.sock" >there.out 2>&1 &
other=$!
at_end "kill $other 2>/dev/null; wait $other 2>/dev/null"
for _ in $(seq 100); do
	! grep -q serving there.out || break
	sleep 0.1
done
/usr/bin/python3 chain.py "$LCPFS" "$HERE" "$(uri v)" "$THERE" "nbd+unix:///v?socket=$T/there.sock" ||
	fail "the chain ends"

# Nobody takes what is sent for a while: it is more than a pipe holds.
mkfifo slow
lcpfs send "$HERE" v@198 >slow &
sending=$!
exec 7<slow
head -c 1000 <&7 >stream
expect 1 lcpfs destroy "$HERE" v@198
says "snapshot v@198 is in use by 1 client"
expect 0 lcpfs destroy "$HERE" v@196 v@199
cat <&7 >>stream
exec 7<&-
wait "$sending" || fail "send: $?"
lcpfs destroy "$HERE" v@198 >/dev/null
lcpfs add "$HERE" w --min 8M --max 16M --volume 4M >/dev/null
lcpfs receive "$HERE" w <stream >/dev/null
nbdcopy "$(uri w)" w.img
nbdcopy "nbd+unix:///v@198?socket=$T/there.sock" wanted.img
cmp w.img wanted.img || fail "what was sent while its neighbours went is something else"
unserve
kill "$other"
wait "$other" || true
wait_released "$THERE"
expect 0 lcpfs check "$HERE" --data
expect 0 lcpfs check "$THERE" --data
