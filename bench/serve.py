#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the NBD server: against nbdkit, and against itself with more clients.

The client is nbd-load (client.c), which costs little; with --fio it is fio, which on two processors is often what
is measured. Each section has its own servers, and its jobs are interleaved: a job against all of them, then the
next, and all of that again in each round. What is compared is always of one run. docs/costs.md says what
came out.

  null     a volume that stores nothing (serve-null, beside this file) against nbdkit's null plugin
  pool     a pool against the same behind nbdkit: --before names the last lcpfs that was served so
  before   a pool against the same of another lcpfs (--before), both with the same space
  many     64 partitions with a client each against 4 with 16 requests at a time; and the same of a volume that
           stores nothing: more than that client and kernel do not allow
  flush    write + flush: 8 clients against 1, and against nbdkit's file plugin
  latency  4k random writes, the volume 85 % full, against nbdkit's file plugin

usage: bench/serve.py [BUILD] [--only SECTION[,...]] [--before LCPFS] [--fio] [--seconds N] [--rounds N]
                      [--dir DIR]
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

from run import MIB, ROOT, Failed, Server, measured, ratio, run, server_us

# ---- servers ----

class Place:
	"""Where servers lie, and that they end."""

	def __init__(self, options, data, sockets):
		self.build, self.before = options.build.resolve(), options.before
		self.data, self.sockets, self.servers = data, sockets, []

	def serve(self, name, export, command):
		server = Server(name, export, self.sockets, command)
		self.servers.append(server)
		server.wait_until_ready()
		return server

	def stop(self):
		for server in self.servers:
			server.stop()
		for file in self.data.iterdir():
			file.unlink()

	def lcpfs(self, program, name, partitions, volume_mib, size_mib):
		"""Partitions that take size_mib of the pool each."""
		pool = self.data / f"{name}.pool"
		space = [] if program == self.before else ["--space"]  # all sizes were ones of space then
		run(program, "create", pool, "--size", f"{partitions * (size_mib * 5 // 4 + 2) + 64}M",
			"--metaslab", "1M")
		for number in range(partitions):
			run(program, "add", pool, f"p{number}", "--min", "8M", "--max", f"{size_mib}M",
				"--size", f"{size_mib}M", "--volume", f"{volume_mib}M", *space)
		return self.serve(name, "p0",
			lambda socket: [program, "serve", pool, "--socket", socket, "--tune", "off"])

	def file(self, volume_mib):
		path = self.data / "raw"
		with open(path, "wb") as file:
			file.truncate(volume_mib * MIB)
		return self.serve("nbdkit-file", "", lambda socket: ["nbdkit", "-f", "-U", socket, "file", path])


# ---- clients ----

class Load:
	"""So many clients at once, `depth` requests each; `what` as fio calls it, or randflush."""

	def __init__(self, what, block_bytes, depth, volume_mib):
		self.what, self.block_bytes, self.depth, self.volume_mib = what, block_bytes, depth, volume_mib

	def own(self, place, server, exports, seconds):
		client = place.build / "tests/serve/nbd-load"
		return json.loads(run(client, self.what, self.block_bytes, self.depth, seconds,
			self.volume_mib * MIB, server.socket, *exports))

	def fio(self, server, exports, seconds):
		what, flush = (self.what.replace("flush", "write"), ["--fsync=1"] if "flush" in self.what else [])
		command = ["fio", "--ioengine=nbd", "--output-format=json", "--norandommap", "--time_based",
			"--thread", "--group_reporting", "--percentile_list=50:99:99.9:99.99", f"--rw={what}",
			f"--bs={self.block_bytes}", f"--iodepth={self.depth}", f"--size={self.volume_mib}m",
			f"--runtime={seconds}", *flush]
		for number, export in enumerate(exports):
			command += [f"--name=client{number}", f"--uri=nbd+unix:///{export}?socket={server.socket}"]
		output = run(*command)
		jobs = json.loads(output[output.index("{\n"):])["jobs"]  # the NBD engine says something before it
		if any(job["error"] for job in jobs):
			raise Failed(f"fio: an error against {server.name}")
		side = max((jobs[0]["read"], jobs[0]["write"]), key=lambda s: s["io_bytes"])
		times = {key: side["clat_ns"]["percentile"][name] / 1000 for key, name in (("p50_us", "50.000000"),
			("p99_us", "99.000000"), ("p999_us", "99.900000"), ("p9999_us", "99.990000"))}
		return {"rate": side["total_ios"] * 1000 / max(side["runtime"], 1), **times}

	def run(self, place, server, exports, options):
		"""What the client saw, and the processor time that the server took for each request."""
		before, began = server_us(server), time.monotonic()
		seen = self.fio(server, exports, options.seconds) if options.fio else (
			self.own(place, server, exports, options.seconds))
		requests = seen["rate"] * min(time.monotonic() - began, options.seconds)
		seen["server_us"] = (server_us(server) - before) / max(requests, 1)
		return seen


