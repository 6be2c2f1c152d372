#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --json prints one object with the promised fields.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
for command in "add $POOL db --min 16M --max 32M --size 32M" "list $POOL" "status $POOL" "explain $POOL" \
	"explain $POOL db" "log $POOL" "tune $POOL" "tune $POOL on" "resize $POOL db 16M" \
	"scrub $POOL" "check $POOL" "dump $POOL" "remove $POOL db"; do
	# shellcheck disable=SC2086
	expect 0 lcpfs $command --json
	/usr/bin/python3 - "$command" <<'PYTHON' || fail "$command: $(cat out)"
import json
import sys

FIELDS = {
	"list": lambda r: r["partitions"][0],
	"status": lambda r: r["pool"],
	"explain": lambda r: r["decision"],
	"log": lambda r: r["events"][0],
}
PROMISED = {
	"list": "name id size_blocks min_size_blocks max_size_blocks live_blocks utilization access_frequency"
	" avg_latency_us pressure epsilon write_amplification",
	"status": "health size_blocks free_blocks metaslab_blocks metaslabs txg engine",
	"explain": "sentence action reason from to expected_gain expected_error confidence",
	"log": "number time_s kind text from to blocks",
}
text = open("out").read()
assert text.count("\n") == 1 and text.endswith("\n")
result = json.loads(text, parse_constant=lambda name: sys.exit(f"not JSON: {name}"))
assert isinstance(result, dict)
command = sys.argv[1].split()[0]
if command in FIELDS:
	missing = set(PROMISED[command].split()) - set(FIELDS[command](result))
	assert not missing, missing
if command == "status":
	threshold = result["pool"]["engine"]["thresholds"]["pressure"]
	assert threshold["value"] == 100 and threshold["uncertainty"] is None and threshold["observations"] == 0
if command == "list":
	assert result["partitions"][0]["pressure"] is None  # at its max
PYTHON
done

# Every field is named in the documents: in that of the protocol, or in the header that it refers to.
lcpfs add "$POOL" db --min 16M --max 32M --size 32M >/dev/null
lcpfs add "$POOL" log --min 16M --max 32M >/dev/null
for command in "list $POOL" "status $POOL" "explain $POOL" "explain $POOL db" "log $POOL" "tune $POOL" \
	"scrub $POOL" "get $POOL" "check $POOL" "dump $POOL" "grow $POOL" "resize $POOL db 20M" "remove $POOL log"; do
	# shellcheck disable=SC2086
	lcpfs $command --json
done >out
/usr/bin/python3 - "$TESTS/.." <<'PYTHON' || fail "see above"
import json
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
control = (root / "docs/control.md").read_text()
structs = "".join((root / "include/lcpfs" / f).read_text() for f in ("pool.h", "engine.h"))


def keys(value):
	for key in value if isinstance(value, dict) else ():
		yield key
	for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
		yield from keys(below)


seen = {key for line in open("out") for key in keys(json.loads(line))}
assert len(seen) > 150, len(seen)
missing = [k for k in sorted(seen) if f"`{k}`" not in control and not re.search(rf"\b{k}\b", structs)]
sys.exit(f"not documented: {missing}" if missing else 0)
PYTHON
