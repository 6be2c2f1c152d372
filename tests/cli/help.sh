#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command has its usage (--help) and a manual: a man page that names exactly the options that it has, and
# that `lcpfs help` shows, word by word, wherever it is asked.
. "$(dirname "$0")/lib.sh"
SOURCES=$TESTS/../man
PAGES=$(dirname "$LCPFS")/man

# ---- usage ----

expect 0 lcpfs --version
grep -q '^lcpfs [0-9]' out || fail "$(cat out)"
expect 0 lcpfs --help
cp out list
expect 0 lcpfs help
cmp -s out list || fail "--help and help differ"
expect 0 lcpfs help help
cmp -s out list || fail "help help and help differ"
commands=$(sed -n 's/^  \([a-z]*\) .*/\1/p' out)
[ "$(echo "$commands" | wc -w)" -ge 14 ] || fail "commands: $commands"
expect 2 lcpfs help frobnicate

# ---- pages name what the table has ----

# section NAME FILE: of a page's source, without marks for bold and underlined.
section() {
	awk -v name="# $1" '/^# / { inside = $0 == name; next } inside' "$2" | tr -d '*_\\'
}

# As the usage has them: "-o, --columns LIST".
options_of_usage() {
	sed -n 's/^  \(\(-[a-zA-Z], \)\{0,1\}--[a-z-]*\( []A-Z:[]*\)\{0,1\}\) .*/\1/p' usage | sed 's/ *$//' | sort
}

options_of_page() {
	section OPTIONS "$1" | sed -n 's/^\(--\{0,1\}[a-zA-Z].*\)/\1/p' | sort
}

# The words that begin with --, of what comes in.
option_names() {
	grep -o -e '--[a-z][a-z-]*' | sort -u
}

for command in $commands; do
	page=$SOURCES/lcpfs-$command.1.scd
	[ -e "$page" ] || fail "there is no $page"
	expect 0 lcpfs "$command" --help
	cp out usage
	if [ "$command" = simulate ]; then # has options of its own, and a usage of its own
		option_names <usage >wanted
		options_of_page "$page" | option_names >got
	else
		options_of_usage >wanted
		options_of_page "$page" >got
	fi
	cmp -s wanted got || fail "$page: options $(diff wanted got)"
	option_names <wanted >>names
	if ! section SYNOPSIS "$page" | grep -q '\[OPTIONS\]'; then
		section SYNOPSIS "$page" | option_names >got || true
		option_names <wanted | diff - got >difference || fail "$page: synopsis $(cat difference)"
	fi
	for name in NAME SYNOPSIS DESCRIPTION EXAMPLES "SEE ALSO"; do
		[ -n "$(section "$name" "$page")" ] || fail "$page has no $name"
	done
	section "SEE ALSO" "$page" | grep -qw 'lcpfs(1)' || fail "$page does not lead to lcpfs(1)"
	grep -q "^\*lcpfs-$command\*(1)$" "$SOURCES/lcpfs.1.scd" || fail "lcpfs(1) does not list $command"
done

# Options of others that a page speaks of are there, and so are the pages that it leads to.
echo --help >>names
echo --version >>names
grep -h -o -e '\*--[a-z][a-z-]*\*' "$SOURCES"/*.scd | tr -d '*' | sort -u | while read -r option; do
	grep -qx -e "$option" names || fail "$option: nothing has it, but it stands in $(grep -l -e "\*$option\*" \
		"$SOURCES"/*.scd)"
done
grep -h -o 'lcpfs-[a-z]*\*(1)' "$SOURCES"/*.scd | tr -d '*' | sed 's/(1)//' | sort -u | while read -r name; do
	[ -e "$SOURCES/$name.1.scd" ] || fail "there is no $name(1)"
done

# ---- help shows them ----

# plain FILE: without what makes letters bold.
plain() {
	sed "s/.$(printf '\b')//g" "$1"
}

letters() {
	plain "$1" | tr -d '[:space:]'
}

for page in "$PAGES"/*.1; do
	name=$(basename "$page" .1)
	expect 0 lcpfs help "${name#lcpfs-}"
	mv out text
	if command -v mandoc >/dev/null; then
		mandoc -Tascii "$page" | sed '1d;$d' >manual
		[ "$(letters manual)" = "$(letters text)" ] || fail "$page is not what help ${name#lcpfs-} shows"
	fi
	! LC_ALL=C grep -n '[^ -~]' text || fail "help ${name#lcpfs-}: this is not plain"
	! grep -n '.\{79\}' text || fail "help ${name#lcpfs-}: this is too long"
	! grep -n -e '--[a-z-]*-$' text || fail "help ${name#lcpfs-}: an option is torn"
	if command -v lexgrog >/dev/null; then
		lexgrog "$page" >got 2>&1 || fail "$(cat got)"
		grep -q "\"$name - " got || fail "$(cat got)"
	fi
	if command -v man >/dev/null && command -v groff >/dev/null; then
		man --warnings -E UTF-8 -l "$page" 2>warnings >/dev/null || fail "$(cat warnings)"
		[ ! -s warnings ] || fail "$(cat warnings)"
	fi
done
for locale in C C.UTF-8 de_DE.UTF-8; do
	LC_ALL=$locale LANGUAGE=de lcpfs help lcpfs >text
	[ -e first ] || cp text first
	cmp -s first text || fail "help differs by locale"
done

# ---- at a terminal ----

# at_terminal PAGER-OR-ELSE: what is seen is in `screen`.
at_terminal() {
	script -qec "env $1 $LCPFS help add" /dev/null </dev/null >screen 2>&1 || fail "$1: $(cat screen)"
}

if command -v script >/dev/null; then
	lcpfs help add >text
	at_terminal "PAGER='cat >paged'"
	grep -q "$(printf '\b')" paged || fail "nothing is bold for a pager"
	[ "$(plain paged)" = "$(cat text)" ] || fail "$(diff paged text)"
	[ ! -s screen ] || fail "beside the pager: $(cat screen)"
	at_terminal "NO_COLOR=1 PAGER='cat >paged'"
	cmp -s paged text || fail "$(diff paged text)"
	for none in PAGER= PAGER=cat PAGER=/nobody/there; do
		at_terminal "NO_COLOR=1 $none"
		tr -d '\r' <screen | grep -v 'nobody' >got
		cmp -s got text || fail "$none: $(diff got text)"
	done
	at_terminal "PAGER='head -n 1'" # ends before it has all
fi