def fill(uris, volume_mib):
	for uri in uris:
		run("fio", "--name=fill", "--ioengine=nbd", f"--uri={uri}", "--rw=write", "--bs=1m", "--iodepth=4",
			f"--size={volume_mib}m", "--end_fsync=1")


class Table:
	"""Jobs measured in rounds, and what came out, line by line."""

	def __init__(self, place, options):
		self.place, self.options, self.subjects, self.seen, self.lines = place, options, {}, {}, []

	def add(self, job, name, server, exports, load):
		self.subjects[job, name] = lambda: load.run(self.place, server, exports, self.options)

	def measure(self):
		self.seen = {subject: [] for subject in self.subjects}
		for number in range(1, self.options.rounds + 1):
			for (job, name), measure in self.subjects.items():
				seen = measure()
				self.seen[job, name].append(seen)
				shown = ", ".join(f"{key} {value:,.1f}" for key, value in seen.items())
				print(f"round {number}: {job}: {name}: {shown}", file=sys.stderr)

	def compare(self, job, mine, theirs, bar, key="rate"):
		"""For rates the least that the ratio may be, for times the most."""
		a, b = ([seen[key] for seen in self.seen[job, name]] for name in (mine, theirs))
		costs = [[seen["server_us"] for seen in self.seen[job, name]] for name in (mine, theirs)]
		result, is_least = ratio(a, b), key == "rate"
		met = result["ratio"] >= bar if is_least else result["ratio"] <= bar
		self.lines.append({"job": job, "key": key, "of": mine, "against": theirs, "bar": bar, "met": met,
			"values": measured(a), "peer": measured(b), "server_us": [measured(c) for c in costs],
			**result})
		middle = [statistics.median(values) for values in (a, b, *costs)]
		print(f"{job:26} {mine:>11} {middle[0]:>10,.0f} {theirs:>13} {middle[1]:>10,.0f} "
			f"{result['ratio']:6.2f} ({result['ratio_min']:.2f}–{result['ratio_max']:.2f}) "
			f"{'≥' if is_least else '≤'} {bar:<4}{'' if met else ' MISSED'}; server us a request: "
			f"{middle[2]:.1f}, {middle[3]:.1f}", flush=True)


# ---- sections ----

def side_by_side(table, servers, export, jobs, volume):
	"""Each job (name, what, bytes of a request, depth, bar) on two servers; the first has to reach the bar."""
	for job, what, block_bytes, depth, _ in jobs:
		for server in servers:
			table.add(job, server.name, server, [export], Load(what, block_bytes, depth, volume))
	table.measure()
	for job, _, _, _, bar in jobs:
		table.compare(job, servers[0].name, servers[1].name, bar)


def null(place, table):
	volume = 1024
	ours = place.build / "tests/serve/serve-null"
	servers = [place.serve("lcpfs", "", lambda socket: [ours, socket, volume * MIB]),
		place.serve("nbdkit-null", "",
			lambda socket: ["nbdkit", "-f", "-U", socket, "null", f"size={volume}M"])]
	jobs = [("4k QD32 write", "randwrite", 4096, 32, 1.3), ("4k QD32 read", "randread", 4096, 32, 1.2),
		("128k QD16 write", "write", 131072, 16, 1.0), ("128k QD16 read", "read", 131072, 16, 1.2)]
	side_by_side(table, servers, "", jobs, volume)


def pool(place, table):
	if not place.before:
		print("pool: not measured; --before LCPFS names one that nbdkit serves", file=sys.stderr)
		return
	volume = 768
	servers = [place.lcpfs(place.build / "lcpfs", "lcpfs", 1, volume, 1024),
		place.lcpfs(place.before, "nbdkit", 1, volume, 1024)]
	fill([server.uri for server in servers], volume)
	jobs = [("sequential write 128k QD16", "write", 131072, 16, 1.1),
		("sequential read 128k QD16", "read", 131072, 16, 1.1),
		("random write 4k QD32", "randwrite", 4096, 32, 1.2),
		("random read 4k QD32", "randread", 4096, 32, 1.2)]
	side_by_side(table, servers, "p0", jobs, volume)


def before(place, table):
	if not place.before:
		print("before: not measured; --before LCPFS names another one", file=sys.stderr)
		return
	volume, space = 1024, 1650
	servers = []
	for program, name in ((place.build / "lcpfs", "lcpfs"), (place.before, "before")):
		path = place.data / f"{name}.pool"
		run(program, "create", path, "--size", "2200M")
		run(program, "add", path, "p0", "--min", "64M", "--max", "1900M", "--volume", f"{volume}M")
		run(program, "resize", path, "p0", f"{space}M", "--space")
		servers.append(place.serve(name, "p0",
			lambda socket, program=program, path=path: [program, "serve", path, "--socket", socket, "--tune", "off"]))
	fill([server.uri for server in servers], volume)
	jobs = [("random write 4k QD16", "randwrite", 4096, 16, 0.95), ("write 128k QD8", "write", 131072, 8, 0.95),
		("read 128k QD8", "read", 131072, 8, 0.95), ("random read 4k QD16", "randread", 4096, 16, 0.95),
		("random write 64k QD8", "randwrite", 65536, 8, 0.95), ("random read 128k QD4", "randread", 131072, 4, 0.95),
		("random write 4k QD1", "randwrite", 4096, 1, 0.95), ("write + flush 4k", "randflush", 4096, 1, 0.95)]
	side_by_side(table, servers, "p0", jobs, volume)


