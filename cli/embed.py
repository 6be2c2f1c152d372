#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a text file into C, as one string. usage: embed.py NAME INPUT OUTPUT"""

import json
import pathlib
import sys

name, source, output = sys.argv[1:]
lines = pathlib.Path(source).read_text(encoding="ascii").splitlines(keepends=True)
text = "\n".join(map(json.dumps, lines))
pathlib.Path(output).write_text(f'#include "cli/report.h"\n\nconst char {name}[] =\n{text};\n', encoding="ascii")
