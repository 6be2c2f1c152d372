#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proves that includes point down the layer list only, and calls down the list of a folder's files.

A folder of src/ may include itself and the folders that BELOW lists for it; the programs on top may include
anything but each other (the CLI runs the simulator, so it may include that). A public header counts as its layer.

The meson.build of a folder of src/ lists its files lowest first: none uses a function of a later one. So no files
call each other in a circle. UPWARD has the uses that do not keep to it; the list may only get shorter.
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
FILES = re.compile(r"^\w+ = files\((.*?)\)", re.MULTILINE | re.DOTALL)
NO_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^\s*#[^\n]*', re.MULTILINE | re.DOTALL)
FUNCTION = re.compile(r"^(static\s+)?[A-Za-z_][\w \t*]*?\b(\w+)\([^;{}]*?\)\s*\{", re.MULTILINE)
NAME = re.compile(r"(?<![\w.>])(?<!struct )\w+")
UPWARD = {
	"serve/negotiate.c > connection.c",
	"serve/connection.c > transfer.c",
}


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


def order_of(folder):
	listed = FILES.findall((folder / "meson.build").read_text(encoding="utf-8"))
	return [name for files in listed for name in re.findall(r"'([^']+\.c)'", files)]


def complaints_of_order(folder):
	"""What a file uses of a later one, and what UPWARD need not allow."""
	order = order_of(folder)
	uses, home = {}, {}
	for name in order:
		code = NO_CODE.sub(" ", (folder / name).read_text(encoding="utf-8"))
		functions = FUNCTION.findall(code)
		uses[name] = set(NAME.findall(code)) - {function for static, function in functions if static}
		home.update({function: name for static, function in functions if not static})
	place = {name: at for at, name in enumerate(order)}
	needed = set()
	for name in order:
		for function in sorted(uses[name] & home.keys()):
			arrow = f"{folder.name}/{name} > {home[function]}"
			if place[home[function]] > place[name]:
				needed.add(arrow)
				if arrow not in UPWARD:
					yield f"src/{arrow}: it is listed later, and has {function}"
	for arrow in sorted(UPWARD - needed):
		if arrow.startswith(folder.name + "/"):
			yield f"src/{arrow}: not needed any more in UPWARD"


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
	for layer in BELOW:
		complaints += complaints_of_order(ROOT / "src" / layer)
	for complaint in complaints:
		print(complaint, file=sys.stderr)
	print(f"{count} files, {len(complaints)} includes or calls that point up or sideways")
	return 1 if complaints else 0


if __name__ == "__main__":
	sys.exit(main())
