#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What commands print with --json, what they complain with, and what a hook reads, is as docs/schema.json says.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import jsonschema, nbd' 2>/dev/null || skip "no jsonschema or libnbd for Python"
POOL=$T/pool

cat >valid.py <<'PYTHON'
import json
import sys

import jsonschema

definitions = json.load(open(sys.argv[1]))["$defs"]
jsonschema.Draft202012Validator.check_schema({"$defs": definitions})
for line in open(sys.argv[2]):
	definition, text = line.split(" ", 1)
	value = json.loads(text, parse_constant=lambda name: sys.exit(f"not JSON: {name}: {line}"))
	schema = {"$defs": definitions, "$ref": f"#/$defs/{definition}"}
	for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
		sys.exit(f"{error}: {line}")
PYTHON

# is DEFINITION FILE: each line of it; looked at in the end, all at once.
is() {
	[ -s "$2" ] || fail "nothing that could be $1"
	sed "s/^/$1 /" "$2" >>said
}

# valid DEFINITION COMMAND...
valid() {
	definition=$1
	shift
	expect 0 lcpfs "$@"
	is "$definition" out
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
everything() {
	valid add add "$POOL" db --min 16M --max 32M --json
	valid add add "$POOL" small --min 16M --max 16M --json
	for command in list status explain log report iostat tune scrub; do
		valid $command $command "$POOL" --json
	done
	valid explain explain "$POOL" db --json
	valid iostat iostat "$POOL" db --json
	valid tune tune "$POOL" observe --json
	valid get get "$POOL" --json
	valid get get "$POOL" db --json
	valid get get "$POOL" min tune --json
	valid resize resize "$POOL" db 24M --json
	valid grow grow "$POOL" --json
	valid resize resize "$POOL" db 20M --dry-run --json
	valid add add "$POOL" new --min 16M --max 20M --dry-run --json
	valid tune tune "$POOL" off --dry-run --json
	valid remove remove "$POOL" db --dry-run --json
	valid set set "$POOL" db max=40M --dry-run --json
	valid set set "$POOL" tune=observe --json
	valid set set "$POOL" cache=64M alarm=default --json
	valid set set "$POOL" db max=40M name=other --json
	valid snapshot snapshot "$POOL" other@x small@x other@y --json
	valid hold hold "$POOL" other@x --json
	valid bookmark bookmark "$POOL" other@x m --json
	valid bookmarks list "$POOL" --bookmarks --json
	valid destroy destroy "$POOL" other#m --json
	valid rename rename "$POOL" other@x z --json
	valid rename rename "$POOL" other@z other@x --json
	valid release release "$POOL" other@x --json
	valid snapshots list "$POOL" --snapshots --json
	valid clone clone "$POOL" other@x copy --dry-run --json
	valid clone clone "$POOL" other@x copy --json
	valid list list "$POOL" --json
	valid rename rename "$POOL" copy clone --json
	valid rename rename "$POOL" clone copy --json
	valid set set "$POOL" copy volume=64M --dry-run --json
	valid clones list "$POOL" --clones --json
	valid clones list "$POOL" --clones --json -o name
	valid diff diff "$POOL" other@x copy --json
	expect 0 lcpfs destroy "$POOL" other@y
	valid promote promote "$POOL" copy --dry-run --json
	valid promote promote "$POOL" copy --json
	valid promote promote "$POOL" other --json
	lcpfs snapshot "$POOL" other@y >/dev/null
	valid destroy destroy "$POOL" copy -n --json
	valid destroy destroy "$POOL" copy --json
	valid diff diff "$POOL" other@x --json
	valid diff diff "$POOL" other@x other@y --json
	valid send send "$POOL" other@y --from x -n --json
	lcpfs send "$POOL" other@x >stream
	lcpfs add "$POOL" new --min 16M --max 40M >/dev/null
	lcpfs receive "$POOL" new --json <stream >out
	is receive out
	lcpfs remove "$POOL" new --force >/dev/null
	valid list list "$POOL" --json
	valid rollback rollback "$POOL" other@x --force --dry-run --json
	valid rollback rollback "$POOL" other@x --force --json
	valid destroy destroy "$POOL" other@x small@x -n --json
	valid destroy destroy "$POOL" other@x small@x --json
	valid log log "$POOL" --json
	valid remove remove "$POOL" other --force --json
	valid remove remove "$POOL" small --force --json
}
everything
valid check check "$POOL" --json
valid dump dump "$POOL" --json

printf '#!/bin/sh\ncat >>"%s"\n' "$T/told" >hook
chmod +x hook
serve "$POOL" --hook "$T/hook"
everything
valid iostat iostat "$POOL" 0.2 2 --json
lcpfs add "$POOL" db --min 16M --max 20M >/dev/null
/usr/bin/python3 -c 'import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for at in range(0, 20 << 20, 1 << 18): h.pwrite(b"x" * (1 << 18), at)
h.shutdown()' "$(uri db)" 2>/dev/null || true
for command in list status explain report iostat; do
	valid $command $command "$POOL" --json
done
wait_until test -s told
unserve
is hook told

for wrong in "list $T/none" "resize $POOL none 1M" "list $POOL --x" "frobnicate"; do
	# shellcheck disable=SC2086
	! lcpfs $wrong --json >out 2>err || fail "$wrong"
	is error err
done
/usr/bin/python3 valid.py "$TESTS/../docs/schema.json" said || fail "$(wc -l <said) lines, and one is wrong"
