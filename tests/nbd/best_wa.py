#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write amplification of the hot partition where all that is spare is split as s ∝ sqrt(f·U), by the formula
for uniform overwrites under oldest-first cleaning. Reads `lcpfs list --json`.

usage: best_wa.py HOT COLD COLD_BLOCKS_PER_SECOND
"""

import json
import math
import sys


def uniform_wa(live, spare):
	"""α / (α + W0(−α·e^(−α))), α = 1 + s/U; by the share of live blocks u in what is cleaned."""
	alpha = 1 + spare / live
	share = 0.5
	for _ in range(10000):
		share = math.exp(-alpha * (1 - share))
	return 1 / (1 - share)


partitions = {p["name"]: p for p in json.load(sys.stdin)["partitions"]}
hot, cold = partitions[sys.argv[1]], partitions[sys.argv[2]]
hot_blocks_s = max(hot["access_frequency"], 1)  # of 4 KiB each
weights = [math.sqrt(hot_blocks_s * hot["live_blocks"]), math.sqrt(float(sys.argv[3]) * cold["live_blocks"])]
spare = sum(p["size_blocks"] - p["live_blocks"] for p in (hot, cold))
print(round(uniform_wa(hot["live_blocks"], spare * weights[0] / sum(weights)), 3))
