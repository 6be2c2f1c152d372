#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures lcpfs against its peers: same client, same disk, same run.

Every job is so much work that ends in a flush, inside its time: none leaves its writing to the next. The servers
take turns: a job against each of them, then the next job, and all of that again in each round. What counts is
ratios; absolute numbers are the machine's. It refuses to run where something else runs. In a virtual machine root
touches all free memory first and keeps the host from taking it back (memory.py).

  null    nbdkit's null plugin: stores nothing. The ceiling of client and transport
  file    nbdkit's file plugin, a file on the file system of --dir: overwrites in place, no checksums of its own
  btrfs   the same on btrfs, on a loop device over a file in --dir: copies on write, checksums. Takes root
  qcow2   qemu-storage-daemon
  lcpfs   lcpfs serve

Jobs (--only): those of a new volume, half of which is in use; several-… with four volumes at once; beside, one
that flushes beside one that writes; aged-…, the first ones again on a partition 90 % full that was overwritten at
random with four times its size; crash, how long opening takes after kill -9.

usage: bench/run.py [BUILD] [--only JOB[,...]] [--peers PEER[,...]] [--rounds N] [--size MIB] [--quick]
                    [--client nbd-load|fio] [--cache SIZE] [--dir DIR] [--force] [--no-hold]
                    [--json FILE] [--picture FILE] [--page FILE]
       bench/run.py --show FILE... [--picture FILE] [--page FILE]      of what --json has written, together
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import pathlib
import platform
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing

sys.dont_write_bytecode = True
import memory  # pylint: disable=wrong-import-position
ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
START_S = 10
STOP_S = 60
IDLE_S = 1
IDLE_WAIT_S = 5
BUSY_MAX = 0.05  # part of all processors, and of the disk's time, that others may take of a machine that is idle
AGED_FULL = 0.9
AGED_TIMES = 4
AGED_PART = 4  # a quarter of --size: four times that has to be written to the slowest
SEVERAL = 4
COMMIT = "describe", "--always", "--dirty"
TABLES, TABLES_END = "<!-- tables of bench/run.py --page -->\n", "<!-- end of these tables -->\n"


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
	"""A process of ours that serves volumes on a Unix socket."""

	def __init__(self, name, export, folder, command):
		self.name, self.command = name, command
		self.socket = folder / f"{name}.sock"
		self.uri = f"nbd+unix:///{export}?socket={self.socket}"
		self.log_path = folder / f"{name}.log"
		self.files = []  # that it keeps its data in
		self.start()

	def start(self):
		with open(self.log_path, "w", encoding="utf-8") as log:
			self.process = subprocess.Popen(
				[str(a) for a in self.command(self.socket)], start_new_session=True,
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
			self.kill()

	def kill(self):
		os.killpg(self.process.pid, signal.SIGKILL)  # its session: it and what it started
		self.process.wait()

	def own_bytes(self):
		"""Its own memory at its most."""
		status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
		return 1024 * next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)

	def peak_bytes(self):
		"""That, and what the kernel keeps of its files now."""
		cached = run("fincore", "-b", "-n", "-r", "-o", "RES", *self.files).split() if self.files else []
		return self.own_bytes() + sum(int(value) for value in cached)

	def forget(self):
		"""The kernel drops what it keeps of its files."""
		for path in self.files:
			with open(path, "rb") as file:
				os.fsync(file.fileno())
				os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def server_us(server):
	stat = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text(encoding="utf-8")
	fields = stat.rsplit(")", 1)[1].split()
	return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


