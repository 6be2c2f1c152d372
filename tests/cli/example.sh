#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The worked example of docs/engine.md: its commands print what stands there, to the last digit.
. "$(dirname "$0")/lib.sh"
needs bash jq
[ "$(uname -m)" = x86_64 ] || skip "elsewhere floating point rounds in other places, and runs part"

cat >example.py <<'PYTHON'
import difflib
import subprocess
import sys

from page_steps import steps_of

steps = steps_of(sys.argv[1], "A worked example")
assert steps[0][1].startswith("export PATH="), steps[0]
assert len(steps) > 8, steps
defined, differ = [], False
for _, command, shown in steps[1:]:
	if not shown:
		defined.append(command)
		continue
	ran = subprocess.run(["bash", "-c", "\n".join([*defined, command])], stdout=subprocess.PIPE, text=True)
	assert ran.returncode == 0, command
	for line in difflib.unified_diff(shown, ran.stdout.splitlines(), "docs/engine.md", command, lineterm=""):
		print(line)
		differ = True
sys.exit(differ)
PYTHON
export PYTHONPATH="$TESTS/cli" PYTHONDONTWRITEBYTECODE=1
PATH=$(dirname "$LCPFS"):$PATH /usr/bin/python3 example.py "$TESTS/../docs/engine.md" >differences ||
	fail "$(cat differences)"
