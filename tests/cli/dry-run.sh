#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command that changes something has --dry-run: it says what the command then says, refuses with the same
# words, and changes not a byte. With a server and without.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

# A command that is neither here nor has the option is new: which of the two is it?
only_ask="get list status diff serve explain log report iostat top metrics check scrub dump completion simulate"
for command in $(lcpfs help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
	case " $only_ask " in *" $command "*) continue ;; esac
	lcpfs "$command" --help | grep -q -e '--dry-run' || fail "$command has no --dry-run"
done

facts() {
	[ -n "$SERVER" ] || stat -c '%s %b %y' "$POOL" # when it was written to, to the nanosecond
	[ -z "$SERVER" ] || { lcpfs log "$POOL" --last 4096 | grep -v '  decision  ' && lcpfs tune "$POOL"; }
	[ -z "$SERVER" ] || lcpfs get "$POOL" -Hp id thin space min-space max-space volume when-full data
}

# same CODE COMMAND ARGUMENTS...: by a dry run and then for good.
same() {
	code_wanted=$1 command=$2
	shift 2
	facts >before
	expect "$code_wanted" lcpfs "$command" "$POOL" "$@" --dry-run
	cp out dry.out && cp err dry.err
	if [ "$code_wanted" -eq 0 ]; then
		grep -q "^would be: " out || fail "the dry run of $command $* says: $(cat out)"
		expect 0 lcpfs "$command" "$POOL" "$@" --dry-run --json
		grep -q '"dry_run":true' out || fail "$command $*: $(cat out)"
	fi
	facts >after
	cmp before after || fail "a dry run changed something: $command $*"
	expect "$code_wanted" lcpfs "$command" "$POOL" "$@"
	cmp err dry.err || fail "the dry run of $command $* says something else: $(cat dry.err) but $(cat err)"
	[ "$command" = remove ] || [ "$(sed 's/^would be: //; /^would free /d' dry.out)" = "$(cat out)" ] ||
		fail "the dry run of $command $*: $(cat dry.out) but $(cat out)"
}

journey() {
	same 0 add a --min 16M --max 64M
	same 0 add b --min 16M --max 30M --size 20M --volume 100M --thin --when-full wait=1m
	same 0 add c --space --min 16M --max 32M
	same 1 add a --min 16M --max 64M
	same 1 add .x --min 16M --max 64M
	same 1 add d --min 500M --max 500M
	same 1 add d --min 16M --max 200M --size 190M
	same 1 add d --min 16M --max 20M --volume 21M
	same 0 resize a 40M
	same 0 resize a 30M --space
	same 0 resize a 16M
	same 1 resize a 8M
	same 1 resize a 65M
	same 1 resize nobody 65M
	same 0 set a min=8M max=200M volume=200M
	same 1 resize a 190M
	says "more are needed"
	same 1 set a min=165M
	same 0 set a max=20M volume=10M name=d
	same 0 set d name=a
	same 0 tune off
	same 0 tune observe
	expect 2 lcpfs tune "$POOL" frob --dry-run
	same 0 snapshot a@x b@x a@y
	same 1 snapshot b@y a@x
	same 1 snapshot a
	same 0 bookmark a@x m
	same 1 bookmark a@y m
	same 0 destroy a#m
	same 1 destroy a#m
	same 1 rename a@x y
	same 0 rename a@x z
	same 0 rename a@z a@x
	same 0 hold a@x
	same 0 release a@x
	same 1 rollback a@x
	says "a@y is younger"
	same 0 rollback a@x --force
	same 1 destroy a@x,y
	same 0 destroy b@x
	[ -n "$SERVER" ] || same 1 remove a
	lcpfs destroy "$POOL" a@x >/dev/null
	same 0 remove a --force
	same 0 remove b --force
	same 0 remove c
	same 1 remove c
}
lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" z --min 16M --max 64M >/dev/null
cksum "$POOL" >before
expect 0 lcpfs add "$POOL" a --min 16M --max 64M --dry-run
expect 0 lcpfs set "$POOL" z name=y max=80M volume=20M --dry-run
expect 0 lcpfs resize "$POOL" z 30M --dry-run
expect 0 lcpfs tune "$POOL" off --dry-run
expect 0 lcpfs remove "$POOL" z --dry-run
cksum "$POOL" | cmp - before || fail "a dry run changed the pool"
journey
check_clean "$POOL"
serve "$POOL"
journey
# In mode on others may give; nobody knows before it is tried.
lcpfs tune "$POOL" on >/dev/null
expect 1 lcpfs add "$POOL" big --min 16M --max 300M --size 230M --dry-run
says "only doing it tells"
unserve

# create: what is there stays as it is, and what is not there does not come.
expect 0 lcpfs create new --size 64M --dry-run
[ "$(cat out)" = "would be: new: created" ] || fail "$(cat out)"
[ ! -e new ] || fail "it was created"
expect 1 lcpfs create new --dry-run
says "does not exist"
expect 1 lcpfs create new --size 1K --dry-run
expect 1 lcpfs create none/new --size 64M --dry-run
says "none/new: No such file"
cksum "$POOL" >before
expect 1 lcpfs create "$POOL" --size 64M --dry-run
says "an lcpfs pool already"
expect 0 lcpfs create "$POOL" --size 64M --dry-run --force
grep -q "^would be: .*: created; what is there would be lost$" out || fail "$(cat out)"
expect 0 lcpfs create "$POOL" --dry-run --force
cksum "$POOL" | cmp - before || fail "create --dry-run changed the pool"
truncate -s 64M empty
expect 0 lcpfs create empty --dry-run
[ "$(cat out)" = "would be: empty: created" ] || fail "$(cat out)"
[ "$(du -k empty | cut -f 1)" = 0 ] || fail "something was written"
! lcpfs serve "$POOL" --dry-run 2>/dev/null || fail "serve"
serve "$POOL"
expect 1 lcpfs create "$POOL" --force --dry-run
says "in use"
unserve
