#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Shows boundaries that move by themselves, under real clients, in about a minute and a half.

A pool in a file, three partitions whose first sizes are a plausible wrong guess, served over NBD and driven by
fio. For a while the engine only watches; then it may act. All numbers are measured.

usage: demo/demo.py [BUILD]
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build").resolve()
LCPFS = BUILD / "lcpfs"
MIB = 1 << 20
BLOCK = 4096

WATCH_S = 12  # the engine only watches: this is "before"
ACT_S = 56  # it may act; the last AFTER_S of it are "after"
AFTER_S = 10
TTY = sys.stdout.isatty()
PLAIN_EVERY_S = 4

POOL_SIZE = "768M"
# name, first size, volume in MiB: the archive has most of what is spare, as who expects it to grow would have it.
PARTITIONS = [("db", 176, 152), ("log", 104, 64), ("archive", 472, 176)]
MIN_SIZE, MAX_SIZE = "64M", "640M"


class Failed(Exception):
	pass


def run(*arguments):
	done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False)
	if done.returncode:
		raise Failed(f"{' '.join(map(str, arguments))}: {(done.stderr or done.stdout).strip()}")
	return done.stdout


class Pool:
	def __init__(self, folder):
		self.path = folder / "pool.lcpfs"
		self.socket = folder / "nbd.sock"
		self.server_log = folder / "server.log"
		self.server = None
		self.event = 0

	def create(self):
		run(LCPFS, "create", self.path, "--size", POOL_SIZE, "--metaslab", "1M")
		for name, size, volume in PARTITIONS:
			run(LCPFS, "add", self.path, name, "--space", "--min", MIN_SIZE, "--max", MAX_SIZE,
				"--size", f"{size}M", "--volume", f"{volume}M")

	def serve(self):
		self.server = subprocess.Popen(
			[LCPFS, "serve", self.path, "--socket", self.socket, "--tune", "off"],
			stdout=subprocess.PIPE, stderr=open(self.server_log, "w"), text=True,
			start_new_session=True)
		line = self.server.stdout.readline()
		if not line:
			raise Failed("the server did not start")
		return line.strip()

	def stop(self):
		if not self.server:
			return
		self.server.terminate()
		status = self.server.wait(30)
		self.server = None
		if status:
			raise Failed(f"the server ended with {status}")

	def ask(self, *arguments):
		return json.loads(run(LCPFS, arguments[0], self.path, *arguments[1:], "--json"))

	def events(self):
		found = self.ask("log", "--after", self.event)["events"]
		self.event = found[-1]["number"] if found else self.event
		return found

	def uri(self, name):
		return f"nbd+unix:///{name}?socket={self.socket}"


# ---- clients ----

def fio(pool, name, *options):
	command = ["fio", "--name", name, "--ioengine=nbd", f"--uri={pool.uri(name)}", "--output-format=terse",
		"--randrepeat=1", *options]
	return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def fill(pool):
	jobs = [fio(pool, name, "--rw=write", "--bs=1m", f"--size={volume}m", "--iodepth=4")
		for name, _, volume in PARTITIONS]
	for job in jobs:
		if job.wait(120):
			raise Failed(f"filling: {job.stderr.read().decode()}")


def start_clients(pool):
	"""A database that overwrites at random, a log that is appended to and trimmed, an archive, read at times."""
	volume = {name: f"--size={size}m" for name, _, size in PARTITIONS}
	forever = ("--time_based", "--runtime=600")
	return [
		fio(pool, "db", "--rw=randwrite", "--bs=8k", "--iodepth=8", volume["db"], *forever),
		fio(pool, "log", "--rw=trimwrite", "--bs=64k", "--iodepth=1", "--rate=4m", volume["log"],
			*forever),
		fio(pool, "archive", "--rw=randrw", "--rwmixread=95", "--bs=64k", "--iodepth=1", "--rate_iops=20",
			volume["archive"], *forever),
	]


def end_clients(clients):
	for client in clients:
		if client.poll() is None:
			os.killpg(client.pid, signal.SIGKILL)
	for client in clients:
		client.wait()


def check_clients(clients):
	for client in clients:
		if client.poll() is not None:
			raise Failed(f"a client ended: {client.stderr.read().decode().strip()}")


# ---- measuring ----

def sample(pool, start):
	partitions = {p["name"]: p for p in pool.ask("list")["partitions"]}
	return {"s": time.monotonic() - start, "partitions": partitions}


