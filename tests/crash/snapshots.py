# SPDX-License-Identifier: Apache-2.0
"""Judges what snappool left, with both readers: see snapshots.sh. snapshots.py LCPFS DECODE FOLDER SEED"""

import collections
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys

import xxhash

lcpfs, decode, folder = sys.argv[1:4]
chance = random.Random(int(sys.argv[4]))
spec = importlib.util.spec_from_file_location("decode", decode)
decoder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(decoder)
BLOCK = 4096
DYING = "what is dying alone"


def run(*command):
	done = subprocess.run(command, capture_output=True, text=True, check=False)
	return done.returncode, done.stdout + done.stderr


def in_child(work, path):
	"""Of its own, since a pool that was read is kept from others; a program of its own starts slowly."""
	child = os.fork()
	if child == 0:
		code = 3
		try:
			code = work(decoder.Pool(path))
		except BaseException as why:
			print(f"decode.py: {type(why).__name__}: {why}", file=sys.stderr, flush=True)
		sys.stdout.flush()
		os._exit(code)
	return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held_by(path):
	"""N.held: the volume, each snapshot and each clone by name, and the check of what they hold by address."""
	held = {"db": {}}
	for line in path.with_suffix(".held").read_text(encoding="ascii").splitlines():
		name, *rest = line.split()
		held.setdefault(name, {})
		if rest:
			held[name][int(rest[0])] = rest[1]
	return held


def must_hold(partition, held):
	trees = {f"{partition.volume_name(n)}@{n.name}": n.tree for n in partition.alive()}
	trees["db"] = partition.head
	trees.update({n.name: n.tree for n in partition.all_clones()})
	assert trees.keys() == held.keys(), f"volumes {sorted(trees)}, not {sorted(held)}"
	for name, tree in trees.items():
		found = {address: check for address, _, _, check in partition.mapping(tree)}
		wrong = {a for a in found.keys() | held[name].keys() if found.get(a) != held[name].get(a)}
		assert not wrong, f"{name} holds something else at {sorted(wrong)[:8]}"


def judge(path):
	"""Nothing is wrong, says either, and the pool holds what it must. Which states its snapshots are in."""
	about = path.with_suffix(".states")
	def judge_decoded(pool):
		for found in pool.report.found[:5]:
			print(f"{path}: {found['text']}")
		if path.with_suffix(".held").exists():
			must_hold(pool.partitions[0], held_by(path))
		partition = pool.partitions[0]
		states = [decoder.STATES[n.state] for n in partition.snapshots + partition.all_clones()]
		about.write_text(json.dumps(["closed" if pool.closed else "open", *states]), encoding="ascii")
		return 1 if pool.report.found else 0
	code, said = run(lcpfs, "check", path, "--data")
	other = in_child(judge_decoded, path)
	if code or other:
		sys.exit(f"{path}: check ends with {code}:\n{said}\nthe decoder with {other}")
	return json.loads(about.read_text(encoding="ascii"))


def places(pool):
	"""Of each kind: groups of blocks that hold the same."""
	p = pool.partitions[0]
	lists = p.structures()
	groups = {}
	for kind in ("table_pages", "space_pages", "volume_pages", "list_pages"):
		same = collections.defaultdict(list)
		for number in lists[kind]:
			same[pool.image.block(number)].append(number)
		groups[kind] = list(same.values())
	groups["headers"] = [[number, number + 1] for number in lists["headers"]]
	now = {block for _, _, block, _ in p.mapping()}
	old = {block for n in p.alive() for _, _, block, _ in p.mapping(n.tree)}
	groups["data of snapshots"] = [[block] for block in sorted(old - now)]
	own = {block for n in p.all_clones() for _, _, block, _ in p.mapping(n.tree)}
	groups["data of clones"] = [[block] for block in sorted(own - old - now)]
	groups[DYING] = [[p.table[number].place // 8] for number, r in sorted(p.references.items()) if not r.alive]
	return {kind: found for kind, found in groups.items() if found}


def flip(path, image, numbers):
	"""A bit in each of these blocks: do both find damage? They have to agree."""
	offsets = [BLOCK * n + chance.choice([chance.randrange(BLOCK), chance.randrange(400)]) for n in numbers]
	with open(path, "r+b", buffering=0) as file:
		for at in offsets:
			os.pwrite(file.fileno(), bytes([image[at] ^ 1 << chance.randrange(8)]), at)
		code, said = run(lcpfs, "check", path, "--data")
		other = in_child(lambda pool: 1 if pool.report.found else 0, path)
		for at in offsets:
			os.pwrite(file.fileno(), image[at:at + 1], at)
	if code not in (0, 1) or code != other:
		sys.exit(f"{path}, bits at {offsets}: check ends with {code}:\n{said}\nthe decoder with {other}")
	return code == 1


def flips(path, closed):
	"""In each kind of structure: once, and in all copies."""
	told = path.with_suffix(".places")
	assert in_child(lambda pool: told.write_text(json.dumps(places(pool)), encoding="ascii") and 0, path) == 0
	image = path.read_bytes()
	for kind, groups in json.loads(told.read_text(encoding="ascii")).items():
		tries = [[chance.choice(chance.choice(groups))], chance.choice(groups)]
		hits = [flip(path, image, numbers) for numbers in tries]
		print(f"{path.name}: {kind}: {len(groups)}, damage found {sum(hits)} of {len(hits)}")
		# In one that was cut off, it may be where the log counts as torn, and ends.
		must = closed and kind not in ("headers", DYING)
		assert all(hits) or not must, f"a flipped bit in {kind} was not found: {tries}"


def extracted(path):
	"""As files, by name."""
	out = path.with_suffix(".out")
	for name, held in held_by(path).items():
		code, said = run(decode, path, "--extract", name, out)
		assert code == 0, said
		with open(out, "rb") as file:
			for address in range(300):
				data = os.pread(file.fileno(), BLOCK, address * BLOCK)
				assert any(data) == (address in held), f"{name}, address {address}"
			for address, check in held.items():
				data = os.pread(file.fileno(), BLOCK, address * BLOCK)
				assert xxhash.xxh3_128_hexdigest(data) == check, f"{name}, address {address}"
		listed = json.loads(run(decode, path, "--json")[1])["partitions"][0]["snapshots"]
		names = [f"{n['volume']}@{n['name']}" for n in listed if n["state"] == "alive"]
		names += [n["name"] for n in json.loads(run(decode, path, "--json")[1])["partitions"][0]["clones"]]
		assert name in ["db", *names], names
	assert run(decode, path, "--extract", "db@none", out)[0] == 2


pools = sorted(pathlib.Path(folder).glob("*.pool"), key=lambda path: int(path.stem))
seen = {path: judge(path) for path in pools}
print(*(f"{path.name}: {' '.join(states)}" for path, states in seen.items()), sep="\n")
known = [path for path in pools if path.with_suffix(".held").exists()]
extracted(known[-1])
# One that was cut off, and one that was closed, with something dying where there is such a one.
for was in ("open", "closed"):
	those = [path for path in known if was in seen[path] and "alive" in seen[path]]
	those.sort(key=lambda path: (len({"dying", "left", "clone"}.intersection(seen[path])), int(path.stem)))
	if those:
		flips(those[-1], was == "closed")