class Place:
	"""Where the data lie: volumes of volume_mib each; a partition has room for room_mib of data."""

	def __init__(self, options, stack, volumes, volume_mib, room_mib):
		self.options, self.stack = options, stack
		self.volumes, self.volume_mib, self.room_mib = volumes, volume_mib, room_mib
		# the sockets apart from the data: their paths have to be short
		self.data = pathlib.Path(stack.enter_context(
			tempfile.TemporaryDirectory(prefix="lcpfs-bench-", dir=options.dir)))
		self.sockets = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lcpfs-")))
		self.names = [f"v{number}" for number in range(volumes)]

	def serve(self, name, files, command):
		server = Server(name, "v0", self.sockets, command)
		self.stack.callback(server.stop)
		server.files = files
		server.wait_until_ready()
		return server

	def empty_files(self, folder):
		folder.mkdir()
		for name in self.names:
			with open(folder / name, "wb") as file:
				file.truncate(self.volume_mib * MIB)
		return [folder / name for name in self.names]

	def null(self):
		size = f"size={self.volume_mib}M"
		return self.serve("null", [], lambda socket: ["nbdkit", "-f", "-U", socket, "null", size])

	def file(self):
		folder = self.data / "file"
		return self.serve("file", self.empty_files(folder),
			lambda socket: ["nbdkit", "-f", "-U", socket, "file", f"dir={folder}"])

	def btrfs(self):
		"""Has twice the room: it frees an extent when all of it was overwritten, not before."""
		image, mount = self.data / "btrfs.image", self.data / "btrfs"
		run("fallocate", "-l", f"{2 * self.volumes * self.volume_mib + 256}M", image)
		# past the page cache, which would keep all of it twice
		device = run("losetup", "--find", "--show", "--direct-io=on", image).strip()
		self.stack.callback(run, "losetup", "-d", device)
		run("mkfs.btrfs", "-q", device)
		mount.mkdir()
		run("mount", "-t", "btrfs", device, mount)
		self.stack.callback(run, "umount", mount)
		folder = mount / "data"
		return self.serve("btrfs", self.empty_files(folder),
			lambda socket: ["nbdkit", "-f", "-U", socket, "file", f"dir={folder}"])

	def qcow2(self):
		files, more = [], []
		for name in self.names:
			path = self.data / f"{name}.qcow2"
			run("qemu-img", "create", "-q", "-f", "qcow2", path, f"{self.volume_mib}M")
			files.append(path)
			more += ["--blockdev", f"driver=file,node-name=file-{name},filename={path}", "--blockdev",
				f"driver=qcow2,node-name={name},file=file-{name}", "--export",
				f"type=nbd,id=export-{name},node-name={name},name={name},writable=on"]
		return self.serve("qcow2", files, lambda socket: ["qemu-storage-daemon",
			"--nbd-server", f"addr.type=unix,addr.path={socket}", *more])

	def lcpfs(self):
		program, pool = self.options.build / "lcpfs", self.data / "pool.lcpfs"
		run(program, "create", pool, "--metaslab", "1M",
			"--size", f"{self.volumes * (self.room_mib * 5 // 4 + 16) + 64}M")
		for name in self.names:
			run(program, "add", pool, name, "--min", f"{self.room_mib}M", "--max", f"{self.room_mib}M",
				"--volume", f"{self.volume_mib}M")
		more = ["--cache", self.options.cache] if self.options.cache else []
		return self.serve("lcpfs", [pool],
			lambda socket: [program, "serve", pool, "--socket", socket, "--tune", "off", *more])


PEERS = ["null", "file", "btrfs", "qcow2", "lcpfs"]


# ---- jobs ----

class Job(typing.NamedTuple):
	name: str
	what: str  # as nbd-load calls it
	block_bytes: int
	depth: int
	part: float  # how much it reads and writes, of one volume's used part
	clients: int = 1
	title: str = ""


JOBS = [
	Job("fill", "write", 131072, 16, 1, title="fill, 128k, QD16"),
	Job("read", "read", 131072, 16, 1, title="sequential read, 128k, QD16"),
	Job("random-read", "randread", 4096, 32, 1 / 2, title="random read, 4k, QD32, cached"),
	Job("random-read-64k", "randread", 65536, 16, 1, title="random read, 64k, QD16, cached"),
	Job("random-write", "randwrite", 4096, 32, 1 / 4, title="random write, 4k, QD32"),
	Job("mixed", "randrw70", 8192, 16, 1 / 4, title="70 % reads, 30 % writes, 8k, QD16"),
	Job("flush", "randflush", 4096, 1, 1 / 128, title="write + flush, 4k, QD1"),
	Job("flush-8", "randflush", 4096, 1, 1 / 64, 8, title="write + flush, 4k, 8 clients"),
	Job("random-write-64k", "randwrite", 65536, 16, 1 / 2, title="random write, 64k, QD16"),
	Job("overwrite", "oncewrite", 4096, 32, 1, title="all overwritten at random, 4k, QD32"),
	Job("read-scattered", "read", 131072, 16, 1, title="sequential read after overwriting, 128k, QD16"),
	Job("cold-read", "randread", 4096, 32, 1 / 16, title="random read, 4k, QD32, nothing cached"),
]
SEVERAL_JOBS = [
	Job("several-write", "randwrite", 4096, 8, 1, SEVERAL, "4 partitions at once: random write, 4k, QD8"),
	Job("several-read", "randread", 4096, 8, 2, SEVERAL, "4 partitions at once: random read, 4k, QD8"),
	Job("several-flush", "randflush", 4096, 1, 1 / 16, SEVERAL, "4 partitions at once: write + flush, 4k"),
]
ALONE = Job("alone", "randflush", 4096, 1, 1 / 32, title="write + flush, 4k, QD1, alone")
BESIDE = Job("beside", "randflush", 4096, 1, 1 / 32, title="write + flush, 4k, beside one that writes 128k, QD16")
AGED_JOBS = [job._replace(name=f"aged-{job.name}", title=f"aged: {job.title}") for job in JOBS
	if job.name != "cold-read"]
