#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Times what snapshots cost, each step against what it may cost.

One step after the other, each with a pool of its own in a file, served as users do; clients are fio, libnbd and
the lcpfs command. Times are those of this machine: so nothing else should run. Each step takes less than two
minutes, but `ten-thousand`, which only runs when it is named.

usage: bench/snapshot_bars.py [BUILD] [--folder FOLDER] [--only STEP]... [--json]
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from control import Control
from run import MIB, ROOT, Failed

GIB = 1 << 30
BLOCK = 4096


def run(*arguments, **how):
	command = [str(a) for a in arguments]
	done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **how)
	if done.returncode:
		raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout).decode().strip()}")
	return done.stdout


class Bed:
	"""A pool with one volume, v, and a server."""

	def __init__(self, options, size, volume, space=None):
		self.lcpfs = pathlib.Path(options.build).resolve() / "lcpfs"
		self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lcpfs-bars.", dir=options.folder))
		self.pool, self.socket = self.folder / "pool", self.folder / "s"
		self.server = None
		space = space or size - 256 * MIB
		run(self.lcpfs, "create", self.pool, "--size", size)
		run(self.lcpfs, "add", self.pool, "v", "--min", "64M", "--max", space, "--size", space,
			"--volume", volume, "--thin", "--space")
		self.serve()

	def __enter__(self):
		return self

	def __exit__(self, *_):
		self.stop()
		shutil.rmtree(self.folder)

	def serve(self):
		start = time.monotonic()
		command = [self.lcpfs, "serve", self.pool, "--socket", self.socket, "--tune", "off"]
		self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
		self.server.stdout.readline()
		return time.monotonic() - start

	def stop(self):
		if self.server:
			self.server.terminate()
			self.server.wait()
			self.server = None

	def do(self, command, *arguments):
		return run(self.lcpfs, command, self.pool, *arguments)

	def timed(self, command, *arguments):
		start = time.monotonic()
		self.do(command, *arguments)
		return time.monotonic() - start

	def write(self, addresses):
		"""A block at each, and a flush."""
		import nbd  # where it is needed
		h = nbd.NBD()
		h.connect_uri(f"nbd+unix:///v?socket={self.socket}")
		for i, address in enumerate(addresses):
			h.pwrite(bytes([i % 255 + 1]) * BLOCK, address)
		h.flush()
		h.shutdown()

	def read_bytes(self):
		"""That the server has had read from the device."""
		io = pathlib.Path(f"/proc/{self.server.pid}/io").read_text()
		return int(io.split("read_bytes: ")[1].split()[0])

	def list(self):
		return json.loads(self.do("list", "--json"))["partitions"][0]

	def fio(self, name="v", **how):
		"""One job's result."""
		said = self.start_fio(name, **how).communicate()[0].decode()
		return json.loads(said[said.index("{"):])["jobs"][0]

	def start_fio(self, name="v", **how):
		job = {"ioengine": "nbd", "uri": f"nbd+unix:///{name}?socket={self.socket}", "randrepeat": 0,
			"output-format": "json", "name": "job", **how}
		return subprocess.Popen(["fio", *(f"--{k}={v}" for k, v in job.items())], cwd=self.folder,
			stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

	def settled(self):
		"""How long until nothing comes free any more."""
		start, before = time.monotonic(), None
		while (now := self.list()["data_blocks"]) != before or time.monotonic() - start < 1:
			if now != before:
				last = time.monotonic() - start
			before = now
			time.sleep(0.1)
		return last


def p(job, kind, percent):
	"""A percentile, in microseconds."""
	return job[kind]["clat_ns"]["percentile"][f"{percent:.6f}"] / 1000


# ---- the steps: each gives lines of (what, measured, bar) ----

def take(options):
	"""Snapshots of a volume under full write load: how long each takes, and what the writers wait."""
	for what, volume, sparse in ("full, 512 MiB", 512 * MIB, False), ("1 TiB, sparse", 1 << 40, True):
		with Bed(options, 3 * GIB, volume) as bed:
			if sparse:
				bed.write(range(0, volume, 64 * MIB))
			bed.fio(rw="write", bs="1m", size="512m", iodepth=4)
			job = bed.start_fio(rw="randwrite", bs="4k", iodepth=16, size="512m", time_based=1,
				runtime=24, write_lat_log="l", log_offset=0)
			begin = time.monotonic()
			time.sleep(6)
			took, at = [], []
			for i in range(8):
				at.append(time.monotonic() - begin)
				took.append(1000 * Control(bed.socket).ask(command="snapshot", names=f"v@s{i}"))
				time.sleep(2)
			job.communicate()
			command = min(bed.timed("list") for _ in range(5)) * 1000
			seconds = {}
			for line in (bed.folder / "l_clat.1.log").read_text().splitlines():
				ms, ns = line.split(",")[:2]
				seconds.setdefault(int(ms) // 500, []).append(int(ns) / 1000)
			p99 = {s: statistics.quantiles(v, n=100)[98] for s, v in seconds.items() if len(v) > 100}
			usual = statistics.median(v for s, v in p99.items() if 2 <= s < 11)
			hit = [max(p99.get(int(a * 2) + i, 0) for i in range(2)) for a in at]
			yield f"snapshot of a volume ({what}) under load", f"{statistics.median(took):.1f} ms, " \
				f"at most {max(took):.1f} (the command adds {command:.1f})", "10 ms"
			yield "writers' p99 in the second of it", f"{statistics.median(hit):.0f} us, " \
				f"at most {max(hit):.0f}; usual {usual:.0f}", "2 x usual"


def overwrite(options):
	"""Random overwrites of 4 KiB before and after a snapshot."""
	with Bed(options, 3 * GIB, 512 * MIB) as bed:
		bed.fio(rw="write", bs="1m", size="512m", iodepth=4)

		def once(what):
			before = bed.list()
			job = bed.fio(rw="randwrite", bs="4k", iodepth=1, size="512m", io_size="128m",
				norandommap=0, randseed=7, allrandrepeat=1, randrepeat=1)
			bed.do("snapshot", "v@settle")
			bed.do("destroy", "v@settle")
			after = bed.list()
			blocks = (after["device_blocks"] - before["device_blocks"]) / (128 * MIB / BLOCK)
			return what, p(job, "write", 50), blocks
		once("warm")
		found = [once("before")]
		bed.do("snapshot", "v@a")
		found += [once("first, scattered"), once("once touched")]
		bars = {"once touched": "1.10 x before", "first, scattered": "1.15 x blocks"}
		for what, us, blocks in found:
			yield f"overwrite, {what}: p50", f"{us:.1f} us, {blocks:.2f} blocks written each", \
				bars.get(what, "")


def many(options, count=1000):
	"""Many snapshots of a volume: what reading, writing, opening, listing and destroying take."""
	with Bed(options, 4 * GIB, 512 * MIB) as bed:
		bed.fio(rw="write", bs="1m", size="512m", iodepth=4)
		chance = random.Random(1)

		def speeds():
			bed.stop()
			opened = bed.serve()
			bed.fio(rw="randread", bs="4k", iodepth=8, size="512m", time_based=1, runtime=3)
			read = bed.fio(rw="randread", bs="4k", iodepth=8, size="512m", time_based=1, runtime=5)
			write = bed.fio(rw="randwrite", bs="4k", iodepth=8, size="512m", time_based=1, runtime=8)
			return opened * 1000, read["read"]["iops"], write["write"]["iops"]
		speeds()
		before = speeds()
		start = time.monotonic()
		for i in range(count):
			writes = range(8 if count <= 1000 else 1)
			bed.write([chance.randrange(512 * MIB // BLOCK) * BLOCK for _ in writes])
			bed.do("snapshot", f"v@s{i}")
		took = time.monotonic() - start
		after = speeds()
		yield f"{count:,} snapshots, one after another", f"{took / count * 1000:.1f} ms each", ""
		for what, a, b, unit in zip(("open", "read", "write"), before, after, ("ms", "per s", "per s")):
			yield f"{what} with {count:,} snapshots", f"{b:,.0f} {unit}; {a:,.0f} without", "5 %"
		listed = bed.timed("list", "--snapshots", "-H", "-o", "name,created")
		first = bed.timed("list", "--snapshots")
		again = bed.timed("list", "--snapshots")
		yield f"list of {count:,}", f"{listed:.2f} s; with sizes {first:.2f}, then {again:.2f}", "0.5 s"
		held = bed.list()["data_blocks"]
		start = time.monotonic()
		bed.do("destroy", "v@%")
		said = time.monotonic() - start
		gone = said + bed.settled()
		freed = held - bed.list()["data_blocks"]
		yield f"destroy all {count:,} in one call", \
			f"{said:.2f} s, all free after {gone:.2f} s ({freed:,} blocks)", "2 x the next"
		bed.do("snapshot", "v@one")
		bed.fio(rw="randwrite", bs="4k", iodepth=8, size="512m", io_size=freed * BLOCK)
		start = time.monotonic()
		bed.do("destroy", "v@one")
		gone = time.monotonic() - start + bed.settled()
		yield "destroy one that holds as much", f"{gone:.2f} s", ""


def ten_thousand(options):
	"""The same with 10,000."""
	yield from many(options, 10000)


def clean(options):
	"""Copies by cleaning for each block that a client writes: beside 100 snapshots, or as much cold data."""
	found, hot, cold = {}, 256 * MIB, 0
	for snapshots in 100, 0:
		with Bed(options, 2 * GIB, 1536 * MIB, 1300 * MIB) as bed:
			bed.fio(rw="write", bs="1m", size=hot, iodepth=4)
			if cold:
				bed.fio(rw="write", bs="1m", offset=hot, size=cold, iodepth=4)
			for i in range(snapshots):
				bed.do("snapshot", f"v@s{i}")
				bed.fio(rw="randwrite", bs="4k", iodepth=16, size=hot, io_size=5 * MIB)
			bed.fio(rw="randwrite", bs="4k", iodepth=16, size=hot, time_based=1, runtime=15)
			before = bed.list()
			bed.fio(rw="randwrite", bs="4k", iodepth=16, size=hot, time_based=1, runtime=20)
			after = bed.list()
			copies = (after["copied_blocks"] - before["copied_blocks"]) / (
				after["written_blocks"] - before["written_blocks"])
			live = after["live_blocks"] * BLOCK
			found[snapshots] = copies, live / MIB
			cold = int((live - hot * 1.02) / 1.02) // MIB * MIB  # with its tables
	for snapshots, (copies, live) in sorted(found.items()):
		yield f"cleaning with {snapshots} snapshots", \
			f"{copies:.3f} copies per user block, {live:,.0f} MiB live", "within 5 %"


def increments(options):
	"""Sending nothing of a large volume, and 256 MiB that have changed of one of 2 GiB: what is read."""
	with Bed(options, 4 * GIB, 100 * GIB) as bed:
		bed.write(range(0, 100 * GIB, 25 * MIB))
		bed.do("snapshot", "v@a")
		bed.do("snapshot", "v@b")
		took = []
		for _ in range(5):
			start = time.monotonic()
			size = len(run(bed.lcpfs, "send", bed.pool, "v@b", "--from", "a"))
			took.append((time.monotonic() - start) * 1000)
		yield "empty increment of 100 GiB", f"{statistics.median(took):.1f} ms, {size} bytes", \
			"50 ms, 1 KiB"
	with Bed(options, 6 * GIB, 4 * GIB) as bed:
		bed.fio(rw="write", bs="1m", size="2g", iodepth=4)
		bed.do("snapshot", "v@a")
		bed.fio(rw="randwrite", bs="64k", size="2g", io_size="256m", iodepth=4)
		bed.do("snapshot", "v@b")
		bed.stop()
		os.sync()
		pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
		bed.serve()
		before = bed.read_bytes()
		size = len(run(bed.lcpfs, "send", bed.pool, "v@b", "--from", "a"))
		read = bed.read_bytes() - before
		yield "256 MiB changed of 2 GiB: read", \
			f"{read / MIB:.0f} MiB for a stream of {size / MIB:.0f} MiB", "1.05 x, and changed pages"


def streams(options):
	"""A whole volume sent and received, beside reading and writing it."""
	with Bed(options, 5 * GIB, 1 * GIB) as bed:
		add = ["--min", "64M", "--max", "1600M", "--size", "64M", "--volume", "1G", "--thin"]
		run(bed.lcpfs, "add", bed.pool, "w", *add)
		size, rates = 1 * GIB, {}

		def rate(what, command):
			os.sync()
			start = time.monotonic()
			command()
			rates.setdefault(what, []).append(size / MIB / (time.monotonic() - start))
		stream = bed.folder / "stream"
		send, receive = f"{bed.lcpfs} send {bed.pool}", f"{bed.lcpfs} receive {bed.pool}"
		for turn in range(3):
			rate("write", lambda: bed.fio(rw="write", bs="1m", size="1g", iodepth=4, end_fsync=1))
			bed.do("snapshot", f"v@{turn}")
			pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
			rate("read", lambda: bed.fio(rw="read", bs="1m", size="1g", iodepth=4))
			pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
			rate("send", lambda n=turn: run("sh", "-c", f"{send} v@{n} >/dev/null"))
			if turn:
				run("sh", "-c", f"{send} v@{turn} >{stream}")
				name = "w" if turn == 1 else "x"
				if turn == 2:
					run(bed.lcpfs, "remove", bed.pool, "w", "--force")
					run(bed.lcpfs, "add", bed.pool, "x", *add)
				rate("receive", lambda n=name: run("sh", "-c", f"{receive} {n} <{stream}"))
			bed.do("destroy", f"v@{turn}")
		best = {what: max(all_) for what, all_ in rates.items()}
		yield "send", f"{best['send']:.0f} MiB/s; reading {best['read']:.0f}", "0.8 x"
		yield "receive", f"{best['receive']:.0f} MiB/s; writing {best['write']:.0f}", "0.8 x"


STEPS = {"take": take, "overwrite": overwrite, "many": many, "clean": clean, "increments": increments,
	"streams": streams, "ten-thousand": ten_thousand}


def main():
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
	parser.add_argument("build", nargs="?", default=str(ROOT / "build"))
	parser.add_argument("--folder", default="/var/tmp", help="where the pools lie")
	parser.add_argument("--only", action="append", choices=STEPS)
	parser.add_argument("--json", action="store_true")
	o = parser.parse_args()
	lines = []
	for step in o.only or [name for name in STEPS if name != "ten-thousand"]:
		for line in STEPS[step](o):
			lines.append(line)
			if not o.json:
				print("{:52} {:70} {}".format(*line), flush=True)
	if o.json:
		print(json.dumps(lines))


if __name__ == "__main__":
	try:
		main()
	except Failed as failed:
		sys.exit(f"snapshot_bars.py: {failed}")
