#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a golden pool's volume holds: lines of "BLOCK VERSION", and a content that follows from the two.

usage: content.py write URI SEED LINES     writes and trims at random, flushes, and brings the lines up to date
       content.py served URI LINES         compares each block that has a line with what a server gives
       content.py file FILE LINES          compares a volume as a file, zeros where there is no line
"""

import errno
import os
import pathlib
import random
import sys

BLOCK = 4096
GROUP = 256
WRITES = 150


def content(block, version):
	return (f"block {block}, version {version}\n" * 300).encode()[:BLOCK]


def read_lines(path):
	text = path.read_text() if path.exists() else ""
	return {int(block): int(version) for block, version in map(str.split, text.splitlines())}


def connected(uri):
	import nbd  # only here: a decoded file is compared without
	handle = nbd.NBD()
	handle.connect_uri(uri)
	return handle


def write(uri, seed, path):
	handle, chance, lines = connected(uri), random.Random(seed), read_lines(path)
	blocks = handle.get_size() // BLOCK
	version = max(lines.values(), default=0)
	for _ in range(WRITES):
		# A few hot ones, some in a middle part, a few anywhere: up to the end of a volume of three levels.
		most = chance.choice([60, 60, 60, 60, 1500, 1500, blocks])
		block = chance.randrange(min(most, blocks))
		count = min(chance.choice([1, 1, 1, 8]), blocks - block)
		if chance.random() < 0.85:
			for i in range(block, block + count):
				version += 1
				handle.pwrite(content(i, version), i * BLOCK)
				lines[i] = version
		else:
			handle.trim(count * BLOCK, block * BLOCK)
			for i in range(block, block + count):
				lines.pop(i, None)
	handle.flush()
	handle.shutdown()
	path.write_text("".join(f"{block} {lines[block]}\n" for block in sorted(lines)))


def compare(read, lines):
	for block, version in lines.items():
		if read(block) != content(block, version):
			sys.exit(f"block {block} is not of version {version}, but {read(block)[:40]!r}")


def compare_holes(data, first, lines):
	for at in range(0, len(data), BLOCK):
		block, held = first + at // BLOCK, data[at:at + BLOCK]
		if block not in lines and held.count(0) < len(held):
			sys.exit(f"block {block} is not zero: {held[:40]!r}")


def compare_file(path, lines):
	with open(path, "rb") as file:
		compare(lambda n: file.seek(n * BLOCK) is not None and file.read(BLOCK), lines)
		for first, end in extents(file):
			for block in range(first, end, GROUP):
				file.seek(block * BLOCK)
				compare_holes(file.read(min(GROUP, end - block) * BLOCK), block, lines)


def extents(file):
	"""Blocks (first, end) where the file has bytes: what lies between is a hole and reads as zeros."""
	end, size = 0, os.fstat(file.fileno()).st_size
	while True:
		try:
			start = os.lseek(file.fileno(), end, os.SEEK_DATA)
		except OSError as error:
			assert error.errno == errno.ENXIO, error
			return
		end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
		yield start // BLOCK, -(-min(end, size) // BLOCK)


def main():
	what, where, *rest = sys.argv[1:]
	if what == "write":
		write(where, int(rest[0]), pathlib.Path(rest[1]))
	elif what == "served":
		handle = connected(where)
		compare(lambda n: bytes(handle.pread(BLOCK, n * BLOCK)), read_lines(pathlib.Path(rest[0])))
	else:
		compare_file(pathlib.Path(where), read_lines(pathlib.Path(rest[0])))


main()