def between(first, last, name):
	"""What a partition did between two samples, from its counters."""
	a, b = first["partitions"][name], last["partitions"][name]
	took = last["s"] - first["s"]
	operations = b["read_ops"] + b["write_ops"] - a["read_ops"] - a["write_ops"]
	busy_us = b["read_us"] + b["write_us"] - a["read_us"] - a["write_us"]
	written = b["written_blocks"] - a["written_blocks"]
	latency = busy_us / operations if operations else 0
	return {
		"size": b["size_blocks"] * BLOCK / MIB,
		"live": b["live_blocks"] * BLOCK / MIB,
		"ops": operations / took,
		"latency": latency,
		"wa": (b["device_blocks"] - a["device_blocks"]) / written if written else None,
		"epsilon": latency * b["utilization"] * operations / took,
	}


# ---- showing ----

def bar(partition, scale_blocks, width=32):
	"""Live data, and what is spare behind it."""
	live = round(width * partition["live_blocks"] / scale_blocks)
	size = max(round(width * partition["size_blocks"] / scale_blocks), live)
	return "█" * live + "░" * (size - live)


def number(value, digits=0):
	return "-" if value is None else f"{value:,.{digits}f}"


HEAD = (f"{'':8} {'size':>7} {'live':>7} {'used':>6} {'ops/s':>8} {'latency':>9} {'pressure':>9} {'WA':>6}"
	f" {'ε':>10}")


def partition_line(p):
	return (f"{p['name']:8} {p['size_blocks'] * BLOCK / MIB:6.0f}M {p['live_blocks'] * BLOCK / MIB:6.0f}M"
		f" {100 * p['utilization']:5.1f}% {p['access_frequency']:8,.0f} {p['avg_latency_us']:6,.0f} us"
		f" {number(p['pressure']):>9} {p['write_amplification']:6.2f} {p['epsilon']:10,.0f}")


class View:
	"""Events scroll by; below them, on a terminal, a table that stays."""

	def __init__(self):
		self.lines_drawn = 0
		self.plain_s = -PLAIN_EVERY_S

	def erase(self):
		if self.lines_drawn:
			sys.stdout.write(f"\x1b[{self.lines_drawn}A\x1b[J")
		self.lines_drawn = 0

	def say(self, text):
		self.erase()
		print(text, flush=True)

	def draw(self, now, phase):
		if not TTY and now["s"] - self.plain_s < PLAIN_EVERY_S:
			return
		self.plain_s = now["s"]
		partitions = list(now["partitions"].values())
		scale = sum(p["size_blocks"] for p in partitions)
		lines = ["", f"{now['s']:5.1f} s  {phase}", HEAD]
		lines += [partition_line(p) + "  " + bar(p, scale) for p in partitions]
		self.erase()
		print("\n".join(lines), flush=True)
		self.lines_drawn = len(lines) if TTY else 0


def show_event(view, event, since):
	if event["kind"] in ("moved", "outcome", "emergency", "decision"):
		width = max(60, shutil.get_terminal_size((115, 24)).columns - 1)
		head = f"{since:5.1f} s  {event['kind']:9}"
		what = ""
		if event["kind"] == "moved":
			what = f"{event['from'] or 'free space'} → {event['to']}, {event['blocks'] * BLOCK / MIB:.0f} MiB: "
		view.say(textwrap.fill(f"{head} {what}{event['text']}", width, subsequent_indent=" " * (len(head) + 1)))


def watch(pool, clients, view, start, seconds, phase, samples):
	until = time.monotonic() + seconds
	while time.monotonic() < until:
		check_clients(clients)
		now = sample(pool, start)
		samples.append(now)
		for event in pool.events():
			show_event(view, event, now["s"])
		view.draw(now, phase)
		time.sleep(1)


def before_and_after(samples, acting_s):
	watched = [s for s in samples if 2 <= s["s"] <= acting_s]
	last = [s for s in samples if s["s"] >= samples[-1]["s"] - AFTER_S]
	rows = []
	for name, _, _ in PARTITIONS:
		rows.append((name, between(watched[0], watched[-1], name), between(last[0], last[-1], name)))
	return rows


def show_before_and_after(rows):
	print(f"\n{'':8} {'size':>16} {'live':>6} {'ops/s':>18} {'latency (us)':>18} {'WA':>14} {'ε':>22}")
	for name, a, b in rows:
		print(f"{name:8} {a['size']:6.0f}M → {b['size']:5.0f}M {b['live']:5.0f}M"
			f" {a['ops']:8,.0f} → {b['ops']:7,.0f} {a['latency']:8,.0f} → {b['latency']:7,.0f}"
			f" {number(a['wa'], 2):>5} → {number(b['wa'], 2):>6}"
			f" {a['epsilon']:10,.0f} → {b['epsilon']:9,.0f}")
	total = [sum(row[i]["epsilon"] for row in rows) for i in (1, 2)]
	print(f"{'all':8} {'':16} {'':6} {'':18} {'':18} {'':14} {total[0]:10,.0f} → {total[1]:9,.0f}")


# ---- the picture ----

