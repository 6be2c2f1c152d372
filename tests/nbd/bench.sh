#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make bench, small: every job measures every peer, and a machine that is not idle is refused. What it finds is no
# matter.
. "$(dirname "$0")/../cli/lib.sh"
needs nbdkit nbdinfo fio qemu-img fincore ninja
[ -z "$SANITIZER" ] || skip "a sanitizer has a speed of its own"
bench() {
	/usr/bin/python3 "$TESTS/../bench/run.py" "$(dirname "$LCPFS")" --dir "$T" --quick --size 16 "$@"
}

yes >/dev/null &
OTHER=$!
at_end "end_job $OTHER"
! bench --only fill 2>err || fail "it measures where something else runs"
says "not idle"
bench --force --only fill --peers lcpfs >table 2>err || fail "--force does not help: $(cat err)"
says "DO NOT BELIEVE"
grep -q "NOT IDLE" table || fail "the table does not say it"
end_job "$OTHER"

bench --force --peers null,file,lcpfs --json found.json >table 2>said || fail "it ended with $?: $(tail -n 3 said)"
/usr/bin/python3 - "$TESTS/../bench" <<'PYTHON'
import json
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from run import ALL_JOBS

found, table = json.load(open("found.json")), open("table").read()
assert set(found["values"]) == {job.name for job in ALL_JOBS}, found["values"].keys()
for job in ALL_JOBS:
	for peer in ("null", "file", "lcpfs"):
		seen, = found["values"][job.name][peer]
		what = job.name, peer, seen
		assert 0 <= seen["p50_us"] <= seen["p99_us"] <= seen["p999_us"] <= seen["max_us"], what
		assert 0.99 < seen["rate"] * seen["seconds"] * job.block_bytes / seen["bytes"] < 1.01, what
	assert f"\n| {job.title} | " in table, job.title
assert found["runs"][0]["machine"]["memory_mib"] > 0
assert len(found["crash_s"]) == 1
PYTHON
bench --show found.json found.json >both
grep -q "Opened after kill -9" both || fail "two runs together say less than one"

# --page puts the tables between their marks in the page, and each bar into its row, beside what is told of it.
cp "$TESTS/../docs/performance.md" page.md
for time in 1 2; do
	bench --show found.json --page page.md >table 2>said || fail "$(cat said)"
done
/usr/bin/python3 - "$TESTS" <<'PYTHON'
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1] + "/../bench")
from run import BARS, TABLES, TABLES_END, TITLES

def parts(page):
	before, _, rest = page.partition(TABLES)
	return [before, *rest.split(TABLES_END)]

shown = open("table").read()
at, end = shown.index("The bars:"), shown.index("Microseconds of a request")
bars = [line.split(" | ") for line in shown[at:end].split("\n") if line.endswith((" met |", " missed |"))]
found = {tuple(bar[:2]): [*bar[:4], bar[4].removesuffix(" |")] for bar in bars}
assert len(found) == sum(peer != "btrfs" for _, peer, _ in BARS) + 1, found
old, new = (parts(open(page).read()) for page in (sys.argv[1] + "/../docs/performance.md", "page.md"))
assert new[:2] == [old[0], shown[:at] + shown[end:] + "\n"], new[1]
for was, line in zip(old[2].split("\n"), new[2].split("\n"), strict=True):
	cells = was.split(" | ")
	cells[:5] = found.pop(tuple(cells[:2]), cells[:5])
	assert line == " | ".join(cells), (was, line)
assert not found, found
assert all(f"\n| {TITLES[job]} | {peer} | " in new[2] for job, peer, _ in BARS)
PYTHON

# With fio as the client, and a peer less.
bench --force --client fio --peers file,lcpfs --only fill,mixed,overwrite,flush,several-read >table 2>said ||
	fail "it ended with $?: $(tail -n 3 said)"
grep -q "^| write + flush, 4k, QD1 | [0-9,]* | [0-9,]* |" table || fail "no table: $(cat table)"
