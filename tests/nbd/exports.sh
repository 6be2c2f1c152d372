#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each partition is an export of its name, with what it can do; the only one is also the default.
. "$(dirname "$0")/../cli/lib.sh"
needs nbdinfo
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 100M >/dev/null
serve "$POOL"

nbdinfo --size "$(uri "")" >out
[ "$(cat out)" -eq 104857600 ] || fail "the default export: $(cat out)"
lcpfs add "$POOL" log --min 16M --max 64M --volume 1G --thin >/dev/null
nbdinfo --list --json "$(uri "")" >list
/usr/bin/python3 - <<'PYTHON'
import json

exports = {e["export-name"]: e for e in json.load(open("list"))["exports"]}
assert set(exports) == {"db", "log"}, exports
assert exports["log"]["export-size"] == 1 << 30
for export in exports.values():
	for can in ("flush", "fua", "trim", "zero", "fast_zero", "multi_conn", "df"):
		assert export["can_" + can], (can, export)
	assert not export["is_read_only"] and not export["is_rotational"]
	assert export["block_size_minimum"] == 1 and export["block_size_preferred"] == 4096
	assert export["contexts"] == ["base:allocation", "lcpfs:changed"]
PYTHON
! nbdinfo "$(uri "")" 2>/dev/null || fail "which of two is the default?"
! nbdinfo "$(uri nobody)" 2>/dev/null || fail "nobody was found"
lcpfs remove "$POOL" log >/dev/null
! nbdinfo "$(uri log)" 2>/dev/null || fail "a removed partition was found"
unserve
