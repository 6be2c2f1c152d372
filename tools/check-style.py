#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what can be checked of our style, in the files that git knows (all files where there is no git).

 - an SPDX line in the first three lines
 - lines of at most 115 columns (tab = 8), no space at their end, a newline at the file's
 - C is indented with tabs
 - C functions of at most 80 lines, half of them of at most 15
 - C variables are declared where they are first used: declarations.py
 - a file of ours that README or docs/ name is there, and a heading that they link to

The limits only go down: whoever gets below one for good may lower it here; nobody raises one.
"""

import pathlib
import re
import statistics
import subprocess
import sys

import declarations

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS_MAX = 115
FUNCTION_LINES_MAX = 80
FUNCTION_LINES_MEDIAN_MAX = 15
LONG_LINES_MAX = 65  # of all files together, left over from the first days: only ever fewer
C_SUFFIXES = {".c", ".h"}
CODE_SUFFIXES = C_SUFFIXES | {".py", ".sh", ".map", ".build"}
FOLDERS = "src|include|cli|sim|tests|tools|bench|docs|man"
NAMED = re.compile(rf"\b(?:{FOLDERS})/[\w./-]+\.(?:c|h|py|sh|md|scd|json|bin|txt)\b")
LINK = re.compile(r"\]\(([\w/.-]*)#([^)]+)\)")
CODE_NAMES = {"Makefile", "meson.build", "meson_options.txt", ".ci/run"}


def listed_by_git():
	command = ["git", "-C", str(ROOT), "ls-files", "-z"]
	done = subprocess.run(command, capture_output=True, check=False)
	return done.stdout.decode().split("\0") if done.returncode == 0 else []


def listed_by_walking():
	for path in ROOT.rglob("*"):
		relative = path.relative_to(ROOT)
		if path.is_file() and not relative.parts[0].startswith((".git", "build")):
			yield str(relative)


def files():
	names = [n for n in listed_by_git() if n] or listed_by_walking()
	for name in sorted(names):
		path = ROOT / name
		if path.is_file() and (path.suffix in CODE_SUFFIXES or name in CODE_NAMES):
			yield path


def function_lengths(lines):
	"""(line number, body lines) of each function: what stands between a "{" and a "}" in the first column."""
	start = None
	for number, line in enumerate(lines, 1):
		if line == "{":
			start = number
		elif line == "}" and start is not None:
			yield start, number - start - 1
			start = None


def line_complaints(path, lines):
	for number, line in enumerate(lines, 1):
		if line != line.rstrip():
			yield number, "space at the end"
		if path.suffix in C_SUFFIXES and line.startswith("    "):
			yield number, "indented with spaces"


def is_long(line):
	return len(line.expandtabs(8)) > COLUMNS_MAX


def complaints_of(path, text, lengths):
	lines = text.split("\n")
	if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(lines[:3]):
		yield 1, "no SPDX line"
	if lines.pop() != "":
		yield len(lines), "no newline at the end of the file"
	yield from line_complaints(path, lines)
	if path.suffix in C_SUFFIXES:
		for number, length in function_lengths(lines):
			lengths.append(length)
			if length > FUNCTION_LINES_MAX:
				yield number, f"a function of {length} lines, more than {FUNCTION_LINES_MAX}"
		yield from declarations.complaints(lines)


def pages():
	return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def missing_files():
	"""(page, line number, file) where a page leads to nowhere."""
	for page in pages():
		for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
			for named in NAMED.findall(line):
				if not (ROOT / named).exists():
					yield page.relative_to(ROOT), number, named


def anchors(page):
	"""What links call its headings, and places that have a name of their own."""
	text = page.read_text(encoding="utf-8")
	headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
	return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}.union(
		re.findall(r'<a id="([^"]+)">', text))


def missing_headings():
	"""(page, line number, link) where a page leads to a heading that is not there."""
	for page in pages():
		for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
			for name, anchor in LINK.findall(line):
				target = page.parent / name if name else page
				if not target.exists() or anchor not in anchors(target):
					yield page.relative_to(ROOT), number, f"{name}#{anchor}"


def main():
	lengths = []
	long_lines = []
	count = 0
	for path in files():
		text = path.read_text(encoding="utf-8")
		place = path.relative_to(ROOT)
		long_lines += [f"{place}:{n}" for n, line in enumerate(text.split("\n"), 1) if is_long(line)]
		for number, complaint in complaints_of(path, text, lengths):
			print(f"{place}:{number}: {complaint}", file=sys.stderr)
			count += 1
	for page, number, named in [*missing_files(), *missing_headings()]:
		print(f"{page}:{number}: there is no {named}", file=sys.stderr)
		count += 1
	median = statistics.median(lengths or [0])
	if median > FUNCTION_LINES_MEDIAN_MAX:
		print(f"half of the functions are longer than {FUNCTION_LINES_MEDIAN_MAX} lines", file=sys.stderr)
		count += 1
	if len(long_lines) > LONG_LINES_MAX:
		print(f"more than {LONG_LINES_MAX} lines longer than {COLUMNS_MAX}:", *long_lines, file=sys.stderr)
		count += 1
	longest = max(lengths, default=0)
	print(f"{len(lengths)} functions, median {median:g} lines, longest {longest}")
	print(f"{len(long_lines)} lines longer than {COLUMNS_MAX} columns; {count} complaints")
	return 1 if count else 0


if __name__ == "__main__":
	sys.exit(main())
