#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Several connections to one export see each other's writes, and a flush on one covers all: also through kill -9.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 64M >/dev/null
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON'
import sys

import nbd

hands = [nbd.NBD() for _ in range(8)]
for h in hands:
	h.connect_uri(sys.argv[1])
for i in range(512):
	hands[i % 8].pwrite(bytes([i % 251]) * 16384, i * 16384)
for i in range(512):
	assert hands[(i + 3) % 8].pread(16384, i * 16384) == bytes([i % 251]) * 16384, i
hands[5].flush()
PYTHON
unserve KILL
serve "$POOL"
/usr/bin/python3 - "$(uri db)" <<'PYTHON'
import sys

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(512):
	assert h.pread(16384, i * 16384) == bytes([i % 251]) * 16384, i
PYTHON
unserve
check_clean "$POOL"
