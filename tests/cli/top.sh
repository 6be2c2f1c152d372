#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lcpfs top shows partitions, moves and what is waited for, and gives the terminal back however it ends.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M --size 32M >/dev/null
lcpfs add "$POOL" archive --min 16M --max 128M >/dev/null
expect 1 lcpfs top "$POOL"
says "needs a terminal"
expect 2 lcpfs top "$POOL" 0
expect 2 lcpfs top "$POOL" x
[ -z "$SANITIZER" ] || skip "a sanitizer takes the signals that crash"
serve "$POOL"
/usr/bin/python3 "$TESTS/cli/top.py" "$LCPFS" "$POOL" "$SOCKET.control" || fail "see above"
unserve
