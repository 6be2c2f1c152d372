#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SIGTERM makes everything durable that was acknowledged, flushed or not, also with clients still connected.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 64M >/dev/null
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON' &
import sys
import time

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(1024):
	h.pwrite(i.to_bytes(4, "little") * 4096, i * 16384)
open("written", "w").close()
time.sleep(600)
PYTHON
CLIENT=$!
at_end "end_job $CLIENT"
wait_until [ -e written ]
started=$(date +%s)
unserve TERM
[ $(($(date +%s) - started)) -lt 60 ] || fail "ending took long"
check_clean "$POOL"
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(1024):
	assert h.pread(16384, i * 16384) == i.to_bytes(4, "little") * 4096, i
PYTHON
unserve

# What could not be made durable is no success: here the system takes no writes any more.
command -v prlimit >/dev/null || exit 0
serve "$POOL"
/usr/bin/python3 - "$(uri db)" "$SERVER" <<'PYTHON'
import os
import signal
import subprocess
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"y" * 65536, 0)
subprocess.run(["prlimit", "--pid", sys.argv[2], "--fsize=4096"], check=True)
os.kill(int(sys.argv[2]), signal.SIGTERM)
PYTHON
status=0
wait "$SERVER" || status=$?
SERVER=
[ "$status" -eq 1 ] || fail "it ended with $status"
grep -q "closing the pool: " server.log || fail "it does not say so: $(cat server.log)"
