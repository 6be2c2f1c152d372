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

part = open(sys.argv[1]).read().split("## A worked example\n")[1].split("\n## ")[0]
steps = []  # [command, lines shown]
for line in (line[4:] for line in part.split("\n") if line.startswith("    ")):
	if line.startswith("$ "):
		steps.append([line[2:], []])
	elif steps[-1][0].endswith("\\") or steps[-1][0].count("'") % 2:
		steps[-1][0] += "\n" + line
	else:
		steps[-1][1].append(line)
assert steps[0][0].startswith("export PATH="), steps[0]
assert len(steps) > 8, steps
defined, differ = [], False
for command, shown in steps[1:]:
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
PATH=$(dirname "$LCPFS"):$PATH /usr/bin/python3 example.py "$TESTS/../docs/engine.md" >differences ||
	fail "$(cat differences)"
