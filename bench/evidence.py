#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moving boundaries under the software that people run: is it better than the sizes that somebody guessed?

PostgreSQL under pgbench, a log that is appended to and rotated, many small files, and an archive: each on an
ext4 of its own, on an attached partition of one pool. The first sizes are a wrong guess: the archive has most of
what is spare. In the second of three phases the database is idle, and the small files are written anew and anew.
The same is run with the engine observing (the guess), with the engine on, with fixed sizes that were found by
trying, and with all four in one ext4 on a plain file. Root only: it mounts.

usage: bench/evidence.py [BUILD] [--phase SECONDS] [--only VARIANT,... | --resume | --show]
                         [--kept DIR] [--dir DIR]
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from run import ROOT, Failed, Server, run

MIB = 1 << 20
POOL_MIB, SPEED_MIB = 1600, 64
THROTTLE = pathlib.Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
# name, volume, and its size at first as somebody guessed it who expects the archive to grow, in MiB
PARTITIONS = [("db", 340, 375), ("log", 96, 122), ("files", 220, 252), ("archive", 360, 811)]
NAMES = [name for name, _, _ in PARTITIONS]
COUNTS = "live_blocks", "written_blocks", "copied_blocks", "device_blocks"
PHASES = ("database", "small files", "database again")
SCALE, CLIENTS = 8, 4
CALM_S, START_S = 6, 3  # before a move, and until pgbench has begun
LOG_PIECE, LOG_LENGTH, LOGS = 64 << 10, 16 * MIB, 4
FILES, FILE_BYTES, FILES_A_SYNC = 5000, (2 << 10, 48 << 10), 100
POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
SETTINGS = ["fsync=on", "full_page_writes=on", "max_wal_size=64MB", "min_wal_size=64MB", "checkpoint_timeout=30s",
	"shared_buffers=32MB", "autovacuum=on", "synchronous_commit=off", "wal_level=minimal",
	"max_wal_senders=0"]


# ---- where the four live ----

class Disk:
	"""A file as a disk that writes SPEED_MIB a second at most, so that copying costs something everywhere."""

	def __init__(self, path):
		self.path = path
		with open(path, "wb") as file:
			os.posix_fallocate(file.fileno(), 0, POOL_MIB * MIB)
		self.device = run("losetup", "--find", "--show", "--direct-io=on", path).strip()
		self.state = pathlib.Path("/sys/block") / pathlib.Path(self.device).name
		self.limit(SPEED_MIB * MIB)

	def limit(self, bytes_a_second):
		number = (self.state / "dev").read_text(encoding="utf-8").strip()
		THROTTLE.write_text(f"{number} {bytes_a_second}\n", encoding="utf-8")

	def written_blocks(self):
		return int((self.state / "stat").read_text(encoding="utf-8").split()[6]) // 8

	def stop(self):
		self.limit(0)
		run("losetup", "--detach", self.device)
		self.path.unlink()


class Places:
	"""A folder for each of the four."""

	def __init__(self, folder):
		self.folder, self.mounts, self.disk = folder, [], Disk(folder / "disk")

	def mount(self, device, name):
		place = self.folder / name
		place.mkdir()
		run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,nodiscard", device)
		run("mount", device, place)
		self.mounts.append(place)
		return place

	def unmount(self):
		for place in reversed(self.mounts):
			run("umount", place)
		self.mounts.clear()


class PlainFile(Places):
	"""All in one ext4."""

	def start(self):
		whole = self.mount(self.disk.device, "all")
		for name in NAMES:
			(whole / name).mkdir()
		return {name: whole / name for name in NAMES}

	def counts(self):
		return {"device": self.disk.written_blocks()}

	def events(self):
		return []

	def stop(self):
		self.unmount()
		self.disk.stop()


