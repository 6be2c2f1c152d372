#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what should not depend on how large a pool is or how many partitions it has.

  growth  pools of 1 GiB to 1 TiB: how long opening takes after kill -9, by how much was written since the
          server began; and how much memory the server had at its most
  crash   a pool of 100 GiB, half of it live: how long opening takes after kill -9 amid random writes
  idle    256 partitions that nobody uses: their share of a processor
  move    what moving a boundary to and fro costs requests meanwhile

Pools are sparse files. crash writes zeroes and gives their blocks back to the file system, which takes a few
minutes; what it measures takes seconds. Nothing of a pool is in the page cache when it is opened.

usage: bench/limits.py [BUILD] [--only SECTION[,...]] [--rounds N] [--dir DIR] [--small]
"""

import argparse
import array
import bisect
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import nbd

sys.dont_write_bytecode = True
from control import Control
from run import MIB, ROOT, Failed, Server, endless, is_ours, opening_s, print_rows, run, server_us

GIB = 1 << 30
CACHE_MIB = 64
PIECE_BYTES = 32 * MIB
DIG_EVERY_BYTES = 4 * GIB
RATES = 0, 1, 10, 50, None  # moves a second; None: one after the other


class Pool:
	"""Partitions that have room for room_bytes each, served."""

	def __init__(self, options, stack, pool_bytes, partitions, room_bytes, *more, metaslab=()):
		data = pathlib.Path(stack.enter_context(
			tempfile.TemporaryDirectory(prefix="lcpfs-bench-", dir=options.dir)))
		sockets = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lcpfs-")))
		self.options, self.path, self.volume_bytes = options, data / "pool", room_bytes
		self.program, self.client = options.build / "lcpfs", options.build / "tests/serve/nbd-load"
		run(self.program, "create", self.path, "--size", pool_bytes, *metaslab)
		for number in range(partitions):
			run(self.program, "add", self.path, f"p{number}", "--min", room_bytes // 2,
				"--size", room_bytes, "--max", room_bytes * 5 // 4, "--volume", room_bytes)
		self.server = Server("lcpfs", "p0", sockets, lambda socket: [self.program, "serve", self.path,
			"--socket", socket, "--tune", "off", "--cache", f"{CACHE_MIB}M", *more])
		self.server.files = [self.path]
		stack.callback(self.server.stop)
		self.server.wait_until_ready()

	def again(self):
		"""Ends and begins, so that nothing is behind the last checkpoint."""
		self.server.stop()
		self.server.start()
		self.server.wait_until_ready()

	def load(self, what, depth, amount):
		"""The command of a client, as nbd-load takes an amount."""
		return self.client, what, 4096, depth, amount, self.volume_bytes, self.server.socket, "p0"

	def killed(self):
		"""Seconds until it greets, when it was killed."""
		self.server.kill()
		self.server.forget()
		took = opening_s(self.server)
		self.server.wait_until_ready()
		return took

	def own_mib(self):
		return self.server.own_bytes() / MIB


def shown(values, digits=3):
	return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


# ---- sections ----

def growth(options):
	counts = [0, 10_000, 100_000]
	rows = []
	for gib in [1, 10] if options.small else [1, 10, 100, 1024]:
		with contextlib.ExitStack() as stack:
			pool = Pool(options, stack, gib * GIB, 1, gib * GIB * 3 // 4)
			took = {count: [] for count in counts}
			for number in range(options.rounds):
				for count in counts:
					pool.again()
					if count:
						run(*pool.load("randwrite", 32, f"{count}/{number + 1}"))
					took[count].append(pool.killed())
			pool.again()
			run(*pool.load("randwrite", 32, f"{counts[-1]}/0"))
			memory = [pool.own_mib()]
			run(*pool.load("randread", 32, 2))
			memory.append(pool.own_mib())
			cells = [shown(took[count]) for count in counts]
			rows.append([f"{gib:,} GiB", *cells, f"{max(memory):.0f}"])
			print(rows[-1], file=sys.stderr)
	print_rows("Seconds to open after kill -9, by random writes of 4k over the whole volume before; and the "
		f"server's own memory at its most, MiB, with `--cache {CACHE_MIB}M`:",
		["", *[f"{count:,} writes" for count in counts], "memory"], rows)


def fill_half(pool, live_bytes):
	"""With zeroes; what they take of the file is given back whenever nobody writes."""
	for start in range(0, live_bytes, DIG_EVERY_BYTES):
		client = nbd.NBD()
		client.connect_uri(pool.server.uri)
		for at in range(start, min(start + DIG_EVERY_BYTES, live_bytes), PIECE_BYTES):
			client.pwrite(bytes(PIECE_BYTES), at)
		client.flush()
		client.shutdown()
		pool.server.stop()
		run("fallocate", "--dig-holes", pool.path)
		pool.server.start()
		pool.server.wait_until_ready()
		print(f"{min(start + DIG_EVERY_BYTES, live_bytes) // GIB} GiB", file=sys.stderr)


def crash(options):
	gib = 4 if options.small else 100
	with contextlib.ExitStack() as stack:
		pool = Pool(options, stack, gib * GIB, 1, gib * GIB * 85 // 100)
		fill_half(pool, gib * GIB // 2)
		listed = json.loads(run(pool.program, "list", pool.path, "--json"))
		live = listed["partitions"][0]["live_blocks"] * 4096 / GIB
		took = []
		for number in range(options.rounds):
			writer = endless(options, pool.server, "randwrite", 4096, 32, gib * 512, "p0")
			time.sleep(3 + number)
			took.append(pool.killed())
			writer.wait()
			print(f"opened: {took[-1]:.3f} s", file=sys.stderr)
		print(f"\nA pool of {gib} GiB, {live:.1f} GiB of it live: opened after kill -9 amid random writes",
			f"in {shown(took)} s; the server's own memory at its most {pool.own_mib():.0f} MiB",
			f"with `--cache {CACHE_MIB}M`.")


def idle(options):
	seconds, count = (5, 16) if options.small else (30, 256)
	with contextlib.ExitStack() as stack:
		pool = Pool(options, stack, count * 32 * MIB, count, 16 * MIB, metaslab=("--metaslab", "1M"))
		shares = []
		for mode in ("off", "on"):
			run(pool.program, "tune", pool.path, mode)
			time.sleep(5)
			before = server_us(pool.server)
			time.sleep(seconds)
			shares.append((mode, (server_us(pool.server) - before) / 1e6 / seconds))
		print(f"\n{count} partitions that nobody uses take of one processor: "
			+ ", ".join(f"{share:.2%} with `--tune {mode}`" for mode, share in shares) + ".")


def moving(pool, client, room_bytes, rate):
	"""A sixteenth of the room goes to and fro until the client ends: when each move began and ended, in ns."""
	control, part, moves = Control(pool.server.socket), room_bytes // 16, []
	began = time.monotonic()
	if rate == 0:
		client.wait()
	while client.poll() is None:
		more = 0 if len(moves) % 2 else part
		sizes = ("p0", room_bytes + more), ("p1", room_bytes - more)
		start = time.monotonic_ns()
		for name, size in sorted(sizes, key=lambda p: p[1]):
			control.ask(command="resize", name=name, size_bytes=size)
		moves.append((start, time.monotonic_ns()))
		time.sleep(max(0, began + len(moves) / rate - time.monotonic()) if rate else 0)
	return moves


def split(path, moves):
	"""Microseconds of the requests that were under way during a move, and of all others."""
	times = array.array("Q")
	with open(path, "rb") as file:
		times.frombytes(file.read())
	during, other = [], []
	ends = [end for _, end in moves]
	for began, ended in zip(times[::2], times[1::2]):
		at = bisect.bisect(ends, began)
		met = at < len(moves) and moves[at][0] < ended
		(during if met else other).append((ended - began) / 1000)
	return during, other


def percentile(values, part):
	return sorted(values)[min(int(len(values) * part), len(values) - 1)] if values else 0


def move(options):
	seconds, room = 2 if options.small else 6, 512 * MIB
	with contextlib.ExitStack() as stack:
		pool = Pool(options, stack, 3 * room, 2, room)
		pool.volume_bytes = room * 3 // 4  # what is used of it
		for name in ("p0", "p1"):
			count = pool.volume_bytes // 131072
			run(pool.client, "write", 131072, 16, f"{count}/1", pool.volume_bytes, pool.server.socket,
				name)
		rows = []
		for what, title in (("randrw70", "70 % reads, 30 % writes"), ("randflush", "write + flush")):
			usual = None
			for rate in RATES:
				print(f"{title}: {rate}", file=sys.stderr)
				usual, cells = move_row(options, pool, what, seconds, rate, usual)
				rows.append([f"{title}, 4k, QD4", *cells])
	print_rows("Microseconds of a request, while a boundary moves to and fro: of those that were under way "
		"during a move, and of the others; and how many times the p99 of these that is, and that without "
		"moves:", ["", "moves a second", "ms of a move", "met", "p99 met", "others", "times",
		"times without", "p99.9 met", "others", "longest met", "others"], rows)


def move_row(options, pool, what, seconds, rate, usual):
	"""The p99 without moves, and the cells of a row."""
	during, other, moves = [], [], []
	path, load = pool.path.with_name("times"), pool.load(what, 4, seconds)
	for _ in range(options.rounds):
		path.unlink(missing_ok=True)
		with subprocess.Popen([str(a) for a in load], stdout=subprocess.DEVNULL,
				env=os.environ | {"NBD_LOAD_TIMES": str(path)}) as client:
			now = moving(pool, client, room_bytes=512 * MIB, rate=rate)
		if client.returncode:
			raise Failed(f"the client ended with {client.returncode}")
		for values, more in zip((during, other), split(path, now)):
			values += more
		moves += now
	p99 = percentile(during, 0.99), percentile(other, 0.99)
	took_ms = statistics.median(end - start for start, end in moves) / 1e6 if moves else 0
	usual = usual or p99[1]
	cells = [f"{len(moves) / options.rounds / seconds:.0f}", f"{took_ms:.1f}", f"{len(during):,}",
		*[f"{v:,.0f}" for v in p99], f"{p99[0] / p99[1]:.2f}" if during and other else "",
		f"{p99[0] / usual:.2f}" if during else ""]
	for part in (0.999, 1):
		cells += [f"{percentile(values, part):,.0f}" for values in (during, other)]
	return usual, cells


SECTIONS = {"growth": growth, "crash": crash, "idle": idle, "move": move}


def main():
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
	parser.add_argument("--only", default=",".join(SECTIONS), metavar="SECTION[,...]")
	parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each (3)")
	parser.add_argument("--small", action="store_true", help="to see that it runs")
	parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd(), help="for pools")
	options = parser.parse_args()
	options.build = options.build.resolve()
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	if is_ours(options.build):
		run("ninja", "-C", options.build, "lcpfs", "tests/serve/nbd-load")
	try:
		for name in options.only.split(","):
			SECTIONS[name](options)
	except (Failed, OSError, nbd.Error) as error:
		print(f"bench: {error}", file=sys.stderr)
		return 1
	return 0


if __name__ == "__main__":
	sys.exit(main())
