#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# NBD over TCP beside the Unix socket, with TLS by pre-shared keys; who has no key is refused.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd; exit(not nbd.NBD().supports_tls())' 2>/dev/null || skip "no libnbd with TLS"
POOL=$T/pool
PORT=$((20000 + $$ % 20000))

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
echo "alice:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >keys.psk
chmod 600 keys.psk
cat >client.py <<'PYTHON'
import sys

import nbd

port, user, keys = sys.argv[1:]
h = nbd.NBD()
if user != "-":
	h.set_tls(nbd.TLS_REQUIRE)
	h.set_tls_username(user)
	h.set_tls_psk_file(keys)
h.set_export_name("db")
try:
	h.connect_tcp("localhost", port)
except nbd.Error as error:
	sys.exit(f"refused: {error}")
h.pwrite(b"secret" * 100, 5)
assert h.pread(600, 5) == b"secret" * 100
PYTHON

serve "$POOL" --listen "localhost:$PORT"
/usr/bin/python3 client.py "$PORT" - - || fail "no TCP"
expect 1 lcpfs serve "$POOL" --socket other --listen "localhost:$PORT"
unserve
serve "$POOL" --listen "localhost:$PORT" --tls require --tls-psk "$T/keys.psk"
grep -q "nbds://localhost:$PORT/" server.out || fail "$(cat server.out)"
/usr/bin/python3 client.py "$PORT" alice keys.psk || fail "no TLS"
! /usr/bin/python3 client.py "$PORT" - - 2>/dev/null || fail "served without TLS"
echo "alice:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >others.psk
! /usr/bin/python3 client.py "$PORT" alice others.psk 2>/dev/null || fail "any key will do"
expect 0 lcpfs list "$POOL"
unserve
check_clean "$POOL"
