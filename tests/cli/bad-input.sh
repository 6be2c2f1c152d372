#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bad input is refused in one line with the right exit code, and changes nothing.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 32M >/dev/null
lcpfs add "$POOL" log --min 16M --max 128M >/dev/null
# All but the counters of what opening and closing itself writes.
picture() {
	lcpfs list "$POOL" --json | sed 's/"\(device_blocks\|table_blocks\|checkpoints\)":[0-9]*,//g'
	lcpfs status "$POOL" --json | sed 's/"txg":[0-9]*,//'
	lcpfs log "$POOL" --json
}
picture >before

# usage: 2
expect 2 lcpfs
expect 2 lcpfs frobnicate
expect 2 lcpfs list
expect 2 lcpfs list "$POOL" too much
expect 2 lcpfs list "$POOL" --frobnicate
expect 2 lcpfs add "$POOL" x
expect 2 lcpfs add "$POOL" x --min 16M
expect 2 lcpfs add "$POOL" x --min
expect 2 lcpfs add "$POOL" x --min 1.5M --max 4M
says "fraction"
expect 2 lcpfs add "$POOL" x --min 16Q --max 4M
expect 2 lcpfs add "$POOL" x --min -16M --max 4M
expect 2 lcpfs add "$POOL" x --min 0 --max 4M
expect 2 lcpfs add "$POOL" x --min 99999999999999999999 --max 4M
says "too large"
expect 2 lcpfs add "$POOL" x --min 9999999999999T --max 4M
expect 2 lcpfs resize "$POOL" db "10 M"
expect 2 lcpfs tune "$POOL" perhaps
expect 2 lcpfs serve "$POOL"
expect 2 lcpfs serve "$POOL" --socket s --listen nowhere
expect 2 lcpfs serve "$POOL" --socket s --tune perhaps

# refused: 1
expect 1 lcpfs remove "$POOL" nobody
says nobody
expect 1 lcpfs resize "$POOL" nobody 32M
says nobody
expect 1 lcpfs explain "$POOL" nobody
expect 1 lcpfs add "$POOL" db --min 16M --max 32M
says db
expect 1 lcpfs add "$POOL" x --min 32M --max 16M
expect 1 lcpfs add "$POOL" x --min 16M --max 32M --size 64M
expect 1 lcpfs add "$POOL" x --min 16M --max 32M --size 8M
expect 1 lcpfs add "$POOL" x --min 1G --max 2G
expect 1 lcpfs add "$POOL" x --min 240M --max 250M
expect 1 lcpfs add "$POOL" "" --min 16M --max 32M
expect 1 lcpfs add "$POOL" "../x" --min 16M --max 32M
expect 1 lcpfs add "$POOL" ".x" --min 16M --max 32M
expect 1 lcpfs add "$POOL" "a b" --min 16M --max 32M
expect 1 lcpfs add "$POOL" "a	b" --min 16M --max 32M
expect 1 lcpfs add "$POOL" "$(printf 'line\nline')" --min 16M --max 32M
expect 1 lcpfs add "$POOL" "$(printf '%064d' 0)" --min 16M --max 32M
expect 1 lcpfs resize "$POOL" db 8M
expect 1 lcpfs resize "$POOL" db 129M
expect 2 lcpfs resize "$POOL" db 7E
expect 1 lcpfs create "$POOL" --size 256M
says "force"
expect 1 lcpfs create new --size 1K
[ ! -e new ] || fail "a refused create left a file behind"
expect 1 lcpfs create new --size 256M --metaslab 3M
expect 1 lcpfs create new
expect 1 lcpfs create no/such/folder/pool --size 256M

picture >after
cmp before after || fail "something changed: $(cat before after)"
check_clean "$POOL"

# what is not a pool
expect 1 lcpfs list /nonexistent
expect 1 lcpfs list .
printf 'just some text\n' >text
expect 1 lcpfs list text
says "not an lcpfs pool"
: >empty
expect 1 lcpfs list empty
head -c 10M /dev/urandom >noise
expect 1 lcpfs list noise
expect 2 lcpfs check text
expect 1 lcpfs serve text --socket s
[ ! -e s ] && [ ! -e s.control ] || fail "a refused server left its sockets behind"
expect 1 lcpfs serve /nonexistent --socket s
expect 1 lcpfs create text
says "at least"
[ "$(cat text)" = "just some text" ] || fail "a text file was overwritten"

# a truncated pool
cp --sparse=always "$POOL" short
truncate -s 100M short
expect 1 lcpfs list short
code=0
lcpfs check short >out 2>err || code=$?
[ "$code" -eq 1 ] || [ "$code" -eq 2 ] || fail "check of a truncated pool: $code"
truncate -s 3K short
expect 1 lcpfs list short

# a file system
if command -v mkfs.ext4 >/dev/null; then
	truncate -s 64M ext4
	mkfs.ext4 -q ext4
	expect 1 lcpfs create ext4
	says "force"
	expect 0 lcpfs create ext4 --force
fi