PLOT = """
set terminal svg size 900,800 font "sans,13" background "white"
set output "{svg}"
set multiplot layout 3,1 title "lcpfs: boundaries that move by themselves"
set grid
set key outside right
set lmargin 11
set rmargin 16
set xrange [0:*]
set arrow 1 from first {act_s}, graph 0 to first {act_s}, graph 1 nohead dashtype 2 lc "gray40"
set ylabel "size (MiB)"
set yrange [0:*]
plot {sizes}
set ylabel "write amplification"
plot {wa}
set ylabel "ε"
set xlabel "seconds; right of the dashed line the engine acts"
set logscale y
set yrange [*:*]
set format y "10^{{%L}}"
plot {epsilon}, "{data}" using 1:{total} with lines lw 3 lc "black" title "all"
unset multiplot
"""


def write_data(samples, path):
	names = [name for name, _, _ in PARTITIONS]
	with open(path, "w", encoding="utf-8") as data:
		for last, now in zip(samples, samples[1:]):
			did = [between(last, now, name) for name in names]
			epsilon = [now["partitions"][name]["epsilon"] for name in names]
			row = [now["s"], *(d["size"] for d in did), *(d["wa"] or 1 for d in did)]
			row += [*epsilon, sum(epsilon)]
			data.write(" ".join(f"{value:.4f}" for value in row) + "\n")


def curves(data, column, style):
	return ", ".join(f'"{data}" using 1:{column + i} with {style} lw 2 lc {i + 1} title "{name}"'
		for i, (name, _, _) in enumerate(PARTITIONS))


def draw_picture(samples, acting_s, folder):
	data, script = folder / "demo.data", folder / "demo.gnuplot"
	svg = (BUILD if os.access(BUILD, os.W_OK) else pathlib.Path.cwd()) / "demo.svg"
	count = len(PARTITIONS)
	write_data(samples, data)
	script.write_text(PLOT.format(svg=svg, act_s=acting_s, data=data, total=2 + 3 * count,
		sizes=curves(data, 2, "steps"), wa=curves(data, 2 + count, "lines"),
		epsilon=curves(data, 2 + 2 * count, "lines")))
	run("gnuplot", script)
	return svg


# ---- the whole ----

def show(pool, folder):
	view = View()
	clients = []
	samples = []
	print(f"A pool of {POOL_SIZE} in {pool.path}.")
	print("The first sizes are a wrong guess: most of what is spare lies with the archive.")
	pool.create()
	print(pool.serve())
	print("Filling the volumes …", flush=True)
	fill(pool)
	pool.events()
	start = time.monotonic()
	try:
		clients += start_clients(pool)
		view.say("Clients: a database (random overwrites), a log (append, trim), an archive (read at times).")
		pool.ask("tune", "observe")
		watch(pool, clients, view, start, WATCH_S, "the engine only watches (tune observe)", samples)
		acting_s = time.monotonic() - start
		pool.ask("tune", "on")
		view.say(f"{acting_s:5.1f} s  From now on the engine may move boundaries (lcpfs tune POOL on).")
		watch(pool, clients, view, start, ACT_S, "the engine acts (tune on)", samples)
		finish(pool, samples, acting_s, folder)
	finally:
		end_clients(clients)
	pool.stop()
	print("\n$ lcpfs check POOL --data\n" + run(LCPFS, "check", pool.path, "--data").strip())
	print(f"\nPicture: {draw_picture(samples, acting_s, folder)}")


def finish(pool, samples, acting_s, folder):
	explanation = run(LCPFS, "explain", pool.path)
	(folder / "explain").write_text(explanation)
	print(f"\nBefore (the last {acting_s - 2:.0f} s of watching) and after (the last {AFTER_S} s):")
	show_before_and_after(before_and_after(samples, acting_s))
	print("\n$ lcpfs explain POOL\n" + explanation.strip())


def main():
	for program in ("fio", "gnuplot"):
		if not shutil.which(program):
			sys.exit(f"{program} is missing: run make demo, which installs it")
	if not LCPFS.exists():
		sys.exit(f"{LCPFS} is missing: run make first")
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
	folder = pathlib.Path(tempfile.mkdtemp(prefix="lcpfs-demo."))
	pool = Pool(folder)
	try:
		show(pool, folder)
	except (Failed, subprocess.TimeoutExpired, OSError) as failure:
		print(f"\nThe demo failed: {failure}", file=sys.stderr)
		if pool.server_log.exists():
			print("The server's log:\n" + pool.server_log.read_text(), file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		print("\ninterrupted")
		return 1
	finally:
		if pool.server:
			pool.server.kill()
			pool.server.wait()
		shutil.rmtree(folder, ignore_errors=True)
	return 0


if __name__ == "__main__":
	sys.exit(main())
