#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes man pages as text into a C file, for `lcpfs help`. usage: embed.py MANDOC OUTPUT PAGE..."""

import json
import pathlib
import re
import subprocess
import sys

COLUMNS = 78


def text_of(mandoc, page):
	"""As man(1) shows it, without its first and its last line."""
	# Lines may be broken at a hyphen, unless it is escaped: an option is not to be torn.
	source = re.sub(r"(?<=\w)-(?=\w)", r"\\-", page.read_text(encoding="utf-8"))
	command = [mandoc, "-Tascii", f"-Owidth={COLUMNS}"]
	text = subprocess.run(command, input=source, capture_output=True, check=True, encoding="ascii").stdout
	return "\n".join(text.rstrip("\n").split("\n")[1:-1]).strip("\n") + "\n"


def main():
	mandoc, output, *pages = sys.argv[1:]
	lines = ['#include "cli/help.h"', "", "const struct help_page help_pages[] = {"]
	for page in map(pathlib.Path, pages):
		text = text_of(mandoc, page)
		lines.append(f'{{"{page.stem.removeprefix("lcpfs-")}",')
		lines += [json.dumps(line) for line in text.splitlines(keepends=True)]
		lines.append("},")
	lines.append("{0}};\n")
	pathlib.Path(output).write_text("\n".join(lines), encoding="ascii")


main()
