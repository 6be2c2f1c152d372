#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds, runs meson's tests, and ends with the plain line "N passed, N failed", totalled over them.

A test that speaks TAP counts each of its cases, any other counts once. Before that line stands what was skipped,
and why (what a test prints as "skipped: WHY", or as TAP's "# SKIP NAME: WHY"), and the end of what failed.

usage: tools/run-tests.py BUILD [arguments of meson test]
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

MINUTES = 5  # all tests and the build, on two idle processors: what people are told
LAST_LINES = 15  # of a test that failed
QUIET_S = 10  # where nothing has ended for so long, it says that it goes on
CASE = re.compile(r"^(not ok|ok)\b[^#\n]*(#\s*skip)?", re.IGNORECASE | re.MULTILINE)
SKIPPED = re.compile(r"^skipped: (.*)|^# SKIP (.*)", re.MULTILINE)
ENDED = re.compile(r"^\s*(\d+)/(\d+)\s")


def cases_of(test):
	"""(passed, failed, skipped) of one test of meson's log."""
	verdict = test["result"]
	output = test.get("stdout") or ""
	cases = [m.groups() for m in CASE.finditer(output)]
	skipped = sum(1 for _, skip in cases if skip) + len(re.findall("^# SKIP ", output, re.MULTILINE))
	failed = sum(1 for ok, skip in cases if ok.lower() == "not ok" and not skip)
	passed = len(cases) - skipped - failed
	if verdict == "SKIP":
		return passed, failed, max(skipped, 1)
	if verdict in ("OK", "EXPECTEDFAIL"):
		return max(passed, 1 - min(skipped, 1)), failed, skipped
	return passed, max(failed, 1), skipped


def tests_of(log):
	return [json.loads(line) for line in log.read_text(errors="replace").splitlines()] if log.exists() else []


def print_failed(tests):
	"""The end of what each one said, once more: of a run often only the last lines are kept."""
	for test in tests:
		if cases_of(test)[1]:
			said = (test.get("stdout") or "").splitlines() + (test.get("stderr") or "").splitlines()
			print(f"failed: {test['name']}: {test['result']}, after {test['duration']:.0f} s")
			print(*(f"  {line[:200]}" for line in said[-LAST_LINES:]), sep="\n")


def print_skipped(tests):
	for test in tests:
		reasons = [a or b for a, b in SKIPPED.findall(test.get("stdout") or "")]
		if test["result"] == "SKIP" and not reasons:
			reasons = ["it does not say why"]
		for reason in reasons:
			print(f"skipped: {test['name']}: {reason}")


class Progress:
	"""Passes on what meson prints, with the time; says that it goes on where nothing ends for a while."""

	def __init__(self):
		self.start = self.last = time.monotonic()
		self.done = ""
		self.ended = threading.Event()
		threading.Thread(target=self.keep_talking, daemon=True).start()

	def say(self, line):
		self.last = time.monotonic()
		print(f"{self.last - self.start:4.0f} s  {line}", flush=True)

	def keep_talking(self):
		while not self.ended.wait(1):
			if time.monotonic() - self.last >= QUIET_S:
				self.say(self.done or "the first tests are running")

	def follow(self, stream):
		for line in stream:
			ended = ENDED.match(line)
			if ended:
				self.done = f"{ended[1]} of {ended[2]} tests have ended"
			if line.strip():
				self.say(line.rstrip())
		self.ended.set()


def run(command):
	"""At a terminal meson shows by itself what runs; elsewhere it would be silent until something ends."""
	if sys.stdout.isatty():
		return subprocess.run(command, check=False).returncode
	progress = Progress()
	environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
	pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
	with subprocess.Popen(command, env=environment, **pipe) as meson:
		progress.follow(meson.stdout)
	return meson.returncode


def processes():
	"""Two more than processors: some tests wait for what they have started, or for time to pass."""
	return str(len(os.sched_getaffinity(0)) + 2)


def main():
	build = pathlib.Path(sys.argv[1])
	log = build / "meson-logs" / "testlog.json"
	log.unlink(missing_ok=True)
	if not sys.argv[2:]:
		print(f"Building and testing: about {MINUTES} minutes on two idle processors", flush=True)
	# The whole product, not only what the tests need: a warning in it fails too, where warnings are errors.
	status = run(["meson", "compile", "-C", str(build)])
	options = ["--print-errorlogs", "--num-processes", processes(), *sys.argv[2:]]
	status = status or run(["meson", "test", "-C", str(build), *options])
	tests = tests_of(log)
	passed, failed, skipped = map(sum, zip((0, 0, 0), *map(cases_of, tests)))
	if status and not failed:
		failed = 1  # it did not build, or meson itself failed
	print_skipped(tests)
	print_failed(tests)
	print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
	return 1 if failed or status or not passed else 0


if __name__ == "__main__":
	sys.exit(main())
