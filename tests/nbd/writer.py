#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes and trims random blocks until killed; notes what a flush covered: BLOCK, NUMBER (0: trimmed), WHEN.

usage: writer.py URI NOTES FIRST BLOCKS; numbers are those behind FIRST
"""

import random
import sys

import nbd

uri, notes, number, blocks = sys.argv[1], open(sys.argv[2], "a"), int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(number)
h = nbd.NBD()
h.connect_uri(uri)
assert not h.is_read_only() and h.can_multi_conn() and h.can_trim()
while True:
	pending = {}
	for _ in range(50):
		number += 1
		block = chance.randrange(blocks)
		if chance.randrange(5):
			h.pwrite(number.to_bytes(8, "little") * 512, block * 4096)
			pending[block] = number
		else:
			h.trim(4096, block * 4096)
			pending[block] = 0
	h.flush()
	notes.write("".join(f"{b} {n} {number}\n" for b, n in pending.items()))
	notes.flush()
