#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The simulator's scenarios on a real pool, and its write amplification beside the simulator's.

For each scenario a pool file is made, with partitions of the sizes that `lcpfs simulate` starts from, and served
by `lcpfs serve`. Every partition is written full once, in order; then come exactly the simulator's writes (`lcpfs
simulate --requests`), over NBD, several in flight. WA is counted by the pool and by the model over the same
writes: it is a count, not a time, so a busy machine hardly changes it, and --dir may well be a tmpfs. How late the
background of each partition was, and how long at work, depends on the machine: the pool tells it, and the model is
told.

usage: bench/real.py [BUILD] [--json] [--live MIB] [--only NAME,...] [--learned] [--trace FILE] [--flush KIB]
       [--dir DIR]
"""

import argparse
import collections
import functools
import itertools
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import nbd

sys.dont_write_bytecode = True
from run import ROOT, Failed, Server, run

MIB = 1 << 20
BLOCK = 4096
BAR = 0.05
METASLAB_MIB = 1
IN_FLIGHT = 16  # requests, of all partitions
PIECE_BLOCKS = 1024  # of a request, at most
METASLABS_MIN = 6  # of a partition; the simulator gives its engine no other minimum


# ---- scenarios ----

def partition(name, live, writes, *more):
	return f"--partition={name}:" + ",".join([f"live={live:g}M", f"writes={writes:g}", *more])


def scenario(live, spare, turns, partitions, *more):
	pool = live * (1 + spare)
	return [f"--pool={pool:g}M", f"--writes={pool * turns:g}M", *partitions, *more]


def two(live, hot_writes, hot_live, *more):
	return [partition("hot", live * hot_live, hot_writes, *more),
		partition("cold", live * (1 - hot_live), 1 - hot_writes, *more)]


def many(live, weights):
	return [partition(f"p{i}", live / len(weights), w / sum(weights)) for i, w in enumerate(weights)]


def scenarios(live, trace):
	"""(name, the simulator's starts, its other arguments)"""
	uneven, even = ("proportional", "equal"), ("proportional", "inverse")
	turns = {0.1: 1, 0.2: 3, 0.3: 3}  # at a tenth hardly anything is left to clean with: one takes long
	for spare in (0.1, 0.2, 0.3):
		yield f"80/20 spare {spare:.0%}", uneven, scenario(live, spare, turns[spare], two(live, 0.8, 0.2))
	for spare in (0.1, 0.3):
		yield f"90/10 spare {spare:.0%}", uneven, scenario(live, spare, turns[spare], two(live, 0.9, 0.1))
	yield "4 equal, 70/20/8/2", even, scenario(live, 0.2, 3, many(live, [70, 20, 8, 2]))
	yield "16 equal, zipf 1.5", even, scenario(live, 0.2, 3, many(live, [(i + 1) ** -1.5 for i in range(16)]))
	yield "2 equal, 50/50", even[:1], scenario(live, 0.2, 3, two(live, 0.5, 0.5))
	yield "zipf 0.99 inside", uneven, scenario(live, 0.2, 3, two(live, 0.8, 0.2, "pattern=zipf:0.99"))
	yield "log + database + archive", uneven, scenario(live, 0.2, 3, [
		partition("log", live * 0.2, 0.3, "pattern=sequential"),
		partition("database", live * 0.3, 0.65),
		partition("archive", live * 0.5, 0.05)])
	pool = live * 1.2
	yield "weights swap", uneven, scenario(live, 0.2, 4, two(live, 0.8, 0.2),
		f"--shift={pool * 2:g}M:hot=0.2,cold=0.8")
	yield "daily rhythm", even, scenario(live, 0.2, 4, two(live, 0.8, 0.5),
		f"--swing={pool * 2:g}M:hot=0.2,cold=0.8")
	if trace:
		yield "real trace", uneven, [f"--trace={trace}", "--format=vscsi", "--split=1G", "--spare=10%",
			"--repeat=3"]


# ---- the pool ----

class Pool:
	def __init__(self, program, folder, sockets, sizes, tune):
		"""sizes: (name, volume blocks, size blocks) of each partition"""
		self.program, self.path = program, folder / "pool.lcpfs"
		self.names = [name for name, _, _ in sizes]
		whole = sum(size for _, _, size in sizes) * BLOCK
		self.create(whole // (METASLAB_MIB * MIB))
		for name, volume, size in sizes:
			least, most = (METASLABS_MIN * METASLAB_MIB * MIB, whole) if tune else (size * BLOCK,) * 2
			run(program, "add", self.path, name, "--space", "--min", least, "--max", most,
				"--size", size * BLOCK, "--volume", volume * BLOCK, "--thin")
		self.server = Server("lcpfs", sizes[0][0], sockets, lambda socket: [
			program, "serve", self.path, "--socket", socket, "--tune", "on" if tune else "off"])
		try:
			self.server.wait_until_ready()
		except Failed:
			self.server.stop()
			raise

	def create(self, metaslabs):
		"""A pool of just so many metaslabs: what it keeps for itself is found by trying."""
		wanted = metaslabs * METASLAB_MIB
		for _ in range(8):
			self.path.unlink(missing_ok=True)
			run(self.program, "create", self.path, "--size", f"{wanted}M",
				"--metaslab", f"{METASLAB_MIB}M")
			got = json.loads(run(self.program, "status", self.path, "--json"))["pool"]["metaslabs"]
			if got == metaslabs:
				return
			wanted += (metaslabs - got) * METASLAB_MIB
		raise Failed(f"no size gives {metaslabs} metaslabs")

	def counts(self):
		"""Per partition: written by users and to the device, its size, how late and busy its work was."""
		listed = json.loads(run(self.program, "list", self.path, "--json"))["partitions"]
		keys = ("written_blocks", "device_blocks", "size_blocks",
			"background_units", "background_late_blocks", "background_busy_blocks")
		return {p["name"]: tuple(p[key] for key in keys) for p in listed}

	def stop(self):
		self.server.stop()
		self.path.unlink(missing_ok=True)


@functools.cache  # what is in flight has to stay
def zeros(blocks):
	return nbd.Buffer.from_bytearray(bytearray(blocks * BLOCK))


class Clients:
	"""One connection to each partition. Requests go out in order, a window of them at a time over all."""

	def __init__(self, pool, sizes, flush_blocks):
		self.flush_blocks = flush_blocks
		self.handles, self.until_flush, self.window = [], [flush_blocks] * len(sizes), collections.deque()
		for name, volume, _ in sizes:
			self.handles.append(nbd.NBD())
			self.handles[-1].connect_uri(f"nbd+unix:///{name}?socket={pool.server.socket}")
			self.fill(self.handles[-1], volume)

	@staticmethod
	def fill(handle, blocks):
		for first in range(0, blocks, PIECE_BLOCKS):
			handle.pwrite(bytearray(min(PIECE_BLOCKS, blocks - first) * BLOCK), first * BLOCK)

	def wait(self, in_flight):
		"""The oldest first, until so many are left; raises what went wrong."""
		while len(self.window) > in_flight:
			handle, cookie = self.window.popleft()
			while not handle.aio_command_completed(cookie):
				handle.poll(-1)

	def send(self, handle, cookie):
		self.window.append((handle, cookie))
		self.wait(IN_FLIGHT - 1)

	def write(self, partition, block, blocks):
		handle = self.handles[partition]
		for first in range(0, blocks, PIECE_BLOCKS):
			buffer = zeros(min(PIECE_BLOCKS, blocks - first))
			self.send(handle, handle.aio_pwrite(buffer, (block + first) * BLOCK))
		self.until_flush[partition] -= blocks
		if self.flush_blocks and self.until_flush[partition] <= 0:
			self.until_flush[partition] = self.flush_blocks
			self.send(handle, handle.aio_flush())

	def close(self):
		for handle in self.handles:
			handle.shutdown()


def wa_between(before, after):
	user = sum(after[name][0] - before[name][0] for name in after)
	return sum(after[name][1] - before[name][1] for name in after) / user


def lags_between(before, after):
	"""Per partition: blocks that clients wrote until the background was at work, and while it was."""
	lags = {}
	for name in after:
		units, late, busy = (after[name][i] - before[name][i] for i in (3, 4, 5))
		lags[name] = (round(late / units), round(busy / units)) if units else (1, 0)
	return lags


def drive(pool, clients, requests, total):
	"""Writes it all; WA over the last fifth and in all, writes per second, sizes at the end, lags."""
	start, written, seen = time.monotonic(), 0, [pool.counts()]
	for line in requests:
		index, block, blocks = map(int, line.split())
		clients.write(index, block, blocks)
		written += blocks
		if len(seen) == 1 and written >= total // 5 * 4:
			clients.wait(0)
			seen.append(pool.counts())
	clients.wait(0)
	rate = written / (time.monotonic() - start)
	seen.append(pool.counts())
	return {"wa": wa_between(seen[1], seen[2]), "wa_total": wa_between(seen[0], seen[2]), "blocks_per_s": rate,
		"size_blocks": [seen[2][name][2] for name in pool.names],
		"lag_blocks": lags_between(seen[0], seen[2])}


# ---- a run ----

def partitions_of(lines):
	"""What stands before the first write; and that."""
	sizes, line = [], next(lines)
	while line.startswith("partition "):
		_, name, volume, size = line.split()
		sizes.append((name, int(volume), int(size)))
		line = next(lines)
	return sizes, line


def put_on(pool, sizes, requests, total, flush_blocks):
	clients = Clients(pool, sizes, flush_blocks)
	try:
		return drive(pool, clients, requests, total)
	finally:
		clients.close()


def on_the_pool(program, arguments, flush_blocks, tune, folder, sockets):
	command = [program, "simulate", *arguments, "--requests"]
	with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as source:
		try:
			head = next(source.stdout, None)
			if not head:
				raise Failed("there is nothing to write (see above): more --live?")
			total = int(head.split()[1])
			sizes, first = partitions_of(source.stdout)
			requests = itertools.chain([first], source.stdout)
			pool = Pool(program, folder, sockets, sizes, tune)
			try:
				return put_on(pool, sizes, requests, total, flush_blocks)
			finally:
				pool.stop()
		finally:
			source.kill()


def compare(program, name, arguments, start, policy, options, data, sockets):
	pattern = [f"--flush={options.flush}K"] if options.flush else []  # in order, as the server writes them
	arguments = [*arguments, f"--metaslab={METASLAB_MIB}M", f"--start={start}", "--seed=1"]
	real = on_the_pool(program, arguments, options.flush * 1024 // BLOCK, policy == "learned", data, sockets)
	pattern += [f"--lag={name}={late}+{busy}" for name, (late, busy) in real["lag_blocks"].items()]
	rate = f"--rate={real['blocks_per_s']:.0f}"  # the model's time is the pool's: as many decisions
	model = json.loads(run(program, "simulate", *arguments, *pattern, rate, "--json", f"--policy={policy}"))
	model = model["policies"][policy]
	row = {"scenario": name, "start": start, "policy": policy, "pool": real,
		"model": {"wa": model["wa"], "wa_total": model["wa_total"],
			"size_blocks": [p["size_blocks"] for p in model["partitions"]]}}
	for key in ("wa", "wa_total"):
		row[f"{key}_difference"] = row["model"][key] / real[key] - 1
	return row


def print_row(row):
	pool, model = row["pool"], row["model"]
	print(f"{row['scenario']:24} {row['start']:12} {row['policy']:7}"
		f" {pool['wa']:8.3f} {model['wa']:8.3f} {row['wa_difference']:+7.1%}"
		f" {pool['wa_total']:8.3f} {model['wa_total']:8.3f} {row['wa_total_difference']:+7.1%}"
		f" {pool['blocks_per_s']:9,.0f}", flush=True)


def compare_all(options, data, sockets):
	program, rows = options.build.resolve() / "lcpfs", []
	if not options.json:
		print(f"{'':45} {'last fifth of the writes':^25} {'all':^25}")
		print(f"{'scenario':24} {'start':12} {'policy':7}"
			f"{'pool':>9}{'model':>9}{'apart':>8}{'pool':>9}{'model':>9}{'apart':>8}{'blocks/s':>10}")
	for name, starts, arguments in scenarios(options.live, options.trace):
		if options.only and not any(only in name for only in options.only.split(",")):
			continue
		for start, policy in [(s, "static") for s in starts] + [(starts[0], "learned")] * options.learned:
			rows.append(compare(program, name, arguments, start, policy, options, data, sockets))
			if not options.json:
				print_row(rows[-1])
	if not rows:
		raise Failed(f"no such scenario: {options.only}")
	return rows


def tell(options, rows):
	static = [row for row in rows if row["policy"] == "static"]
	worst = max(abs(row[key]) for row in static for key in ("wa_difference", "wa_total_difference"))
	if options.json:
		result = {"live_mib": options.live, "flush_kib": options.flush, "in_flight": IN_FLIGHT}
		print(json.dumps(result | {"bar": BAR, "worst": worst, "rows": rows}, indent=1))
	else:
		print(f"\nAt fixed sizes pool and model are at most {worst:.1%} apart (bar: {BAR:.0%});"
			f" flushed {f'every {options.flush} KiB' if options.flush else 'never'} by clients.")
	return 0 if worst <= BAR else 1


def options_of(arguments):
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
	parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
	parser.add_argument("--json", action="store_true", help="one object on standard output")
	parser.add_argument("--live", type=int, default=1024, metavar="MIB", help="data in all partitions (1024)")
	parser.add_argument("--only", default="", metavar="NAME,...", help="scenarios whose name has this in it")
	parser.add_argument("--learned", action="store_true", help="also with the engine on")
	parser.add_argument("--trace", default="", metavar="FILE", help="a vscsi trace, too")
	parser.add_argument("--flush", type=int, default=0, metavar="KIB",
		help="each partition's client flushes whenever it has written this much (never)")
	parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd(),
		help="where the pool lies, for as long as it runs (the working directory)")
	return parser.parse_args(arguments)


def main():
	options = options_of(sys.argv[1:])
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	try:
		folder = tempfile.TemporaryDirectory
		with folder(prefix="lcpfs-real-", dir=options.dir) as data, folder(prefix="lcpfs-") as sockets:
			return tell(options, compare_all(options, pathlib.Path(data), pathlib.Path(sockets)))
	except (Failed, OSError, nbd.Error) as error:
		print(f"real: {error}", file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		return 130


if __name__ == "__main__":
	sys.exit(main())
