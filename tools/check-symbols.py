#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that the libraries show what the public headers declare: all of it, and nothing else.

usage: tools/check-symbols.py LIBRARY.so LIBRARY.a
"""

import pathlib
import re
import subprocess
import sys

HEADERS = pathlib.Path(__file__).resolve().parent.parent / "include" / "lcpfs"
COMMENT = re.compile(r"/\*.*?\*/|^\s*#.*?(?<!\\)$", re.DOTALL | re.MULTILINE)
FUNCTION = re.compile(r"\b(lcpfs_\w+)\s*\([^;{]*\)[^;{()]*;")
INLINE = re.compile(r"\bstatic\s+inline\b[^{;]*\{")


def declared():
	names = set()
	for header in HEADERS.glob("*.h"):
		text = COMMENT.sub("", header.read_text(encoding="utf-8"))
		statements = [s for s in re.split(r"(?<=;)", text) if "typedef" not in s and "inline" not in s]
		names.update(match.group(1) for s in statements for match in FUNCTION.finditer(s))
	return names


def shown(library, *options):
	command = ["nm", "--defined-only", "--extern-only", "--format=posix", *options, library]
	lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
	fields = [line.split() for line in lines]
	return {f[0].split("@")[0] for f in fields if len(f) > 2 and f[1] in "TDBRVW"}


def main():
	shared, static = sys.argv[1:]
	wanted = declared()
	bad = False
	for library, names in ((shared, shown(shared, "--dynamic")), (static, shown(static))):
		for what, which in (("lacks", wanted - names), ("shows", names - wanted)):
			if which:
				print(f"{library} {what} {' '.join(sorted(which))}", file=sys.stderr)
				bad = True
	print(f"{len(wanted)} public functions")
	return 1 if bad else 0


if __name__ == "__main__":
	sys.exit(main())
