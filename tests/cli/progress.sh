#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Progress is shown some times a second and not for each block, comes to its end, and keeps apart from the result.
. "$(dirname "$0")/lib.sh"
needs nbdcopy
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 64M --max 192M --volume 96M >/dev/null
serve "$POOL"
head -c 90M /dev/urandom >data
nbdcopy data "$(uri db)"
unserve
for command in "check $POOL --data" "scrub $POOL" "resize $POOL db 128M" "resize $POOL db 110M"; do
	# shellcheck disable=SC2086
	lcpfs $command --progress >out 2>err || fail "$command: $(cat err)"
	[ "$(wc -l <err)" -lt 40 ] || fail "$command: $(wc -l <err) lines of progress"
	[ "$(tail -1 err)" = "100.0 %" ] || fail "$command does not come to its end: $(tail -1 err)"
	! grep -vq '^ *[0-9.]* %$' err || fail "$command: $(cat err)"
	! grep -q % out || fail "$command: $(cat out)"
	# shellcheck disable=SC2086
	lcpfs $command >out 2>err || fail "$command: $(cat err)"
	[ ! -s err ] || fail "$command shows progress where nobody asked for it: $(cat err)"
done
# At a terminal, where both come together, the result begins a line of its own.
script -qec "$LCPFS scrub $POOL --progress" /dev/null </dev/null | tr '\r' '\n' >out
grep -q '^[0-9.]*M verified' out && grep -q '^100.0 %$' out || fail "$(cat out)"