class Pool(Places):
	"""Each on an attached partition."""

	def __init__(self, folder, program, sizes, tune):
		super().__init__(folder)
		self.program, self.sizes, self.tune = program, sizes, tune
		self.attached, self.server = [], None

	def ask(self, command, *arguments):
		return json.loads(run(self.program, command, self.disk.device, *arguments, "--json"))

	def start(self):
		pool = self.disk.device
		run(self.program, "create", pool, "--metaslab", "1M")
		for name, volume, _ in PARTITIONS:
			run(self.program, "add", pool, name, "--space", "--min", "32M", "--max", f"{POOL_MIB}M",
				"--size", f"{self.sizes[name]}M", "--volume", f"{volume}M")
		self.server = Server("lcpfs", NAMES[0], self.folder, lambda socket: [self.program, "serve", pool,
			"--socket", socket, "--tune", self.tune])
		self.server.wait_until_ready()
		places = {}
		for name in NAMES:
			device = self.ask("attach", name)["device"]
			self.attached.append(name)
			places[name] = self.mount(device, name)
		return places

	def counts(self):
		found = {p["name"]: p for p in self.ask("list")["partitions"]}
		return {
			"device": sum(p["device_blocks"] for p in found.values()),
			"user": sum(p["written_blocks"] for p in found.values()),
			**{name: found[name]["size_blocks"] / 256 for name in NAMES},
			"parts": {name: [found[name][key] for key in COUNTS] for name in NAMES},
		}

	def events(self):
		return self.ask("log", "--last", "1000")["events"]

	def stop(self):
		self.unmount()
		for name in self.attached:
			run(self.program, "detach", self.disk.device, name)
		if self.server:
			self.server.stop()
		self.disk.stop()


# ---- the software ----

class Worker(threading.Thread):
	"""Does its work until it is told to stop; what went wrong is raised when it ends."""

	def __init__(self, place):
		super().__init__(daemon=True)
		self.place, self.failure = place, None
		self.ending, self.busy = threading.Event(), threading.Event()
		self.random = random.Random(1)

	def run(self):
		try:
			while not self.ending.is_set():
				self.once()
		except OSError as error:
			self.failure = error

	def end(self):
		self.ending.set()
		self.join()
		if self.failure:
			raise Failed(f"{self.place}: {self.failure}")

	def write(self, path, length, sync=False):
		with open(path, "ab") as file:
			file.write(self.random.randbytes(length))
			if sync:
				file.flush()
				os.fsync(file.fileno())


class Log(Worker):
	"""Appends, and rotates: the oldest of a few files is removed."""

	def once(self):
		newest = self.place / "log"
		self.write(newest, LOG_PIECE, True)
		if newest.stat().st_size >= LOG_LENGTH:
			for i in range(LOGS - 1, 0, -1):
				if (self.place / f"log.{i - 1}").exists():
					os.replace(self.place / f"log.{i - 1}", self.place / f"log.{i}")
			os.replace(newest, self.place / "log.0")
		self.ending.wait(0.05 if not self.busy.is_set() else 0.02)


class SmallFiles(Worker):
	"""A tree of small files, of which any may be written anew: a build, or a mail directory."""

	def once(self):
		if not self.busy.is_set():
			self.ending.wait(0.2)
			return
		for _ in range(FILES_A_SYNC):
			self.again(self.random.randrange(FILES))
		fd = os.open(self.place, os.O_RDONLY)
		os.fsync(fd)
		os.close(fd)

	def again(self, number):
		path = self.place / f"{number % 50}" / f"{number}"
		path.unlink(missing_ok=True)
		self.write(path, self.random.randint(*FILE_BYTES))

	def fill(self):
		for number in range(50):
			(self.place / f"{number}").mkdir()
		for number in range(FILES):
			self.again(number)


class Archive(Worker):
	"""Written once, and read now and then."""

	def fill(self):
		for number in range(16):
			self.write(self.place / f"{number}", 18 * MIB)

	def once(self):
		with open(self.place / f"{self.random.randrange(16)}", "rb") as file:
			file.seek(self.random.randrange(17 * MIB))
			file.read(MIB)
		self.ending.wait(0.5)


