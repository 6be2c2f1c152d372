#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures lcpfs against its peers: same client (fio over NBD), same disk, same run.

All servers run from beginning to end; every job is run against one after the other, then the next job, and all
of that again in each round, so that a machine that is busy with other things is busy for all of them. Each job
ends with a flush, inside its time, so none leaves its writing to the next. What counts is ratios; absolute numbers
are the machine's.

usage: bench/run.py [BUILD] [--json] [--seconds N] [--rounds N] [--dir DIR]
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
VOLUME_MIB = 768
PARTITION_MIB = 1024  # so lcpfs is 75 % full, and its cleaning is in what is measured
POOL_MIB = 1152
START_S = 10
STOP_S = 60

# name, what is counted, fio's options
JOBS = [
	("sequential write 1M", "MiB/s", ["--rw=write", "--bs=1m", "--iodepth=4"]),
	("random write 4k qd16", "ops/s", ["--rw=randwrite", "--bs=4k", "--iodepth=16"]),
	("random read 4k qd16", "ops/s", ["--rw=randread", "--bs=4k", "--iodepth=16"]),
	("sequential read 1M", "MiB/s", ["--rw=read", "--bs=1m", "--iodepth=4"]),
	("write+fsync 4k qd1", "ops/s", ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"]),
	("write 4k qd1", "ops/s", ["--rw=randwrite", "--bs=4k", "--iodepth=1"]),
]


class Failed(Exception):
	pass


def run(*arguments):
	command = [str(a) for a in arguments]
	done = subprocess.run(command, capture_output=True, text=True, check=False)
	if done.returncode:
		raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
	return done.stdout


# ---- servers ----

class Server:
	"""A process of ours that serves one volume on a Unix socket."""

	def __init__(self, name, export, folder, command):
		self.name = name
		self.socket = folder / f"{name}.sock"
		self.uri = f"nbd+unix:///{export}?socket={self.socket}"
		self.log_path = folder / f"{name}.log"
		with open(self.log_path, "w", encoding="utf-8") as log:
			self.process = subprocess.Popen(
				[str(a) for a in command(self.socket)], start_new_session=True,
				stdin=subprocess.DEVNULL, stdout=log, stderr=log)

	def wait_until_ready(self):
		deadline = time.monotonic() + START_S
		while not self.answers():
			if self.process.poll() is not None or time.monotonic() > deadline:
				raise Failed(f"{self.name} does not serve: {self.log_path.read_text().strip()}")
			time.sleep(0.05)

	def answers(self):
		asked = subprocess.run(["nbdinfo", "--size", self.uri], capture_output=True, check=False)
		return asked.returncode == 0

	def stop(self):
		self.process.terminate()
		try:
			self.process.wait(STOP_S)
		except subprocess.TimeoutExpired:
			os.killpg(self.process.pid, signal.SIGKILL)  # its session: it and what it started
			self.process.wait()


def lcpfs(build, data, sockets):
	program, pool = build / "lcpfs", data / "pool.lcpfs"
	run(program, "create", pool, "--size", f"{POOL_MIB}M", "--metaslab", "1M")
	run(program, "add", pool, "bench", "--space", "--min", "64M", "--max", f"{PARTITION_MIB}M",
		"--size", f"{PARTITION_MIB}M", "--volume", f"{VOLUME_MIB}M")
	return Server("lcpfs", "bench", sockets,
		lambda socket: [program, "serve", pool, "--socket", socket, "--tune", "off"])


def raw_file(_build, data, sockets):
	path = data / "raw"
	with open(path, "wb") as file:
		file.truncate(VOLUME_MIB * MIB)
	return Server("file", "", sockets, lambda socket: ["nbdkit", "-f", "-U", socket, "file", path])


def qcow2(_build, data, sockets):
	if not shutil.which("qemu-nbd") or not shutil.which("qemu-img"):
		return None
	path = data / "disk.qcow2"
	run("qemu-img", "create", "-q", "-f", "qcow2", path, f"{VOLUME_MIB}M")
	return Server("qcow2", "", sockets,
		lambda socket: ["qemu-nbd", "-t", "-f", "qcow2", "-k", socket, path])


def null(_build, _data, sockets):
	return Server("null", "", sockets,
		lambda socket: ["nbdkit", "-f", "-U", socket, "null", f"size={VOLUME_MIB}M"])


def start_all(servers, build, data, sockets):
	"""Fills the list as it goes, so that whoever stops them stops those that did start."""
	for make in (lcpfs, raw_file, qcow2, null):
		server = make(build, data, sockets)
		if server:
			servers.append(server)
	for server in servers:
		server.wait_until_ready()


# ---- the client ----

def fio(server, *options):
	output = run("fio", "--name=job", "--ioengine=nbd", f"--uri={server.uri}", f"--size={VOLUME_MIB}m",
		"--end_fsync=1", "--output-format=json", *options)
	job = json.loads(output[output.index("{\n"):])["jobs"][0]  # the NBD engine says something before it
	if job["error"]:
		raise Failed(f"fio against {server.name}: error {job['error']}")
	return job


def fill(servers):
	"""What was never written is cheaper, to each in its own way: none is measured so."""
	for server in servers:
		fio(server, "--rw=write", "--bs=1m", "--iodepth=4")


def measure(server, unit, options, seconds):
	job = fio(server, *options, "--norandommap", "--time_based", f"--runtime={seconds}")
	side = max((job["read"], job["write"]), key=lambda s: s["io_bytes"])
	if not side["runtime"]:
		raise Failed(f"fio did nothing against {server.name}")
	amount = side["io_bytes"] / MIB if unit == "MiB/s" else side["total_ios"]
	return amount * 1000 / side["runtime"]


def measure_all(servers, rounds, seconds):
	values = {(job, server.name): [] for job, _, _ in JOBS for server in servers}
	for number in range(1, rounds + 1):
		for job, unit, options in JOBS:
			for server in servers:
				value = measure(server, unit, options, seconds)
				values[job, server.name].append(value)
				print(f"round {number}: {job}: {server.name} {value:,.0f} {unit}", file=sys.stderr)
	return values


# ---- telling ----

def measured(rounds):
	return {"median": statistics.median(rounds), "rounds": rounds}


def ratio(mine, theirs):
	"""Of the medians; and the smallest and largest of one round, which says how noisy it was."""
	each = [a / b for a, b in zip(mine, theirs)]
	return {
		"ratio": statistics.median(mine) / statistics.median(theirs),
		"ratio_min": min(each),
		"ratio_max": max(each),
	}


def summary(servers, values):
	for job, unit, _ in JOBS:
		mine = values[job, "lcpfs"]
		peers = {}
		for server in servers[1:]:
			theirs = values[job, server.name]
			peers[server.name] = {**measured(theirs), **ratio(mine, theirs)}
		yield {"job": job, "unit": unit, "lcpfs": measured(mine), "peers": peers}


def print_table(jobs, servers):
	peers = [s.name for s in servers[1:]]
	print(f"{'median':22} {'unit':>6} {'lcpfs':>9}" + "".join(f" {p:>9}" for p in peers))
	for job in jobs:
		print(f"{job['job']:22} {job['unit']:>6} {job['lcpfs']['median']:9,.0f}"
			+ "".join(f" {job['peers'][p]['median']:9,.0f}" for p in peers))
	print()
	print(f"{'lcpfs/peer (rounds)':22}" + "".join(f" {p:>18}" for p in peers))
	for job in jobs:
		cells = [job["peers"][p] for p in peers]
		shown = (f"{c['ratio']:.2f} ({c['ratio_min']:.2f}–{c['ratio_max']:.2f})" for c in cells)
		print(f"{job['job']:22}" + "".join(f" {s:>18}" for s in shown))


def options_of(arguments):
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
	parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
	parser.add_argument("--json", action="store_true", help="one object on standard output")
	parser.add_argument("--seconds", type=int, default=5, metavar="N", help="of each job (5)")
	parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all jobs (3)")
	parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd(),
		help="where the pool and the images lie, for as long as it runs (the working directory)")
	options = parser.parse_args(arguments)
	if options.seconds < 1 or options.rounds < 1:
		parser.error("--seconds and --rounds start at 1")
	return options


