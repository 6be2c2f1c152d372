#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a killed server leaves behind stops nobody; what others have is left alone.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M >/dev/null
serve "$POOL"
for file in "$SOCKET" "$SOCKET.control"; do
	[ "$(stat -c %a "$file")" = 600 ] || fail "others may use $file"
done
unserve KILL
[ -S "$SOCKET" ] && [ -S "$SOCKET.control" ] || fail "nothing was left behind: nothing is tested"

expect 0 lcpfs list "$POOL"
expect 0 lcpfs resize "$POOL" db 32M
serve "$POOL"
expect 0 lcpfs list "$POOL"
unserve INT

echo precious >file
expect 1 lcpfs serve "$POOL" --socket file
[ "$(cat file)" = precious ] || fail "a file was overwritten"
expect 1 lcpfs serve "$POOL" --socket no/such/folder/s
expect 1 lcpfs serve "$POOL" --socket "$(printf '%0200d' 0)"
expect 1 lcpfs serve "$POOL.none" --socket s
expect 1 lcpfs serve "$POOL" --socket s --tls-psk /nonexistent
expect 2 lcpfs serve "$POOL" --socket s --tls off --tls-psk keys
[ ! -e s ] || fail "a socket was left behind"