ALL_JOBS = [*JOBS, *SEVERAL_JOBS, ALONE, BESIDE, *AGED_JOBS]
TITLES = {job.name: job.title for job in ALL_JOBS}

# job, peer, the least that lcpfs / peer may be
BARS = [
	("fill", "file", 1.1), ("fill", "btrfs", 3),
	("random-write", "file", 1), ("random-write", "btrfs", 10), ("random-write", "null", 0.6),
	("random-read", "file", 1), ("random-read", "btrfs", 1), ("random-read", "null", 0.9),
	("cold-read", "direct", 0.9),
	("flush", "file", 1.2), ("flush", "btrfs", 4),
	("flush-8", "file", 2), ("flush-8", "btrfs", 8),
	("mixed", "file", 1), ("mixed", "btrfs", 6),
	("read", "file", 1), ("read", "btrfs", 1),
	("read-scattered", "file", 0.7), ("read-scattered", "btrfs", 1),
	("aged-random-write", "btrfs", 4),
]
BESIDE_BAR = 2  # p99 beside, of p99 alone, at most


class Load:
	"""A job on the first size_mib of each volume; the same seed for all peers, another one in each round."""

	def __init__(self, options, job, size_mib, seed):
		self.options, self.job, self.size_mib, self.seed = options, job, size_mib, seed
		self.requests = max(int(job.part * size_mib * MIB / job.block_bytes), job.clients * job.depth)

	def nbd_load(self, server, exports):
		job, client = self.job, self.options.build / "tests/serve/nbd-load"
		amount = f"{self.requests}/{self.seed}"
		return json.loads(run(client, job.what, job.block_bytes, job.depth, amount, self.size_mib * MIB,
			server.socket, *exports))

	def fio(self, server, exports):
		how = {"randrw70": ["--rw=randrw", "--rwmixread=70", "--norandommap"],
			"oncewrite": ["--rw=randwrite"],
			"randflush": ["--rw=randwrite", "--fsync=1", "--norandommap"]}
		options = how.get(self.job.what, [f"--rw={self.job.what}", "--norandommap"])
		clients = [[f"--name={number}", f"--uri=nbd+unix:///{export}?socket={server.socket}"]
			for number, export in enumerate(exports)]
		return fio(self.job, self.requests // len(exports), f"--size={self.size_mib}m", "--ioengine=nbd",
			f"--randseed={self.seed}", *options, *sum(clients, []))

	def run(self, server):
		"""What the client saw, the processors' time of server and client, and what was moved."""
		if self.job.name.endswith("cold-read"):
			server.forget()
		several = self.job in SEVERAL_JOBS
		exports = [f"v{number if several else 0}" for number in range(self.job.clients)]
		before, client_before = server_us(server), children_s()
		seen = (self.fio if self.options.client == "fio" else self.nbd_load)(server, exports)
		seen["server_s"] = (server_us(server) - before) / 1e6
		seen["client_s"] = children_s() - client_before
		seen["bytes"] = self.requests * self.job.block_bytes
		seen["peak_bytes"] = server.peak_bytes()
		return seen

	def run_direct(self, path):
		"""The same without a server, past the page cache."""
		return fio(self.job, self.requests, "--name=direct", f"--filename={path}", "--ioengine=io_uring",
			"--direct=1", f"--size={self.size_mib}m", f"--rw={self.job.what}", "--norandommap")


def children_s():
	used = resource.getrusage(resource.RUSAGE_CHILDREN)
	return used.ru_utime + used.ru_stime


