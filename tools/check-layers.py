#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that includes point down the layer list only.

A folder of src/ may include itself and the folders that BELOW lists for it; the programs on top may include
anything but each other (the CLI runs the simulator, so it may include that). A public header counts as its layer.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STORAGE = ["base", "format", "vdev", "space", "store"]
BELOW = {layer: set(STORAGE[:i]) for i, layer in enumerate(STORAGE)}
BELOW["engine"] = {"base"}  # pure: it knows no storage
BELOW["stream"] = {"base"}  # bytes only
BELOW["pool"] = {*STORAGE, "engine", "stream"}
BELOW["control"] = {*BELOW["pool"], "pool"}
BELOW["serve"] = {*BELOW["control"], "control"}
LAYERS = set(BELOW)
PROGRAMS = {"cli": {"sim"}, "sim": set()}
PUBLIC = {"error": "base", "engine": "engine"}  # every other public header is the pool's
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<lcpfs/(\w+)\.h>)', re.MULTILINE)


def layer_of_include(quoted, public, folder):
	"""The layer that an include names; None for a file of no layer."""
	if public:
		return PUBLIC.get(public, "pool")
	first, slash, _ = quoted.partition("/")
	return first if slash else folder


def complaints_of(path, folder, allowed):
	for quoted, public in INCLUDE.findall(path.read_text(encoding="utf-8")):
		layer = layer_of_include(quoted, public, folder)
		if layer != folder and layer not in allowed:
			name = quoted or f"lcpfs/{public}.h"
			yield f"{path.relative_to(ROOT)}: {folder} may not include {name}"


def sources(folder):
	return sorted(p for p in folder.rglob("*.[ch]"))


def main():
	complaints = []
	count = 0
	folders = [(ROOT / "src" / layer, layer, below) for layer, below in BELOW.items()]
	folders += [(ROOT / program, program, LAYERS | more) for program, more in PROGRAMS.items()]
	for path, name, allowed in folders:
		for source in sources(path):
			count += 1
			complaints += complaints_of(source, name, allowed)
	for complaint in complaints:
		print(complaint, file=sys.stderr)
	print(f"{count} files, {len(complaints)} includes that point up or sideways")
	return 1 if complaints else 0


if __name__ == "__main__":
	sys.exit(main())
