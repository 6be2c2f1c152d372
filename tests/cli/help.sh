#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command and option has help, and stands in the manual.
. "$(dirname "$0")/lib.sh"
SOURCE_MANUAL=$TESTS/../man/lcpfs.1.scd

expect 0 lcpfs --version
grep -q '^lcpfs [0-9]' out || fail "$(cat out)"
expect 0 lcpfs --help
expect 0 lcpfs help
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' out)
[ "$(echo "$commands" | wc -w)" -ge 14 ] || fail "commands: $commands"
for command in $commands; do
	[ "$command" != simulate ] || continue
	expect 0 lcpfs help "$command"
	cp out help
	expect 0 lcpfs "$command" --help
	cmp -s out help || fail "$command --help and help $command differ"
	grep -q "^\*$command\*" "$SOURCE_MANUAL" || fail "the manual does not have $command"
	for option in $(sed -n 's/^  \(-[a-zA-Z], \)\{0,1\}--\([a-z-]*\).*/\2/p' out); do
		grep -q -- "--$option\*" "$SOURCE_MANUAL" || fail "the manual does not have --$option of $command"
	done
done
expect 2 lcpfs help frobnicate