def fio(job, requests, *options):
	output = run("fio", "--output-format=json", "--thread", "--group_reporting", "--end_fsync=1",
		"--percentile_list=50:99:99.9", f"--bs={job.block_bytes}", f"--iodepth={job.depth}",
		f"--number_ios={requests}", *options)
	seen = json.loads(output[output.index("{\n"):])["jobs"][0]  # the NBD engine says something before it
	if seen["error"]:
		raise Failed(f"fio: {job.name}: error {seen['error']}")
	sides = seen["read"], seen["write"]
	done, seconds = sum(s["total_ios"] for s in sides), max(s["runtime"] for s in sides) / 1000
	took = max(sides, key=lambda s: s["total_ios"])["clat_ns"]
	if job.what == "randflush":
		took = seen["sync"]["lat_ns"]
	times = {f"p{key}_us": took["percentile"][name] / 1000 for key, name in (
		("50", "50.000000"), ("99", "99.000000"), ("999", "99.900000"))}
	return {"seconds": seconds, "rate": done / max(seconds, 1e-3), **times, "max_us": took["max"] / 1000}


# ---- a run ----

class Bench:
	def __init__(self, options):
		self.options, self.values, self.crash_s, self.spare = options, {}, [], {}
		self.worst = 0.0

	def note(self, job, name, seen):
		self.values.setdefault(job, {}).setdefault(name, []).append(seen)
		print(f"round {len(self.values[job][name])}: {job}: {name}: {seen['rate']:,.0f}/s, "
			f"p99 {seen['p99_us']:,.0f} us", file=sys.stderr)

	def watch(self):
		"""How much others do, while nothing of ours runs. What was begun before may end first."""
		deadline = time.monotonic() + IDLE_WAIT_S
		now = busy(self.options.dir)
		while max(now) > BUSY_MAX and time.monotonic() < deadline and not self.options.force:
			now = busy(self.options.dir)
		self.worst = max(self.worst, *now)

	@contextlib.contextmanager
	def servers(self, volumes, volume_mib, room_mib):
		with contextlib.ExitStack() as stack:
			place = Place(self.options, stack, volumes, volume_mib, room_mib)
			yield [getattr(place, name)() for name in self.options.peers]

	def turn(self, servers, jobs, size_mib, seed):
		"""Each job on every server; of those that nobody asked for, only what others need."""
		for job in jobs:
			asked = job.name in self.options.only
			if not asked and not any(needed(job.name, other) for other in self.options.only):
				continue
			load = Load(self.options, job, size_mib, seed)
			for server in servers:
				seen = load.run(server)
				if asked:
					self.note(job.name, server.name, seen)
			raw = [s.files[0] for s in servers if s.name == "file"]
			if asked and raw and job.name == "cold-read":
				self.note(job.name, "direct", load.run_direct(raw[0]))

	def look(self, kind, servers):
		"""How full lcpfs's partition is."""
		for server in servers:
			if server.name == "lcpfs":
				said = run(self.options.build / "lcpfs", "list", server.files[0], "--json")
				wanted = "data_blocks size_data_blocks live_blocks size_blocks write_amplification"
				found = json.loads(said)["partitions"][0]
				self.spare[kind] = {key: found[key] for key in wanted.split()}

	def new(self):
		size = self.options.size
		for number in range(self.options.rounds):
			self.watch()
			with self.servers(1, 2 * size, 2 * size) as servers:
				self.turn(servers, JOBS, size, number + 1)
				self.look("new", servers)

	def several(self):
		size = max(self.options.size // SEVERAL, 1)
		for number in range(self.options.rounds):
			self.watch()
			with self.servers(SEVERAL, 2 * size, 2 * size) as servers:
				for name in [f"v{i}" for i in range(SEVERAL)]:
					for server in servers:
						fill(self.options, server, name, size)
				self.turn(servers, SEVERAL_JOBS, size, number + 1)
				if {"alone", "beside"} & self.options.only:
					for server in servers:
						self.beside(server, size, number + 1)

	def beside(self, server, size_mib, seed):
		self.note("alone", server.name, Load(self.options, ALONE, size_mib, seed).run(server))
		writer = endless(self.options, server, "write", 131072, 16, size_mib, "v1")
		try:
			time.sleep(1)
			seen = Load(self.options, BESIDE, size_mib, seed).run(server)
			if writer.poll() is not None:
				raise Failed(f"{server.name}: the one that writes has ended")
			self.note("beside", server.name, seen)
		finally:
			writer.terminate()  # in order: nbdkit 1.32 may end itself when a client dies amid its requests
			writer.wait()
		fill(self.options, server, "v1", 1)  # and a flush

	def aged(self):
		size = max(self.options.size // AGED_PART, 16)
		self.watch()
		with self.servers(1, size, int(size / AGED_FULL)) as servers:
			for server in servers:
				fill(self.options, server, "v0", size)
				run(self.options.build / "tests/serve/nbd-load", "randwrite", 4096, 32,
					f"{AGED_TIMES * size * MIB // 4096}/1", size * MIB, server.socket, "v0")
			for number in range(self.options.rounds):
				self.turn(servers, AGED_JOBS, size, number + 2)
			self.look("aged", servers)

	def crash(self):
		"""Killed amid random writes; and how long the next one takes to greet."""
		size = self.options.size
		for _ in range(self.options.rounds):
			with contextlib.ExitStack() as stack:
				server = Place(self.options, stack, 1, 2 * size, 2 * size).lcpfs()
				fill(self.options, server, "v0", size)
				writer = endless(self.options, server, "randwrite", 4096, 32, size, "v0")
				time.sleep(3)
				server.kill()
				writer.wait()
				self.crash_s.append(opening_s(server))
				server.wait_until_ready()
				print(f"opened after kill -9: {self.crash_s[-1]:.3f} s", file=sys.stderr)

	def run(self):
		for _, jobs, part in KINDS:
			if self.options.only & {job.name for job in jobs}:
				part(self)
		if "crash" in self.options.only:
			self.crash()


KINDS = [
	("a new volume", JOBS, Bench.new),
	("four volumes", [*SEVERAL_JOBS, ALONE, BESIDE], Bench.several),
	("aged", AGED_JOBS, Bench.aged),
]


def needed(job, by):
	return job.endswith("fill") and by.startswith("aged-") == job.startswith("aged-") or (
		job.endswith("overwrite") and by == job.replace("overwrite", "read-scattered"))


def fill(options, server, export, size_mib):
	run(options.build / "tests/serve/nbd-load", "write", 131072, 16, f"{size_mib * 8}/1", size_mib * MIB,
		server.socket, export)


def endless(options, server, what, block_bytes, depth, size_mib, export):
	arguments = what, block_bytes, depth, 3600, size_mib * MIB, server.socket, export
	return subprocess.Popen([options.build / "tests/serve/nbd-load", *map(str, arguments)],
		stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def opening_s(server):
	"""From the start of its program until it greets a client."""
	began = time.monotonic()
	server.start()
	while time.monotonic() - began < START_S:
		with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
			client.connect(str(server.socket))
			if client.recv(8):
				return time.monotonic() - began
		time.sleep(0.001)
	raise Failed(f"{server.name} does not greet: {server.log_path.read_text().strip()}")


# ---- the machine ----

def counters(folder):
	"""Seconds that the processors were busy; that the host took from them; that the disk was busy."""
	fields = pathlib.Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
	ticks = [int(f) / os.sysconf("SC_CLK_TCK") for f in fields]
	device = os.stat(folder).st_dev
	disk = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
	disk_s = int(disk.read_text(encoding="utf-8").split()[9]) / 1000 if disk.exists() else 0
	return sum(ticks[:3]) + sum(ticks[5:7]), ticks[7], disk_s


def busy(folder):
	"""Which part of the processors and of the disk somebody else takes."""
	before = counters(folder)
	time.sleep(IDLE_S)
	after = counters(folder)
	used, stolen, disk = (b - a for a, b in zip(before, after))
	return (used + stolen) / IDLE_S / os.cpu_count(), disk / IDLE_S


def is_ours(build):
	"""Else somebody has put the two programs there, perhaps of another version."""
	return (build / "build.ninja").exists()


def first_line(*command):
	with contextlib.suppress(Failed, OSError):
		return run(*command).split("\n")[0].strip()
	return None


def machine(options):
	info = {}
	for path in ("/proc/cpuinfo", "/proc/meminfo"):
		for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
			key, _, value = line.partition(":")
			info.setdefault(key.strip(), value.strip())
	return {
		"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
		"processor": info.get("model name") or platform.machine(),
		"processors": os.cpu_count(),
		"memory_mib": int(info["MemTotal"].split()[0]) // 1024,
		"kernel": platform.release(),
		"file_system": first_line("findmnt", "-no", "FSTYPE,OPTIONS", "-T", options.dir),
		"lcpfs": first_line(options.build / "lcpfs", "--version"),
		"commit": first_line("git", "-C", ROOT, *COMMIT) if is_ours(options.build) else None,
		"nbdkit": first_line("nbdkit", "--version"),
		"qemu": first_line("qemu-storage-daemon", "--version"),
		"fio": first_line("fio", "--version"),
		"btrfs": first_line("mkfs.btrfs", "--version"),
		"load_before": os.getloadavg()[0],
	}


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


def of(values, job, name, key="rate"):
	return [seen[key] for seen in values.get(job, {}).get(name, [])]


def shown(r):
	return f"{r['ratio']:.2f} ({r['ratio_min']:.2f}–{r['ratio_max']:.2f})"


def print_rows(title, head, rows):
	print(f"\n{title}\n\n| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
	for row in rows:
		print(f"| {' | '.join(row)} |")


def bar_lines(values):
	"""(title, against whom, what came out, the bar, met or missed)"""
	told = {True: "met", False: "missed"}
	for job, peer, bar in BARS:
		mine, theirs = of(values, job, "lcpfs"), of(values, job, peer)
		if mine and theirs:
			r = ratio(mine, theirs)
			yield TITLES[job], peer, shown(r), f"≥ {bar}", told[r["ratio"] >= bar]
	beside, alone = of(values, "beside", "lcpfs", "p99_us"), of(values, "alone", "lcpfs", "p99_us")
	if beside and alone:
		r = ratio(beside, alone)
		yield TITLES["beside"], "alone, p99", shown(r), f"≤ {BESIDE_BAR}", told[r["ratio"] <= BESIDE_BAR]


def print_tables(result, bars=True):
	values = result["values"]
	jobs = [job.name for job in ALL_JOBS if job.name in values]
	names = [name for name in [*PEERS, "direct"] if any(name in values[job] for job in jobs)]
	served = [name for name in names if name != "direct"]

	def table(title, cell, wanted):
		print_rows(title, ["", *wanted], [[TITLES[job], *[
			cell(job, name) if of(values, job, name) else "" for name in wanted]] for job in jobs])

	def median(job, name, key="rate"):
		return statistics.median(of(values, job, name, key))

	def against(job, name):
		mine = of(values, job, "lcpfs")
		return shown(ratio(mine, of(values, job, name))) if mine else ""

	def times(job, name):
		return " / ".join(f"{median(job, name, key):,.0f}" for key in ("p50_us", "p99_us", "p999_us"))

	def cost(job, name):
		gib = of(values, job, name, "bytes")[0] / 2**30
		return f"{median(job, name, 'server_s') / gib:.1f} + {median(job, name, 'client_s') / gib:.1f}"

	table("Requests a second, medians:", lambda job, name: f"{median(job, name):,.0f}", names)
	if "lcpfs" in names:
		table("lcpfs / peer, of the medians; in brackets the smallest and the largest of a round:",
			against, [name for name in names if name != "lcpfs"])
	if bars and "lcpfs" in names:
		print_rows("The bars:", ["", "against", "lcpfs / peer", "bar", ""], bar_lines(values))
	table("Microseconds of a request, p50 / p99 / p99.9:", times, names)
	table("Seconds of processor time for a GiB: server + client:", cost, served)
	print_memory(values, served)
	if result["crash_s"]:
		print(f"\nOpened after kill -9 amid random writes: {statistics.median(result['crash_s']):.3f} s"
			f" ({min(result['crash_s']):.3f}–{max(result['crash_s']):.3f})")
	for kind, p in result["spare"].items():
		mib = {key: f"{p[key] * 4096 / MIB:,.0f}" for key in p if key.endswith("_blocks")}
		print(f"\nlcpfs, {kind}: {mib['data_blocks']} MiB of data in room for {mib['size_data_blocks']}; "
			f"{mib['live_blocks']} of {mib['size_blocks']} MiB of space in use; write amplification "
			f"at the end {p['write_amplification']:.2f}")
	print_machines(result["runs"])


def print_memory(values, served):
	rows = []
	for kind, jobs, _ in KINDS:
		most = {name: max(sum((of(values, job.name, name, "peak_bytes") for job in jobs), []), default=0)
			for name in served}
		if any(most.values()):
			rows.append([kind, *[f"{most[name] / MIB:,.0f}" for name in served]])
	print_rows("Memory at its most, MiB: the server's own, with what the kernel keeps of its files:",
		["", *served], rows)


def told_of_memory(facts):
	if "touched_mib" not in facts:
		return ""
	if not facts["touched_mib"]:
		return "; free memory was not held"
	return f"; {facts['touched_mib']:,} MiB of free memory held, of which the host had {facts['slow_mib']:,}"


def print_machines(runs):
	"""Each once, and a line for each run."""
	told = set()
	for m in [one["machine"] for one in runs]:
		programs = ", ".join(str(m[key]) for key in ("nbdkit", "qemu", "fio", "btrfs"))
		line = (f"{m['processors']} × {m['processor']}, {m['memory_mib']:,} MiB, Linux {m['kernel']}; "
			f"{m['file_system']}; {programs}; {m['lcpfs']} ({m['commit']})")
		if line not in told:
			print(f"\n{line}")
		told.add(line)
	print()
	for one in runs:
		m = one["machine"]
		print(f"- {m['date']}: client {one['client']}, {one['size_mib']} MiB, {one['rounds']} rounds;",
			f"load {m['load_before']:.1f} before, {m['load_after']:.1f} after;",
			f"of processors and disk others took {m['others']:.0%} at most,",
			f"of the processors the host took {m['stolen']:.1%}" + told_of_memory(m))
	if any(one["machine"]["others"] > BUSY_MAX for one in runs):
		print("\n**THE MACHINE WAS NOT IDLE: do not believe this run.**")


def put_into(page, result):
	"""The tables between their marks; the bars into their rows, each beside what somebody wrote about it."""
	before, begin, rest = page.read_text(encoding="utf-8").partition(TABLES)
	_, end, after = rest.partition(TABLES_END)
	lines = after.split("\n")
	with contextlib.redirect_stdout(io.StringIO()) as tables:
		print_tables(result, bars=False)
	for bar in bar_lines(result["values"]):
		row = f"| {bar[0]} | {bar[1]} | "
		number = next((n for n, line in enumerate(lines) if line.startswith(row)), None)
		if number is None:
			raise Failed(f"{page}: after {TABLES.strip()} and {TABLES_END.strip()} no row {row}")
		cells = lines[number].split(" | ")
		if cells[4] != bar[4]:
			print(f"{page}: {row}{bar[4]}, was {cells[4]}: what is told of it?", file=sys.stderr)
		lines[number] = row + " | ".join([*bar[2:], *cells[5:]])
	page.write_text(before + begin + tables.getvalue() + "\n" + end + "\n".join(lines), encoding="utf-8")


def draw(result, path):
	"""lcpfs / peer as bars, over a logarithmic scale."""
	values = result["values"]
	jobs = [job.name for job in ALL_JOBS if of(values, job.name, "lcpfs")]
	lines = []
	for job in jobs:
		mine = statistics.median(of(values, job, "lcpfs"))
		others = [of(values, job, peer) for peer in ("file", "btrfs", "qcow2")]
		cells = [f"{mine / statistics.median(other):.3f}" if other else "?" for other in others]
		lines.append(f"\"{job}\" {' '.join(cells)}")
	data = "\n".join(lines)
	program = f"""
set terminal svg size 1000,560 dynamic noenhanced background rgb 'white'
set output '{path}'
set datafile missing '?'
$data << END
{data}
END
set title 'lcpfs / peer, requests a second; above 1 lcpfs is faster'
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 noborder
set logscale y 2
set grid ytics
set xtics rotate by -40 noenhanced
set key outside top center horizontal
set rmargin 12
set arrow from graph 0, first 1 to graph 1, first 1 nohead lw 2
plot $data using 2:xtic(1) title 'file on ext4', '' using 3 title 'file on btrfs', '' using 4 title 'qcow2'
"""
	drawn = subprocess.run(["gnuplot"], input=program, capture_output=True, text=True, check=False)
	if drawn.returncode:
		raise Failed(f"gnuplot: {drawn.stderr.strip()}")


def together(files):
	result = {"values": {}, "crash_s": [], "spare": {}, "runs": []}
	for file in files:
		one = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
		for job, names in one["values"].items():
			for name, rounds in names.items():
				result["values"].setdefault(job, {}).setdefault(name, []).extend(rounds)
		result["crash_s"] += one["crash_s"]
		result["spare"] |= one["spare"]
		result["runs"] += one["runs"]
	return result


# ---- from the command line ----

def options_of(arguments):
	names = [*TITLES, "crash"]
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
	parser.add_argument("--only", metavar="JOB[,...]", help=", ".join(names))
	parser.add_argument("--peers", default=",".join(PEERS), metavar="PEER[,...]", help="among them lcpfs")
	parser.add_argument("--rounds", type=int, metavar="N", help="of all jobs (3)")
	parser.add_argument("--size", type=int, metavar="MIB", help="used of each volume (1024): half of it")
	parser.add_argument("--quick", action="store_true", help="one round, 32 MiB: to see that it runs")
	parser.add_argument("--client", choices=["nbd-load", "fio"], default="nbd-load",
		help="nbd-load costs less: on two processors fio is often what is measured")
	parser.add_argument("--cache", metavar="SIZE", help="of lcpfs serve")
	parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd(),
		help="where pool and files lie, for as long as it runs (the working directory)")
	parser.add_argument("--force", action="store_true", help="also where the machine is not idle")
	parser.add_argument("--no-hold", action="store_true", help="leave free memory alone; --quick does, too")
	parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all values, too")
	parser.add_argument("--picture", type=pathlib.Path, metavar="FILE", help="the ratios, as SVG")
	parser.add_argument("--page", type=pathlib.Path, metavar="FILE", help="the tables, in docs/performance.md")
	parser.add_argument("--show", nargs="+", metavar="FILE", help="measure nothing: what --json has written")
	options = parser.parse_args(arguments)
	options.build = options.build.resolve()
	options.rounds = options.rounds or (1 if options.quick else 3)
	options.size = options.size or (32 if options.quick else 1024)
	options.only = set(options.only.split(",") if options.only else names)
	options.peers = [peer for peer in PEERS if peer in options.peers.split(",")]
	if not options.only <= set(names):
		parser.error(f"jobs: {', '.join(names)}")
	if "btrfs" in options.peers and os.geteuid():
		print("bench: only root mounts btrfs: it is left out", file=sys.stderr)
		options.peers.remove("btrfs")
	return options


@contextlib.contextmanager
def hold_memory(options):
	"""Yields what is to be told of it. Without root it is not to be had: then the run says so."""
	wanted = memory.is_virtual() and not options.no_hold and not options.quick
	with contextlib.ExitStack() as stack:
		touched, slow = 0, 0
		try:
			touched, slow = stack.enter_context(memory.held()) if wanted else (0, 0)
		except (OSError, AttributeError) as error:
			print(f"bench: free memory is not held: {error}: rounds may wait for it", file=sys.stderr)
		yield {"touched_mib": touched, "slow_mib": slow} if memory.is_virtual() else {}


def measure(options):
	if is_ours(options.build):
		run("ninja", "-C", options.build, "lcpfs", "tests/serve/nbd-load")
	if "beside" in options.only:
		options.only.add("alone")
	bench, facts = Bench(options), machine(options)
	bench.watch()
	if bench.worst > BUSY_MAX:
		what = f"the machine is not idle: others take {bench.worst:.0%} of the processors or of the disk"
		if not options.force:
			raise Failed(f"{what}. Measure when nothing else runs; --force measures all the same")
		print(f"bench: {what}. DO NOT BELIEVE WHAT COMES OUT", file=sys.stderr)
	with hold_memory(options) as held:
		began, stolen = time.monotonic(), counters(options.dir)[1]
		bench.run()
	facts |= held
	facts["stolen"] = (counters(options.dir)[1] - stolen) / (time.monotonic() - began) / os.cpu_count()
	facts |= {"load_after": os.getloadavg()[0], "others": bench.worst}
	how = {"client": options.client, "size_mib": options.size, "rounds": options.rounds,
		"cache": options.cache, "peers": options.peers, "jobs": sorted(options.only)}
	return {"values": bench.values, "crash_s": bench.crash_s, "spare": bench.spare,
		"runs": [{"machine": facts, **how}]}


def main():
	options = options_of(sys.argv[1:])
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	try:
		result = together(options.show) if options.show else measure(options)
		if options.json:
			options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
		print_tables(result)
		if options.page:
			put_into(options.page, result)
		if options.picture:
			draw(result, options.picture)
	except (Failed, OSError) as error:
		print(f"bench: {error}", file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		return 130
	return 0


if __name__ == "__main__":
	sys.exit(main())
