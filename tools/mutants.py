#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants defects, one at a time, and tells which of them the tests notice.

tests/mutants/*.txt hold them, so:

	[name]
	in: FILE [FUNCTION]
	breaks: what goes wrong, as a user would see it
	- old text, which must be there once in that function or file; blanks and line ends count as the same
	+ new text
	equivalent: WHY nobody can see it; then it is not planted, and does not count

Each worker has a copy of the tree in build-mutants/N and builds there only what it runs. The tests of a mutant are
those of its folder (LADDERS), the likeliest first: what noticed another mutant of the same file, then as listed.
The first that fails ends it. A test that takes far longer than without the mutant is killed and counts as noticed.
One that failed, and may have failed by the machine's fault, is asked twice. What does not compile is an error of
the list.

usage: tools/mutants.py [--only NAME]... [--folder FOLDER]... [--resume] [--jobs N] [--limit SECONDS] [--all]
       tools/mutants.py --list | --check
"""

import argparse
import collections
import fnmatch
import hashlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests" / "mutants"
SCRATCH = ROOT / "build-mutants"
RESULTS = SCRATCH / "results.jsonl"
LIMIT_S = 180  # of tests for one mutant, by what they take without: a busy machine changes no verdict
HUNG_LEAST_S = 120
HUNG_TIMES = 20  # as long as without a mutant: then it hangs
SKIPPED = 77
DOUBTED = {"cli", "nbd", "crash", "sched"}  # suites whose tests are asked twice; crash and sched only if it slept

STORE = [
	"store_device", "store_damage", "store_volume", "store_region", "store_order", "store_chain", "store_snapshot",
	"store_audit", "store_hostile", "store_room",
	"store_step", "store_host", "store_difference", "model",
	"pool_clones", "pool_streams", "changed",
	"store, every operation fails*",
	"store, orders of threads, mix (2 *", "store, rot (1 *", "store, full", "store under power cuts (2 *",
	"store, orders of threads, faults*", "store, every subset of writes (2 *",
	"store, orders of threads, full (2 *", "store, rot (2 *", "pool", "pool_moves",
	"store, orders of threads, host (2 *", "store, given to the host*", "store, room that came*",
	"store, every allocation fails",
	"pool, host full (2 *", "threads",
	"store_length", "store under power cuts (*", "store, rot (3 *", "store, orders of threads, mix (3 *",
	"store, every subset*", "store, orders of threads, short (*", "pool with snapshots under power cuts (*",
	"clones", "streams",
	"data", "full",
]
POOL = [
	"guard", "pool_clones", "pool_snapshots", "pool_streams", "pool_errors", "pool", "pool_create", "pool_hostile",
	"pool_keeper", "pool_moves", "pool_grow", "pool_samples", "iostat",
	"pool_files", "pool_crash", "claim", "threads", "pool, who is refused (2 *",
	"pool, orders of threads (2 *",
	"pool under power cuts (2 *", "pool, every operation fails (2 *", "pool, host full (2 *", "golden*",
	"pool with snapshots under power cuts (2 *", "pool with snapshots, every operation fails (2 *",
	"life", "set",
	"grow", "damage", "json", "check-many", "dry-run", "remove", "limits", "serve-stale", "full", "when-full",
]
SERVE = [
	"test_handshake", "test_requests", "serve-search", "serve-cuts", "serve-faults", "data", "commands",
	"endings", "tls", "full", "when-full", "hostile", "memory", "multi-conn", "exports", "sigterm", "crowds",
	"cuts", "sockets", "metrics", "readme", "powercuts",
]
CONTROL = [
	"describe", "json", "schema", "life", "set", "get", "remove", "dry-run", "served-same", "control-garbage",
	"hostile-server", "bad-input", "limits", "metrics", "iostat", "serve-stale", "check-many", "hook", "grow",
	"progress", "interrupted", "columns", "top", "sockets",
]
LADDERS = {
	"src/store": STORE,
	"src/space": ["space", *STORE],
	"src/vdev": [
		"vdev", "vdev_kernel", "simdisk", "pool_files", "claim", "pool", "store, every operation fails*",
		"data", "powercuts", "host-full", "pool_crash", "threads", "life", "limits", "kill",
	],
	"src/format": [
		"format", "golden*", "store_hostile", "pool_hostile", "pool", "store, rot (1 *", *STORE,
	],
	"src/base": ["base", "format", "pool", "json", "bad-input", "life"],
	"src/pool": POOL,
	"src/engine": [
		"engine_math", "engine", "engine_ledger", "engine_record", "engine_restart", "engine_hostile",
		"engine_words", "engine alone", "pool_keeper", "pool", "simulate", "pool_moves",
	],
	"src/serve": SERVE,
	"src/control": CONTROL,
	"cli": [
		"help", "bad-input", "columns", "limits", *CONTROL, "report", "damage", "tls", "attach",
		"completion", "simulate", "block-device",
	],
}
ALL_SUITES = {"unit", "cli", "crash", "sched", "nbd", "api", "golden"}


# -- the list --

class Mutant:
	def __init__(self, name, where):
		self.name, self.where = name, where
		self.path = self.function = self.breaks = self.equivalent = ""
		self.old, self.new = [], []

	def digest(self):
		what = repr((self.path, self.function, self.old, self.new))
		return hashlib.sha256(what.encode()).hexdigest()[:16]

	def folder(self):
		names = self.path.split("/")
		return "/".join(names[:2]) if names[0] == "src" else names[0]

	def pattern(self):
		return r"\s+".join(re.escape(word) for word in " ".join(self.old).split())

	def spans(self, text):
		"""Where it may be planted: the bodies of its function, or all."""
		if not self.function:
			return [(0, len(text))]
		body = r"^(?!\s)[^;{}#]*\b" + re.escape(self.function) + r"\([^;{}]*\)\s*\{.*?^\}"
		return [found.span() for found in re.finditer(body, text, re.MULTILINE | re.DOTALL)]

	def apply(self, text):
		"""The text with the defect. ValueError: it does not apply."""
		spans = self.spans(text)
		found = [m for start, end in spans for m in re.compile(self.pattern()).finditer(text, start, end)]
		if len(found) != 1:
			what = f"the old text is there {len(found)} times" if spans else "no such function"
			raise ValueError(f"{self.path} {self.function}: {what}")
		return text[:found[0].start()] + "\n".join(self.new) + text[found[0].end():]


def take_line(mutant, line):
	key, _, value = line.partition(":")
	if line[0] in "-+":
		(mutant.old if line[0] == "-" else mutant.new).append(line[1:].strip())
	elif key == "in":
		mutant.path, _, mutant.function = value.strip().partition(" ")
	elif key in ("breaks", "equivalent"):
		setattr(mutant, key, value.strip())
	else:
		return False
	return True


def read_list(path):
	mutants = []
	for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
		heading = re.fullmatch(r"\[([a-z0-9-]+)\]", line)
		if heading:
			mutants.append(Mutant(heading[1], f"{path.relative_to(ROOT)}:{number}"))
		elif line and line[0] != "#" and not (mutants and take_line(mutants[-1], line)):
			sys.exit(f"{path.relative_to(ROOT)}:{number}: not a line of a mutant: {line}")
	return mutants


def read_lists():
	return [mutant for path in sorted(LISTS.glob("*.txt")) for mutant in read_list(path)]


def complaints(mutants):
	names = collections.Counter(mutant.name for mutant in mutants)
	for mutant in mutants:
		if names[mutant.name] > 1:
			yield f"{mutant.where}: {mutant.name}: the name is used twice"
		if not (mutant.path and mutant.breaks and mutant.old and mutant.new):
			yield f"{mutant.where}: {mutant.name}: in, breaks, - or + is missing"
			continue
		if mutant.folder() not in LADDERS:
			yield f"{mutant.where}: {mutant.name}: no tests are known for {mutant.folder()}"
		try:
			mutant.apply((ROOT / mutant.path).read_text(encoding="utf-8"))
		except (OSError, ValueError) as wrong:
			yield f"{mutant.where}: {mutant.name}: {wrong}"


def check(mutants):
	found = list(complaints(mutants))
	for complaint in found:
		print(complaint, file=sys.stderr)
	print(f"{len(mutants)} mutants, {len(found)} that do not apply")
	return 1 if found else 0


# -- time --

class Watch:
	"""Seconds in which this machine ran us. A pause, of all processes at a time, does not count."""

	def __init__(self):
		self.seconds, self.last, self.slept = 0.0, time.monotonic(), False

	def look(self):
		now = time.monotonic()
		self.slept |= now - self.last > 3
		self.seconds += min(now - self.last, 1)
		self.last = now
		return self.seconds


# -- a copy of the tree --

class Test:
	def __init__(self, described, tree):
		self.name, self.env = described["name"], described["env"]
		self.suites = {suite.split(":")[-1] for suite in described["suite"]}
		self.command = [self.moved(word, tree) for word in described["cmd"]]
		self.env = {key: self.moved(value, tree) for key, value in self.env.items()}
		build = str(tree / "build") + "/"
		own = self.command[0].startswith(build)
		self.target = self.command[0][len(build):] if own else "lcpfs"

	@staticmethod
	def moved(word, tree):
		"""Meson's paths are those of the first copy."""
		return word.replace(str(SCRATCH / "0") + "/", str(tree) + "/")


class Outcome:
	def __init__(self, kind, seconds, slept=False):
		self.kind, self.seconds, self.slept = kind, seconds, slept  # kind: passed, failed, hung


class Tree:
	def __init__(self, number):
		self.path = SCRATCH / str(number)
		self.build = self.path / "build"
		self.running = None

	def sync(self):
		"""What is in the working tree, and nothing of a mutant; times stay where nothing differs."""
		command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
		names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
		for name in filter(None, names):
			source, target = ROOT / name, self.path / name
			if not source.is_file():
				continue
			if not target.is_file() or source.read_bytes() != target.read_bytes():
				target.parent.mkdir(parents=True, exist_ok=True)
				shutil.copy(source, target)

	def make(self):
		if not (self.build / "build.ninja").exists():
			setup = ["meson", "setup", "build"]
			subprocess.run(setup, cwd=self.path, check=True, stdout=subprocess.DEVNULL)
		failed = self.ninja([])
		if failed:
			sys.exit(f"{self.path}: without a mutant it does not build:\n{failed}")

	def ninja(self, targets):
		"""None, or what it says."""
		command = ["ninja", "-C", str(self.build), "-j", "2", *targets]
		done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
			errors="replace", check=False)
		return done.stdout[-3000:] if done.returncode else None

	def tests(self):
		command = ["meson", "introspect", "--tests", str(SCRATCH / "0" / "build")]
		done = subprocess.run(command, capture_output=True, check=True, text=True)
		return [Test(described, self.path) for described in json.loads(done.stdout)]

	def run(self, test, hung_s):
		environment = {**os.environ, "MALLOC_PERTURB_": "165", **test.env}
		scratch = tempfile.mkdtemp(prefix="lcpfs-mutant-")
		environment["TMPDIR"] = scratch
		watch = Watch()
		with open(self.path / "last.log", "wb") as log:
			process = subprocess.Popen(test.command, cwd=self.build, env=environment,
				stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
			self.running = process
			while process.poll() is None and watch.look() < hung_s:
				try:
					process.wait(0.25)
				except subprocess.TimeoutExpired:
					pass
			hung = process.poll() is None
			self.end(process)
			self.running = None
		watch.look()
		shutil.rmtree(scratch, ignore_errors=True)
		if hung:
			return Outcome("hung", watch.seconds, watch.slept)
		good = process.returncode in (0, SKIPPED)
		return Outcome("passed" if good else "failed", watch.seconds, watch.slept)

	@staticmethod
	def end(process):
		"""And whatever it has left behind in its session."""
		for number, patience_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 60)):
			try:
				os.killpg(process.pid, number)
				process.wait(patience_s)
			except (ProcessLookupError, subprocess.TimeoutExpired):
				pass


# -- one mutant --

class Run:
	"""What all workers share."""

	def __init__(self, options):
		self.options = options
		self.lock = threading.Lock()
		self.baseline = {}  # seconds by test
		self.killers = collections.Counter()  # (file or folder, test)
		self.results = {}  # by the mutant's name

	def read(self):
		for line in RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []:
			result = json.loads(line)
			if "baseline" in result:
				self.baseline[result["baseline"]] = result["seconds"]
			else:
				self.note(result)

	def note(self, result):
		self.results[result["mutant"]] = result
		if result["verdict"] == "noticed":
			self.killers[result["file"], result["by"]] += 1
			self.killers[result["folder"], result["by"]] += 1

	def keep(self, result):
		with self.lock:
			with open(RESULTS, "a", encoding="utf-8") as out:
				out.write(json.dumps(result) + "\n")
			if "mutant" in result:
				self.note(result)

	def ladder(self, mutant, tests):
		patterns = LADDERS[mutant.folder()]
		picked = []
		for pattern in patterns:
			picked += [t for t in tests if fnmatch.fnmatchcase(t.name, pattern) and t not in picked]
		if self.options.all:
			picked += [t for t in tests if t not in picked and t.suites & ALL_SUITES]
		with self.lock:
			k, folder = self.killers, mutant.folder()
			hits = {t.name: (k[mutant.path, t.name], k[folder, t.name]) for t in picked}
		fast = [t for t in picked if self.baseline.get(t.name, 99) < 2]
		slow = [t for t in picked if t not in fast]
		fast.sort(key=lambda t: hits[t.name], reverse=True)
		slow.sort(key=lambda t: hits[t.name], reverse=True)
		return fast + slow

	def ask(self, tree, test):
		"""Asked twice where the machine may be at fault."""
		hung_s = max(HUNG_LEAST_S, HUNG_TIMES * self.baseline.get(test.name, 0))
		outcome = tree.run(test, hung_s)
		doubted = test.suites & DOUBTED and (outcome.slept or test.suites & {"cli", "nbd"})
		if outcome.kind != "passed" and (doubted or outcome.slept):
			outcome = tree.run(test, hung_s)
		return outcome

	def try_mutant(self, mutant, tree, tests):
		result = {"mutant": mutant.name, "digest": mutant.digest(), "folder": mutant.folder(),
			"file": mutant.path, "verdict": "survived", "by": "", "how": "", "seconds": 0, "tests": 0,
			"limit": 0 if self.options.all else self.options.limit}
		left = float("inf") if self.options.all else self.options.limit
		for test in self.ladder(mutant, tests):
			if self.baseline.get(test.name, 0) > left:
				continue
			left -= self.baseline.get(test.name, 0)
			wrong = tree.ninja([test.target])
			if wrong:
				return {**result, "verdict": "error", "how": wrong}
			outcome = self.ask(tree, test)
			result["seconds"] = round(result["seconds"] + outcome.seconds, 1)
			result["tests"] += 1
			if outcome.kind != "passed":
				return {**result, "verdict": "noticed", "by": test.name, "how": outcome.kind}
		return result

	def measure(self, tree, test):
		outcome = tree.run(test, 600)
		if outcome.kind == "failed":
			outcome = tree.run(test, 600)
		if outcome.kind != "passed":
			print(f"left out: {test.name}: it {outcome.kind} without a mutant", flush=True)
			outcome.seconds = LIMIT_S * 1000
		self.baseline[test.name] = round(outcome.seconds, 2)
		self.keep({"baseline": test.name, "seconds": self.baseline[test.name]})


# -- all of them --

def prepare(jobs):
	first = Tree(0)
	first.path.mkdir(parents=True, exist_ok=True)
	first.sync()
	first.make()
	trees = [first]
	for number in range(1, jobs):
		tree = Tree(number)
		ninja = tree.build / "build.ninja"
		# A copy cannot be configured anew: its paths are those of the first.
		if not ninja.exists() or ninja.read_bytes() != (first.build / "build.ninja").read_bytes():
			shutil.rmtree(tree.path, ignore_errors=True)
			subprocess.run(["cp", "-a", str(first.path), str(tree.path)], check=True)
		tree.sync()
		trees.append(tree)
	return trees


def end_on_signals(trees):
	"""With the tests that run: they are sessions of their own."""
	def end(number, _):
		for tree in trees:
			if tree.running:
				tree.end(tree.running)
		os._exit(128 + number)

	signal.signal(signal.SIGTERM, end)
	signal.signal(signal.SIGINT, end)


def in_parallel(trees, items, work):
	waiting = queue.SimpleQueue()
	for item in items:
		waiting.put(item)

	def worker(tree):
		while True:
			try:
				item = waiting.get_nowait()
			except queue.Empty:
				return
			work(tree, item)

	threads = [threading.Thread(target=worker, args=(tree,)) for tree in trees]
	for thread in threads:
		thread.start()
	for thread in threads:
		while thread.is_alive():  # signals are heard in between
			thread.join(1)


def needed_tests(run, mutants, tests):
	names = {t.name for mutant in mutants for t in run.ladder(mutant, tests)}
	return [t for t in tests if t.name in names and t.name not in run.baseline]


def plant_all(run, trees, mutants):
	tests = {tree.path: tree.tests() for tree in trees}
	first = tests[trees[0].path]
	by_name = {path: {t.name: t for t in listed} for path, listed in tests.items()}
	unknown = needed_tests(run, mutants, first)
	if unknown:
		print(f"measuring {len(unknown)} tests without a mutant", flush=True)
	for tree in trees:
		tree.make()
	names = [t.name for t in unknown]
	in_parallel(trees, names, lambda tree, name: run.measure(tree, by_name[tree.path][name]))
	done = [0]

	def work(tree, mutant):
		path = tree.path / mutant.path
		whole = path.read_text(encoding="utf-8")
		try:
			path.write_text(mutant.apply(whole), encoding="utf-8")
			result = run.try_mutant(mutant, tree, tests[tree.path])
		finally:
			path.write_text(whole, encoding="utf-8")
		run.keep(result)
		done[0] += 1
		told = result["by"] or result["how"][-300:]
		print(f"{done[0]}/{len(mutants)} {result['verdict']:8} {mutant.folder():11} {mutant.name}: {told} "
			f"({result['seconds']:.0f} s)", flush=True)

	in_parallel(trees, mutants, work)


def tell(run, mutants):
	results = [(m, run.results.get(m.name)) for m in mutants if not m.equivalent]
	results = [(m, r) for m, r in results if r and r["digest"] == m.digest()]
	print("\nfolder       noticed / planted")
	for folder in [*LADDERS, "all"]:
		here = [r for m, r in results if folder in (m.folder(), "all")]
		noticed = sum(r["verdict"] == "noticed" for r in here)
		if here:
			print(f"{folder:12} {noticed:7} / {len(here)}  ({100 * noticed / len(here):.0f} %)")
	print(f"equivalent, not counted: {sum(bool(m.equivalent) for m in mutants)}")
	for verdict, title in (("survived", "not noticed:"), ("error", "errors of the list:")):
		those = [m for m, r in results if r["verdict"] == verdict]
		print(title if those else "", *(f"  {m.name} ({m.where}): {m.breaks}" for m in those), sep="\n")
	return 1 if any(r["verdict"] == "error" for _, r in results) else 0


def arguments():
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("--only", action="append", metavar="NAME", help="only this one; also a pattern")
	parser.add_argument("--folder", action="append", metavar="FOLDER", help="only those in this folder")
	parser.add_argument("--resume", action="store_true", help="without those that are settled by earlier runs")
	parser.add_argument("--survivors", action="store_true", help="only those that were not noticed")
	parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
	parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of tests for one")
	parser.add_argument("--all", action="store_true", help="against all of make test, however long that takes")
	parser.add_argument("--list", action="store_true", help="say what there is")
	parser.add_argument("--check", action="store_true", help="does each still apply?")
	return parser.parse_args()


def is_settled(result, options):
	"""Noticed, or not by as many tests as are wanted now."""
	if not result or result["verdict"] == "error":
		return False
	limit = result.get("limit", options.limit)
	enough = limit == 0 or (not options.all and limit >= options.limit)
	return result["verdict"] == "noticed" or enough


def chosen(run, mutants):
	options = run.options

	def known(mutant):
		result = run.results.get(mutant.name)
		return result if result and result["digest"] == mutant.digest() else None

	for mutant in mutants:
		named = not options.only or any(fnmatch.fnmatchcase(mutant.name, p) for p in options.only)
		if not named or mutant.equivalent or (options.folder and mutant.folder() not in options.folder):
			continue
		if options.survivors and (not known(mutant) or known(mutant)["verdict"] != "survived"):
			continue
		if options.resume and is_settled(known(mutant), options):
			continue
		yield mutant


def spread(mutants):
	"""Folder by folder in turns: what was done until somebody stops it tells of all."""
	by_folder = collections.defaultdict(list)
	for mutant in mutants:
		by_folder[mutant.folder()].append(mutant)
	turns = [((i + 0.5) / len(some), mutant) for some in by_folder.values() for i, mutant in enumerate(some)]
	return [mutant for _, mutant in sorted(turns, key=lambda turn: turn[0])]


def main():
	options = arguments()
	mutants = read_lists()
	if options.check:
		return check(mutants)
	if options.list:
		for mutant in mutants:
			mark = " (equivalent)" if mutant.equivalent else ""
			print(f"{mutant.path:28} {mutant.name}: {mutant.breaks}{mark}")
		return 0
	if check(mutants):
		return 1
	SCRATCH.mkdir(exist_ok=True)
	run = Run(options)
	run.read()
	some = spread(list(chosen(run, mutants)))
	if some:
		trees = prepare(options.jobs)
		end_on_signals(trees)
		plant_all(run, trees, some)
	return tell(run, mutants)


if __name__ == "__main__":
	sys.exit(main())