def bench(options, data, sockets):
	build, servers = options.build.resolve(), []
	load = [os.getloadavg()[0]]
	try:
		start_all(servers, build, data, sockets)
		fill(servers)
		values = measure_all(servers, options.rounds, options.seconds)
	finally:
		for server in servers:
			server.stop()
	load.append(os.getloadavg()[0])
	jobs = list(summary(servers, values))
	if options.json:
		result = {"seconds": options.seconds, "rounds": options.rounds, "processors": os.cpu_count()}
		result |= {"load_before": load[0], "load_after": load[1], "jobs": jobs}
		print(json.dumps(result, indent=1))
		return
	print_table(jobs, servers)
	print(f"\nrounds: {options.rounds}, seconds: {options.seconds}, processors: {os.cpu_count()},"
		f" load average: {load[0]:.1f} before, {load[1]:.1f} after.\n"
		"Absolute numbers are as noisy as the machine is busy: read the ratios, with their range.")


def main():
	options = options_of(sys.argv[1:])
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	try:
		folder = tempfile.TemporaryDirectory
		# the sockets apart from the data: their paths have to be short
		with folder(prefix="lcpfs-bench-", dir=options.dir) as data, folder(prefix="lcpfs-") as sockets:
			bench(options, pathlib.Path(data), pathlib.Path(sockets))
	except (Failed, OSError) as error:
		print(f"bench: {error}", file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		return 130
	return 0


if __name__ == "__main__":
	sys.exit(main())
