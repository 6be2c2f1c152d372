#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs meson's tests and ends with the plain line "N passed, N failed", totalled over them.

A test that speaks TAP counts each of its cases, any other counts once.

usage: tools/run-tests.py BUILD [arguments of meson test]
"""

import json
import pathlib
import re
import subprocess
import sys

CASE = re.compile(r"^(not ok|ok)\b[^#\n]*(#\s*skip)?", re.IGNORECASE | re.MULTILINE)


def cases_of(test):
	"""(passed, failed, skipped) of one test of meson's log."""
	verdict = test["result"]
	cases = [m.groups() for m in CASE.finditer(test.get("stdout") or "")]
	skipped = sum(1 for _, skip in cases if skip)
	failed = sum(1 for ok, skip in cases if ok.lower() == "not ok" and not skip)
	passed = len(cases) - skipped - failed
	if verdict == "SKIP":
		return passed, failed, max(skipped, 1)
	if verdict in ("OK", "EXPECTEDFAIL"):
		return max(passed, 1 - min(skipped, 1)), failed, skipped
	return passed, max(failed, 1), skipped


def totals(log):
	if not log.exists():
		return 0, 0, 0
	tests = [json.loads(line) for line in log.read_text(errors="replace").splitlines()]
	return tuple(map(sum, zip((0, 0, 0), *map(cases_of, tests))))


def main():
	build = pathlib.Path(sys.argv[1])
	log = build / "meson-logs" / "testlog.json"
	log.unlink(missing_ok=True)
	# The whole product, not only what the tests need: a warning in it fails too, where warnings are errors.
	status = subprocess.run(["meson", "compile", "-C", str(build)], check=False).returncode
	command = ["meson", "test", "-C", str(build), "--print-errorlogs", *sys.argv[2:]]
	status = status or subprocess.run(command, check=False).returncode
	passed, failed, skipped = totals(log)
	if status and not failed:
		failed = 1  # it did not build, or meson itself failed
	print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
	return 1 if failed or status or not passed else 0


if __name__ == "__main__":
	sys.exit(main())
