# SPDX-License-Identifier: Apache-2.0
"""The commands of a page, and what it shows of their outcome."""
import pathlib


def steps_of(page, heading):
	"""[prompt, command, lines shown] of each command there; one goes on behind a backslash and in quotes."""
	part = pathlib.Path(page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
	found = []
	for line in (line[4:] for line in part.split("\n") if line.startswith("    ")):
		if line[:2] in ("$ ", "# "):
			found.append([line[0], line[2:], []])
		elif found[-1][1].endswith("\\") or found[-1][1].count("'") % 2:
			found[-1][1] += "\n" + line
		else:
			found[-1][2].append(line)
	return found
