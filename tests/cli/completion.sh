#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bash completes commands, options, values and the names of a pool's partitions.
. "$(dirname "$0")/lib.sh"
needs bash
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
lcpfs add "$POOL" db-2 --min 16M --max 64M >/dev/null
lcpfs add "$POOL" log --min 16M --max 64M >/dev/null
expect 2 lcpfs completion zsh
expect 0 lcpfs completion bash
cp out script
cat >complete.bash <<'BASH'
source ./script
complete -p lcpfs >/dev/null || exit 1
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { echo "compopt $*"; }
_lcpfs
[ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}"
BASH

# completes WORDS... -- WANTED: the last of WORDS is what is there already.
completes() {
	words=
	while [ "$1" != -- ]; do
		words="$words '$1'"
		shift
	done
	shift
	eval "bash complete.bash '$LCPFS' $words" >got || fail "completing $words fails"
	[ "$(sort got | xargs)" = "$*" ] || fail "completing $words: $(xargs <got), not $*"
}

completes stat -- status
completes help exp -- explain
completes help l -- lcpfs list log
completes list "$POOL" --j -- --json
completes snapshot "$POOL" d -- compopt -o nospace db-2@ db@
lcpfs snapshot "$POOL" db@monday db@tuesday log@monday >/dev/null
completes destroy "$POOL" db@ -- db@monday db@tuesday
completes clone "$POOL" db@ -- db@monday db@tuesday
completes clone "$POOL" db@monday d --
completes rollback "$POOL" l -- log@monday
completes rename "$POOL" l -- log@monday
lcpfs bookmark "$POOL" log@monday noted >/dev/null
completes destroy "$POOL" log -- log#noted log@monday
lcpfs destroy "$POOL" log#noted >/dev/null
completes diff "$POOL" db@monday db@t -- db@tuesday
completes destroy "$POOL" db@monday l -- log@monday
completes resize "$POOL" "" -- db db-2 log
completes attach --read-only "$POOL" d -- db db-2
completes attach --method "" -- fuse nbd
completes attach --method nbd "$POOL" l -- log
completes tune "$POOL" o -- observe off on
completes serve --tls r -- require
completes serve "$POOL" --socket "" -- compopt -o default
completes list /t -- compopt -o default
completes set "$POOL" d -- db db-2
completes get "$POOL" d -- db db-2
completes get "$POOL" db vol -- volume
completes get "$POOL" db volume th -- thin
completes get --columns v -- value
completes list --columns re -- referenced
completes set "$POOL" db m -- compopt -o nospace max= min=
completes set "$POOL" db max = 100M v -- compopt -o nospace volume=
completes add "$POOL" new --when-full w -- wait=60s
completes create pool --size "" --
completes resize "$POOL" db "" --
completes list /nobody/there "" --
completes attach /nobody/there "" --
completes simulate --trac -- --trace

# All that the help has.
commands=$(lcpfs help | sed -n 's/^  \([a-z]*\) .*/\1/p')
# shellcheck disable=SC2086,SC2046
completes help "" -- $(printf '%s\n' $commands lcpfs | sort)
for command in $commands; do
	completes "$command" -- "$command"
	for option in $(lcpfs "$command" --help | sed -n 's/^  \(-[a-zA-Z], \)\{0,1\}\(--[a-z-]*\).*/\2/p'); do
		bash complete.bash "$LCPFS" "$command" "$option" | grep -qx -e "$option" ||
			fail "$command $option"
	done
done