def as_postgres(program, *arguments):
	return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", str(POSTGRES[-1] / program),
		*(str(a) for a in arguments)]


class Database:
	def __init__(self, place, folder):
		self.data, self.sockets, self.log = place / "data", folder / "sockets", folder / "transactions"
		self.folder, self.client = folder, None

	def start(self):
		for path in (self.data, self.sockets):
			path.mkdir(mode=0o700)
			shutil.chown(path, "postgres", "postgres")
		run(*as_postgres("initdb", "--no-sync", "-A", "trust", "--wal-segsize=4", "-D", self.data))
		options = " ".join(f"-c {s}" for s in SETTINGS)
		run(*as_postgres("pg_ctl", "-w", "-s", "-D", self.data, "-l", self.data / "server.log", "-o",
			f"{options} -c listen_addresses= -c unix_socket_directories={self.sockets}", "start"))
		run(*as_postgres("createdb", "-h", self.sockets, "bench"))
		run(*as_postgres("pgbench", "-h", self.sockets, "-q", "-i", "-I", "dtgvp", "-s", SCALE, "bench"))

	def run_for(self, seconds, number):
		"""pgbench, which logs each transaction."""
		logs = self.folder / f"pgbench.{number}"
		logs.mkdir(mode=0o777)
		logs.chmod(0o777)
		command = as_postgres("pgbench", "-h", self.sockets, "-n", "-c", CLIENTS, "-j", 1, "-T", seconds,
			"-l", "--log-prefix", logs / "log", "bench")
		self.client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
			text=True, start_new_session=True)
		return logs

	def wait(self):
		said = self.client.communicate()[1]
		if self.client.returncode:
			log = (self.data / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
			raise Failed("\n".join(["pgbench failed:", said.strip(), "The server says:", *log[-20:]]))
		self.client = None

	def stop(self):
		if self.client and self.client.poll() is None:
			os.killpg(self.client.pid, signal.SIGKILL)
			self.client.wait()
		command = as_postgres("pg_ctl", "-w", "-s", "-D", self.data, "-m", "fast", "stop")
		subprocess.run(command, check=False)


def transactions(logs, begin):
	"""Latencies in ms by the second in which they ended."""
	seconds = collections.defaultdict(list)
	for path in logs:
		for line in path.read_text(encoding="utf-8").splitlines():
			_, _, took, _, at, _ = line.split()[:6]
			seconds[int(at) - int(begin)].append(int(took) / 1000)
	return seconds


# ---- one run ----

class Workload:
	def __init__(self, places, folder):
		self.database = Database(places["db"], folder)
		self.log = Log(places["log"])
		self.files, self.archive = SmallFiles(places["files"]), Archive(places["archive"])
		self.workers = (self.log, self.files, self.archive)

	def fill(self):
		self.files.fill()
		self.archive.fill()
		self.database.start()
		os.sync()

	def end(self):
		for worker in self.workers:
			if worker.is_alive():
				worker.end()
		self.database.stop()


def measure(where, samples, begin, seconds):
	"""A sample each second."""
	for _ in range(seconds):
		time.sleep(max(0, begin + len(samples) + 1 - time.time()))
		samples.append({"s": time.time() - begin, **where.counts()})


def go_through(work, where, phase_s):
	begin, samples, logs = time.time(), [], []
	for worker in work.workers:
		worker.start()
	for number, phase in enumerate(PHASES):
		idle = phase == "small files"
		(work.files.busy.set if idle else work.files.busy.clear)()
		if not idle:
			logs.append(work.database.run_for(phase_s, number))
		measure(where, samples, begin, phase_s)
		if not idle:
			work.database.wait()
	return begin, samples, [path for folder in logs for path in folder.iterdir()]


def one_run(name, where, phase_s):
	print(f"{name} …", file=sys.stderr, flush=True)
	work = None
	try:
		work = Workload(where.start(), where.folder)
		work.fill()
		begin, samples, logs = go_through(work, where, phase_s)
		result = {"name": name, "phase_s": phase_s, "samples": samples, "events": where.events()}
		latencies = transactions(logs, begin)
		for sample, second in zip(samples, range(len(samples))):
			found = sorted(latencies.get(second, []))
			sample["tps"] = len(found)
			sample["p99_ms"] = found[len(found) * 99 // 100] if found else None
		for event in result["events"]:
			event["s"] = event["time_s"] - begin
		return result
	finally:
		try:
			if work:
				work.end()
		finally:
			where.stop()


# ---- what came of it ----

def tps(result, phase=None, last=1.0):
	"""Mean of the database's phases, or of the last share of one."""
	n = result["phase_s"]
	spans = [(p * n, (p + 1) * n) for p in ([0, 2] if phase is None else [phase])]
	found = [s["tps"] for a, b in spans for s in result["samples"][a + int((b - a) * (1 - last)):b]]
	return statistics.fmean(found)


def since_first(result):
	"""Blocks written to the device and by users, at each sample since the first."""
	first, *others = result["samples"]
	return [{key: s[key] - first[key] for key in ("device", "user") if key in s} for s in others]


def moves(result):
	return [e for e in result["events"] if e["kind"] == "moved" and e["s"] >= 0]


def in_moves(result):
	"""The seconds of moves while pgbench runs, first and last; those that follow one another are one."""
	n, rows = result["phase_s"], []
	for move in moves(result):
		second = int(move["s"])
		if rows and second - rows[-1][1] <= CALM_S:
			rows[-1][1] = second
		else:
			rows.append([second, second])
	return [(first, last) for first, last in rows if first // n != 1 and first // n == last // n and
		first % n > CALM_S + START_S]


def beside_calm(result, first, last):
	"""Transactions in these seconds and the next, over those of the seconds before."""
	samples = result["samples"]
	moving, calm = samples[first:last + 2], samples[first - CALM_S:first]
	return statistics.fmean(s["tps"] for s in moving) / statistics.fmean(s["tps"] for s in calm)


def beside_moves(result, still):
	"""That for each move, over the same where nothing moved: the vacuum comes at the same time in each run."""
	return [beside_calm(result, *seconds) / beside_calm(still, *seconds) for seconds in in_moves(result)]


PLOT = """
set terminal svg size 1000,900 font "sans,13" background "white"
set output "{svg}"
set multiplot layout 3,1
set grid
set key outside right
set lmargin 11
set rmargin 26
set xrange [0:{end}]
{phases}
set title "PostgreSQL: transactions a second"
set yrange [0:*]
plot {tps}
unset label
set title "Blocks written to the disk for each that users write"
set yrange [1:*]
plot {wa}
set title "Sizes with the engine on, in MiB, and its moves"
set yrange [0:*]
set xlabel "seconds"
plot {sizes}
unset multiplot
"""
TITLES = {"guess": "sizes guessed wrong", "on": "engine on", "by hand": "best sizes, by hand",
	"one ext4": "one ext4, no pool"}
COLOURS = {"guess": "#d62728", "on": "#1f77b4", "by hand": "#2ca02c", "one ext4": "#999999"}
VERDICTS = {"improved": 9, "inconclusive": 7, "hurt": 11}  # and gnuplot's points
SMOOTH_S = 5


def smooth(samples, i):
	found = [s["tps"] for s in samples[max(i - SMOOTH_S + 1, 0):i + 1]]
	return statistics.fmean(found)


def wa_at(samples, i):
	a, b = samples[max(i - SMOOTH_S, 0)], samples[i]
	return (b["device"] - a["device"]) / (b["user"] - a["user"])


def draw(results, folder, svg):
	lines, n = {"tps": [], "wa": [], "sizes": []}, results[0]["phase_s"]

	def curve(what, title, rows, style):
		path = folder / f"{what}.{len(lines[what])}"
		text = [" ".join(f"{value:.4g}" for value in row) + "\n" for row in rows]
		path.write_text("".join(text), encoding="utf-8")
		lines[what].append(f'"{path}" using 1:2 with {style} title "{title}"')

	for result in results:
		samples, name = result["samples"], result["name"]
		rows, style = range(SMOOTH_S, len(samples), 2), f'lines lw 2 lc rgb "{COLOURS[name]}"'
		# an empty row, in which there is nothing to draw, is a gap
		tps_rows = [(samples[i]["s"], smooth(samples, i)) if i // n != 1 else () for i in rows]
		curve("tps", TITLES[name], tps_rows, style)
		if "user" in samples[0]:
			curve("wa", TITLES[name], [(samples[i]["s"], wa_at(samples, i)) for i in rows], style)
		if name == "on":
			draw_sizes(result, curve)
	phases = []
	for i, phase in enumerate(PHASES):
		phases += [f'set label "{phase}" at first {n * i + 2}, graph 0.06',
			f"set arrow from first {n * i}, graph 0 to first {n * i}, graph 1 nohead dashtype 2"]
	script = folder / "evidence.gnuplot"
	script.write_text(PLOT.format(svg=svg, end=3 * n, phases="\n".join(phases),
		**{what: ", ".join(curves) for what, curves in lines.items()}), encoding="utf-8")
	run("gnuplot", script)


def draw_sizes(result, curve):
	samples = result["samples"]
	for name in NAMES:
		changes = [b for a, b in zip(samples, samples[1:]) if a[name] != b[name]]
		rows = [(s["s"], s[name]) for s in (samples[0], *changes, samples[-1])]
		curve("sizes", name, rows, "steps lw 2")
	verdicts = {e["sequence"]: e.get("verdict") for e in result["events"] if e["kind"] == "outcome"}
	for verdict, point in VERDICTS.items():
		rows = [(m["s"], 20) for m in moves(result) if verdicts.get(m["sequence"]) == verdict]
		if rows:
			curve("sizes", f"moved: {verdict}", rows, f"points pt {point}")


def files_mib(result):
	"""MiB of small files a second, in the last third of their phase."""
	n, samples = result["phase_s"], result["samples"]
	a, b = samples[n + n * 2 // 3], samples[2 * n - 1]
	if "parts" not in a:
		return "–"
	return f"{(b['parts']['files'][1] - a['parts']['files'][1]) / 256 / (b['s'] - a['s']):.0f}"


def show_row(result):
	end = since_first(result)[-1]
	p99 = statistics.median(s["p99_ms"] for s in result["samples"] if s["p99_ms"] is not None)
	wa = f"{end['device'] / end['user']:.2f}" if "user" in end else "–"
	numbers = [f"{number:.0f}" for number in (tps(result), tps(result, 0, 1 / 3), tps(result, 2, 1 / 3))]
	print("|", " | ".join([result["name"], *numbers, f"{p99:.1f}", files_mib(result), wa,
		f"{len(moves(result))}"]), "|")


def show_bar(what, bar, value, at_most=False):
	met = value <= bar if at_most else value >= bar
	print(f"{what}: {value:.3f}, {'at most' if at_most else 'at least'} {bar}: {'met' if met else 'MISSED'}")


def show(results):
	print("| sizes | transactions/s | end of phase 1 | end of phase 3 | p99 ms | files MiB/s | WA | moves |")
	print("|---|---|---|---|---|---|---|---|")
	for name in VARIANTS:
		show_row(results[name])
	on, guess, best = results["on"], results["guess"], results["by hand"]
	beside = beside_moves(on, best)
	print("transactions/s while boundaries move, over just before, over the same by hand: " +
		", ".join(f"{b:.2f}" for b in beside))
	if len(beside) > 1:
		error = statistics.stdev(beside) / len(beside) ** 0.5
		show_bar(f"the mean of these, ± {error:.2f}", 0.98, statistics.fmean(beside))
	show_bar("in the end, over the best fixed sizes", 0.95, tps(on, 2, 1 / 3) / tps(best, 2, 1 / 3))
	show_bar("in the end, over the wrong guess", 1.2, tps(on, 2, 1 / 3) / tps(guess, 2, 1 / 3))
	# after a sixth: at first nothing much was written
	wa = [[s["device"] / max(s["user"], 1) for s in since_first(r)] for r in (on, guess)]
	more = [a / b - 1 for a, b in zip(*wa)]
	show_bar("written for what users wrote, more than by the guess", 0.02, max(more[len(more) // 6:]), True)


# ---- the whole ----

GUESS = {name: size for name, _, size in PARTITIONS}
# What a person would try who knows how much data there are and who writes: to the database all that the others can
# do without.
BY_HAND = {"db": 752, "log": 122, "files": 290, "archive": 396}
VARIANTS = "one ext4", "guess", "on", "by hand"


class Evidence:
	"""The runs, and what was kept of them: a file each, so that they need not be made in a row."""

	def __init__(self, program, phase_s, folder, kept):
		self.program, self.phase_s, self.folder, self.kept = program, phase_s, folder, kept
		kept.mkdir(parents=True, exist_ok=True)

	def path(self, name):
		return self.kept / f"{name.replace(' ', '-')}.json"

	def get(self, name):
		path = self.path(name)
		return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

	def place(self, name, folder):
		if name == "one ext4":
			return PlainFile(folder)
		if name in ("guess", "on"):
			return Pool(folder, self.program, GUESS, "on" if name == "on" else "observe")
		return Pool(folder, self.program, BY_HAND, "off")

	def do(self, name):
		folder = pathlib.Path(tempfile.mkdtemp(prefix="lcpfs-evidence.", dir=self.folder))
		folder.chmod(0o755)
		try:
			result = one_run(name, self.place(name, folder), self.phase_s)
		finally:
			shutil.rmtree(folder, ignore_errors=True)
		self.path(name).write_text(json.dumps(result), encoding="utf-8")

	def show(self, svg):
		results = {name: self.get(name) for name in VARIANTS}
		missing = [name for name, result in results.items() if not result]
		if missing:
			print(f"still to be run: {', '.join(missing)}")
			return
		show(results)
		draw([results[name] for name in ("guess", "on", "by hand", "one ext4")], self.folder, svg)


def main():
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("build", nargs="?", default=ROOT / "build")
	parser.add_argument("--phase", type=int, default=120, metavar="SECONDS", help="each of three; 120")
	parser.add_argument("--only", help="some of: " + ", ".join(VARIANTS))
	parser.add_argument("--resume", action="store_true", help="only what was not run yet")
	parser.add_argument("--show", action="store_true", help="run nothing, show what was kept")
	parser.add_argument("--kept", type=pathlib.Path, help="where results are kept: BUILD/evidence")
	parser.add_argument("--dir", default="/var/tmp", help="where the pool is made")
	a = parser.parse_args()
	build = pathlib.Path(a.build).resolve()
	if os.geteuid() or not POSTGRES:
		sys.exit("needs root and PostgreSQL: tools/install-deps.sh evidence")
	if not THROTTLE.exists():
		sys.exit(f"needs {THROTTLE} (cgroup v1): it slows the disk down to {SPEED_MIB} MiB/s")
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
	with tempfile.TemporaryDirectory(prefix="lcpfs-evidence.", dir=a.dir) as folder:
		os.chmod(folder, 0o755)
		evidence = Evidence(build / "lcpfs", a.phase, pathlib.Path(folder), a.kept or build / "evidence")
		for name in () if a.show else a.only.split(",") if a.only else VARIANTS:
			if not (a.resume and evidence.get(name)):
				evidence.do(name)
		evidence.show(evidence.kept / "evidence.svg")


if __name__ == "__main__":
	try:
		main()
	except (Failed, subprocess.SubprocessError, OSError) as error:
		sys.exit(f"evidence: {error}")
