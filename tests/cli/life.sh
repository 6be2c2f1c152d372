#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A pool's life without a server: sizes are kept, add up, and survive.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

expect 0 lcpfs create "$POOL" --size 256MiB --metaslab 1M
[ "$(stat -c %s "$POOL")" -eq 268435456 ] || fail "not of the size that was asked for"
expect 0 lcpfs list "$POOL"
expect 0 lcpfs add "$POOL" db --min 16M --max 128M --size 32M
grep -q "^db: size 32.9M, min 16.0M, max 128M, volume 128M; 42.0M of the pool" out || fail "$(cat out)"
expect 1 lcpfs add "$POOL" log --min 16M --max 64M --volume 100M
says "--thin"
expect 0 lcpfs add "$POOL" log --min 16M --max 64M --volume 100M --thin
grep -q "volume 100M (thin)" out || fail "$(cat out)"
expect 0 lcpfs list "$POOL"
grep -q "^db .*32.9M" out && grep -q "^log .*16.0M.*thin$" out || fail "$(cat out)"
[ "$(field log 'p["volume_blocks"]')" -eq 25600 ] || fail "volume"

expect 0 lcpfs resize "$POOL" db 100M
[ "$(field db 'p["size_data_blocks"]')" -ge 25600 ] || fail "grown"
[ "$(field db 'p["size_blocks"]')" -gt 25600 ] || fail "what the store needs does not come on top"
expect 0 lcpfs resize "$POOL" db 17M
[ "$(field db '4352 <= p["size_data_blocks"] < 4700')" = True ] || fail "shrunk"
expect 0 lcpfs resize "$POOL" db 100M --space
[ "$(field db 'p["size_blocks"]')" -eq 25600 ] || fail "in space"
expect 0 lcpfs resize "$POOL" db 17M

expect 0 lcpfs tune "$POOL"
expect 0 lcpfs tune "$POOL" observe
expect 0 lcpfs tune "$POOL"
[ "$(cat out)" = observe ] || fail "the mode was not kept"

expect 0 lcpfs status "$POOL"
grep -q "^health *ONLINE" out || fail "$(cat out)"
expect 0 lcpfs explain "$POOL"
expect 0 lcpfs explain "$POOL" db
expect 0 lcpfs log "$POOL"
grep -q "resized" out || fail "the log does not know of the resize: $(cat out)"
expect 0 lcpfs log "$POOL" --last 1
[ "$(wc -l <out)" -eq 1 ] || fail "--last 1: $(cat out)"
expect 0 lcpfs scrub "$POOL"
expect 0 lcpfs dump "$POOL"
expect 0 lcpfs dump "$POOL" partition db
check_clean "$POOL"

expect 0 lcpfs remove "$POOL" db
expect 1 lcpfs remove "$POOL" db
expect 0 lcpfs add "$POOL" db --min 16M --max 128M
[ "$(field db 'p["id"]')" -eq 3 ] || fail "an id was used again"
check_clean "$POOL"