def many(place, table):
	volume = 16
	server = place.lcpfs(place.build / "lcpfs", "lcpfs", 64, volume, 32)
	exports = [f"p{number}" for number in range(64)]
	nothing = place.serve("nothing", "",
		lambda socket: [place.build / "tests/serve/serve-null", socket, volume * MIB])
	fill([server.uri.replace("p0", export) for export in exports], volume)
	for what in ("read", "write"):
		for of, subject in (("", server), ("null ", nothing)):
			for clients, depth in ((64, 1), (4, 16)):
				table.add(f"4k {what}", f"{of}{clients} x QD{depth}", subject, exports[:clients],
					Load(f"rand{what}", 4096, depth, volume))
	table.measure()
	for what in ("read", "write"):
		table.compare(f"4k {what}", "64 x QD1", "4 x QD16", 0.9)
		table.compare(f"4k {what}", "null 64 x QD1", "null 4 x QD16", 0)


def flush(place, table):
	volume = 512
	servers = [place.lcpfs(place.build / "lcpfs", "lcpfs", 1, volume, 768), place.file(volume)]
	fill([server.uri for server in servers], volume)
	for server, export in zip(servers, ("p0", "")):
		for clients in (1, 8):
			table.add("4k write + flush", f"{server.name} {clients}", server, [export] * clients,
				Load("randflush", 4096, 1, volume))
	table.measure()
	table.compare("4k write + flush", "lcpfs 8", "lcpfs 1", 4)
	table.compare("4k write + flush", "lcpfs 8", "nbdkit-file 8", 1.5)


def latency(place, table):
	volume = table.options.latency_gib * 1024
	servers = [place.lcpfs(place.build / "lcpfs", "lcpfs", 1, volume, volume * 100 // 85), place.file(volume)]
	fill([server.uri for server in servers], volume)
	load = Load("randwrite", 4096, 16, volume)
	for server, export in zip(servers, ("p0", "")):
		table.add("4k QD16 write, p99.9 (us)", server.name, server, [export], load)
	table.measure()
	for key in ("p999_us", "p9999_us"):
		table.compare("4k QD16 write, p99.9 (us)", "lcpfs", "nbdkit-file", 1.0, key)


SECTIONS = {"null": null, "pool": pool, "before": before, "many": many, "flush": flush, "latency": latency}


def measure_section(section, options):
	# the sockets apart from the data: their paths have to be short
	with contextlib.ExitStack() as stack:
		data = stack.enter_context(tempfile.TemporaryDirectory(prefix="lcpfs-bench-", dir=options.dir))
		sockets = stack.enter_context(tempfile.TemporaryDirectory(prefix="lcpfs-"))
		place = Place(options, pathlib.Path(data), pathlib.Path(sockets))
		stack.callback(place.stop)
		table = Table(place, options)
		section(place, table)
		return table.lines


def options_of(arguments):
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
	parser.add_argument("build", nargs="?", type=pathlib.Path, default=ROOT / "build")
	parser.add_argument("--only", default=",".join(SECTIONS), metavar="SECTION[,...]")
	parser.add_argument("--before", type=pathlib.Path, metavar="LCPFS", help="another lcpfs")
	parser.add_argument("--fio", action="store_true", help="as the client")
	parser.add_argument("--seconds", type=int, default=5, metavar="N", help="of each job (5)")
	parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all jobs (3)")
	parser.add_argument("--latency-gib", type=int, default=4, metavar="N", help="the volume there (4)")
	parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path.cwd(), help="for pools and files")
	parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all values, too")
	options = parser.parse_args(arguments)
	options.only = options.only.split(",")
	if not set(options.only) <= set(SECTIONS):
		parser.error(f"sections: {', '.join(SECTIONS)}")
	return options


def main():
	options, lines, load = options_of(sys.argv[1:]), [], []
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	run("ninja", "-C", options.build, "tests/serve/serve-null", "tests/serve/nbd-load")
	try:
		for name in options.only:
			load.append(os.getloadavg()[0])
			lines += measure_section(SECTIONS[name], options)
		load.append(os.getloadavg()[0])
	except (Failed, OSError) as error:
		print(f"bench: {error}", file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		return 130
	shown = ", ".join(f"{value:.1f}" for value in load)
	print(f"rounds: {options.rounds}, seconds: {options.seconds}, processors: {os.cpu_count()}, load before "
		f"each section and at the end: {shown}")
	if options.json:
		options.json.write_text(json.dumps({"load": load, "lines": lines}, indent=1), encoding="utf-8")
	return 0


if __name__ == "__main__":
	sys.exit(main())
