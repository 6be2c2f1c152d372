#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every scenario of the engine's bars through `lcpfs simulate`; prints bar, worst, mean, and pass or fail.

    sim/bars.py [--lcpfs build/lcpfs] [--seeds 10] [--jobs N] [--only NAME,...] [--trace FILE] [--json FILE]
                [--priors [NAME,...] | --restart | --full | --drawn N | --swings | --shifts [N]] [--extra "ARGS"]

Each scenario runs from five starts (equal spare, spare in proportion to live data, all to the first, all to the
last, in inverse proportion to the writes) and from each with every seed. There is a gigabyte of data, and its
spare is what there is beyond the least that the store needs for it; the ratios are those of larger pools.

--priors   all of it again for each prior of the engine, ten times too large and ten times too small
--restart  the engine is stopped and reopened midway; also compares that with the uninterrupted run
--drawn    instead of all that: N loads drawn at random (partitions, shares, weights, patterns, spare,
           starts, shifts, flushes), by number; those that do harm, or end worse, are shown
--swings   likewise, two partitions whose weights swing, once per 1/4 to 16 pool sizes written
--shifts   likewise, two partitions whose weights change places once, after 1 to 4 pool sizes written;
           N: so many drawn at random, two to eight partitions that change places once or twice
--full     10 GiB of data in pools of 11, 12 and 13 GiB, whatever the store needs of that for itself
"""

import argparse
import concurrent.futures
import itertools
import json
import math
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time

LIVE, FULL = 1024, 10240  # MiB of data in every synthetic scenario
STARTS = ["equal", "proportional", "first", "last", "inverse"]
PRIORS = {"pressure": 100, "cooldown": 300, "growth": 0.10, "shrink": 0.05, "curve-level": 1, "curve-power": 0.25,
	"curve-scatter": 0.05, "kept": 0.5, "copy-share": 1, "latency-error": 1, "trust": 1}
HARM = 0.02
SIGNIFICANCE = 0.05
Z = 1.645  # its quantile of the normal distribution; the engine's, Student's, is larger
RESTART = 0.02  # of the pool, or of ε: how far a restarted run may end from the uninterrupted one
RANDOM_LATENCY_US = 100  # mean of what --random-latency draws
RECORDED_MIB = 300  # of the recorded database, without its log
FAST_RATE = 125000  # operations/s: with copying, a gigabyte turns over in a second
SLOW_RATE = 2000  # operations/s: the disk keeps up, however much is copied
RANDOM_RATE = 1200  # operations/s of both partitions there
TURN, TURNS = 16, 3  # the rhythm: as much data is written in a turn, in pool sizes; and turns
SWAP, SWAP_TIME = 4, 3  # pool sizes written before the swap, and allowed after it


class Sizes:
	def __init__(self, full):
		self.full, self.live = full, FULL if full else LIVE

	def pool(self, spare):
		if self.full:
			return f"--pool {self.live * (1 + spare):g}M"
		return f"--spare {spare * 100:g}% --metaslab 1M"

	def written(self, spare, turns):
		return f"{self.live * (1 + spare) * turns:g}M"

	def load(self, spare, partitions, turns, more=""):
		"""partitions: name, share of the data, weight of the writes, further properties"""
		text = [self.pool(spare), f"--writes {self.written(spare, turns)}", more]
		for name, live, writes, *properties in partitions:
			properties = [f"live={self.live * live:g}M", f"writes={writes:g}", *properties]
			text.append(f"--partition {name}:" + ",".join(properties))
		return shlex.split(" ".join([*text[:2], *text[3:], text[2]]))

	def two(self, hot_writes, hot_live, spare, more="", pattern="uniform", turns=6):
		return self.load(spare, [("hot", hot_live, hot_writes, f"pattern={pattern}"),
			("cold", 1 - hot_live, 1 - hot_writes, f"pattern={pattern}")], turns, more)

	def many(self, weights, spare):
		return self.load(spare, [(f"p{i}", 1 / len(weights), w) for i, w in enumerate(weights)], 10)


def zipf_weights(n, s):
	weights = [1 / (i + 1) ** s for i in range(n)]
	return [w / sum(weights) for w in weights]


def recorded_database(path):
	"""
	Half a second of a database, as a trace: pages of 8 KiB, some more often than others, and as much into its
	log, which goes in a circle. Before that data are written that nobody touches again.
	"""
	draw, pages, log, second = random.Random(3), list(range(RECORDED_MIB * 128)), 96 * 128, 1 << 30
	draw.shuffle(pages)
	rows = [(2 * second + (i << 20), 1 << 20) for i in range(400)]
	rows += [(i << 20, 1 << 20) for i in range(RECORDED_MIB)]
	for i in range(40000):
		rows.append((pages[int(len(pages) * draw.random() ** 3)] * 8192, 8192))
		rows.append((second + i % log * 8192, 8192))
	with open(path, "w", encoding="utf-8") as file:
		file.writelines(f"{12 * i},w,{offset},{length}\n" for i, (offset, length) in enumerate(rows))
	return path


class Scenario:
	def __init__(self, name, arguments, epsilon=None, wa=None, better=(), oracle=True, check=None):
		self.name, self.arguments, self.epsilon, self.wa = name, arguments, epsilon, wa
		self.better, self.check = better, check
		self.oracle = arguments if oracle is True else oracle


def scenarios(trace, recorded, sizes):
	for spare in (0.1, 0.2, 0.3):
		yield Scenario(f"80/20 spare {spare:.0%}", sizes.two(0.8, 0.2, spare), 1.05, 1.10)
	for spare in (0.1, 0.3):
		yield Scenario(f"90/10 spare {spare:.0%}", sizes.two(0.9, 0.1, spare), 1.07, 1.12)
	yield Scenario("4 equal, 70/20/8/2", sizes.many([0.7, 0.2, 0.08, 0.02], 0.2), 1.05, 1.10)
	yield Scenario("16 equal, zipf 1.5", sizes.many(zipf_weights(16, 1.5), 0.2), 1.08, 1.12)
	yield Scenario("2 equal, 50/50", sizes.two(0.5, 0.5, 0.2), 1.02, 1.02)
	yield Scenario("zipf 0.99 inside", sizes.two(0.8, 0.2, 0.2, pattern="zipf:0.99", turns=10), 1.08, None,
		("static", "threshold"))
	yield Scenario("log + database + archive", sizes.load(0.2, [("log", 0.2, 0.3, "pattern=sequential"),
		("database", 0.3, 0.65), ("archive", 0.5, 0.05, "reads=0.05")], 10), 1.08,
		better=("static", "threshold"))
	swap = f"--shift {sizes.written(0.2, SWAP)}:hot=0.2,cold=0.8"
	yield Scenario("weights swap", sizes.two(0.8, 0.2, 0.2, swap, turns=SWAP + SWAP_TIME + 2), 1.10,
		oracle=sizes.two(0.2, 0.2, 0.2), check=shift)
	swing = f"--swing {sizes.written(0.2, TURN)}:hot=0.2,cold=0.8"
	yield Scenario("daily rhythm", sizes.two(0.8, 0.5, 0.2, swing, turns=TURN * TURNS), better=("static",),
		oracle=None, check=rhythm)
	yield Scenario("over in seconds", sizes.two(0.8, 0.2, 0.2, f"--rate {FAST_RATE}"), 1.05, 1.10)
	# who gives is never measured; in two turnovers of the pool it has to be over
	idle = [("db", 0.25, 1), ("archive", 0.75, 0.001)]
	yield Scenario("an idle archive has it all", sizes.load(0.4, idle, 2.1, f"--rate {SLOW_RATE}"), wa=1.10)
	# live data grow or swing, so that somebody may have to give at once
	thin = ("thin", 0.5, 0.1, "unfilled=0.9")
	yield Scenario("thin, fills up", sizes.load(0.2, [("hot", 0.5, 0.9), thin], 8), wa=1.20)
	late, thin = f"--shift {sizes.written(0.2, 3)}:hot=0.1,thin=0.9", ("thin", 0.5, 0.001, "unfilled=0.9")
	yield Scenario("thin, idle, then fills", sizes.load(0.2, [("hot", 0.5, 1), thin], 8, late),
		better=("static",), oracle=None)
	yield Scenario("tight by snapshots", sizes.load(0.1, [(name, 0.5, writes, f"snapshots={sizes.live / 2:g}M")
		for name, writes in (("hot", 0.9), ("cold", 0.1))], 6), wa=1.10)
	full = f"max={sizes.live * 0.33:g}M"
	yield Scenario("full, at its max", sizes.load(0.2, [("hot", 0.3, 0.8, full), ("warm", 0.3, 0.15),
		("cold", 0.4, 0.05)], 8), 1.05, 1.10)
	logs = " ".join(f"--partition log{i}:live=128M,writes=1,pattern=sequential" for i in range(11))
	# the last fifth of this, that is after five turnovers of the pool
	yield Scenario("one of a dozen pays", shlex.split(f"--pool 1900M --writes {1900 * 6.25:g}M {logs} "
		"--partition db:live=128M,writes=2,pattern=zipf:1.2"), wa=1.03, better=("static",))
	yield Scenario("recorded database", ["--trace", recorded,
		*shlex.split("--format csv --split 1G --spare 25% --repeat 16")],
		better=("static", "threshold"), check=real_trace)
	if trace:
		yield Scenario("real trace", ["--trace", trace,
			*shlex.split("--format vscsi --split 1G --spare 10% --repeat 5")],
			better=("static", "equal", "threshold"), check=real_trace)
	# in order and without tables nothing is ever copied: no size is better than another
	random = f"--random-latency --rate {RANDOM_RATE}"
	yield Scenario("pure noise", sizes.two(0.5, 0.5, 0.2, random + " --checkpoint 0%", "sequential", 10), oracle=None,
		check=noise)
	yield Scenario("noise over real copying", sizes.two(0.5, 0.5, 0.2, random, turns=10), oracle=None,
		check=noise)


class Runner:
	"""Runs simulations side by side, each of them once."""

	def __init__(self, lcpfs, jobs):
		self.lcpfs, self.done = shlex.split(lcpfs), {}
		self.pool = concurrent.futures.ThreadPoolExecutor(jobs)

	def run(self, command):
		done = subprocess.run(command, capture_output=True, text=True, check=False)
		if done.returncode:
			raise RuntimeError(f"{shlex.join(command)}: {done.stderr}")
		return json.loads(done.stdout)

	def submit(self, scenario_arguments, policy, start, seed, extra=()):
		command = (*self.lcpfs, "simulate", *scenario_arguments, "--json", "--policy", policy, "--start",
			start, "--seed", str(seed), *extra)
		if command not in self.done:
			self.done[command] = self.pool.submit(self.run, command)
		return self.done[command]


class Results:
	"""What a scenario's runs gave: policies by (start, seed)."""

	def __init__(self, runner, scenario, sizes, seeds, extra):
		keys = [(start, seed) for start in STARTS for seed in seeds]
		jobs = {policy: {key: runner.submit(scenario.arguments, policy, *key, more) for key in keys}
			for policy, more in (("learned", extra), ("static", ()))}
		for peer in set(scenario.better) - {"static"}:  # from the start they choose themselves
			jobs[peer] = {key: runner.submit(scenario.arguments, peer, *key) for key in keys
				if key[0] == "proportional"}
		# the oracle does not depend on the start, and hardly on the seed
		oracle = scenario.oracle and runner.submit(scenario.oracle, "oracle", "proportional", seeds[0])
		self.scenario, self.sizes, self.jobs, self.oracle = scenario, sizes, jobs, oracle

	def wait(self):
		self.policy = {name: {key: job.result()["policies"][name] for key, job in jobs.items()}
			for name, jobs in self.jobs.items()}
		first = next(iter(self.jobs["learned"].values())).result()
		self.pool_blocks, self.metaslab_blocks = first["pool_blocks"], first["metaslab_blocks"]
		self.data_blocks = self.sizes.live * 256
		objectives = self.oracle and self.oracle.result()["policies"]["oracle"]["objectives"]
		self.best = objectives and {what: min(o[what] for o in objectives.values())
			for what in ("epsilon", "wa")}
		return self

	def learned(self, what):
		return [policy[what] for policy in self.policy["learned"].values()]

	def over(self, peer, what):
		return [self.policy["learned"][key][what] / policy[what]
			for key, policy in self.policy[peer].items() if key[0] == "proportional"]

	def harm(self):
		"""The largest excess of blocks written so far, after the first pool size of writes; of each run."""
		return [max(a["device_blocks"] / b["device_blocks"] - 1
			for a, b in zip(learned["series"], self.policy["static"][key]["series"], strict=True)
			if a["user_blocks"] >= self.pool_blocks)
			for key, learned in self.policy["learned"].items()]


class Table:
	def __init__(self, title=""):
		self.rows, self.title = [], title

	def print(self, row):
		bar = "stated" if row["bar"] is None else f"<= {row['bar']:.2f}"
		print(f"{row['scenario']:26} {row['what']:28} {bar:>9} {row['worst']:>9.4f} {row['mean']:>9.4f}  "
			f"{'pass' if row['pass'] else 'FAIL'}", flush=True)

	def add(self, scenario, what, bar, values, quiet=False):
		worst = max(values)
		row = {"variant": self.title, "scenario": scenario, "what": what, "bar": bar, "worst": worst,
			"mean": sum(values) / len(values), "pass": bar is None or worst <= bar}
		self.rows.append(row)
		if not quiet or not row["pass"]:
			self.print(row)


# What some scenarios ask beyond ε, WA and harm: functions that yield (what, bar, values).

def shift(results):
	"""ε from three pool sizes after the swap on, over the oracle's for the new weights."""
	after = (SWAP + SWAP_TIME) * results.data_blocks * 1.2
	values = []
	for series in results.learned("series"):
		late = [point["epsilon"] for point in series if point["user_blocks"] >= after][:10]
		values.append(sum(late) / len(late) / results.best["epsilon"])
	yield "epsilon / oracle in time", results.scenario.epsilon, values


def rhythm(results):
	"""
	Thrash is moving to and fro more than the load does. The best split follows it: spare in proportion to the
	root of the writes goes from one share of all spare to another and back in a turn. The engine, which only
	ever follows what it has measured, should neither make more moves than that is metaslabs, nor go further.
	"""
	spare = results.data_blocks * 0.2 / results.metaslab_blocks
	share = math.sqrt(0.8) / (math.sqrt(0.8) + math.sqrt(0.2))
	bound = 2 * spare * (share - (1 - share))
	yield f"moves per turn (of {bound:.0f})", 1, [n / TURNS / bound for n in results.learned("moves")]
	travel = []
	for series in results.learned("series"):
		sizes = [point["size_blocks"][0] for point in series
			if point["user_blocks"] >= TURN * results.data_blocks * 1.2]
		gone = sum(abs(b - a) for a, b in zip(sizes, sizes[1:])) / results.metaslab_blocks
		travel.append(gone / (TURNS - 1) / bound)
	yield "way per turn, after the first", 1, travel


def real_trace(results):
	for what, name in (("epsilon", "epsilon / oracle"), ("wa", "WA / lowest")):
		yield name, None, [value / results.best[what] for value in results.learned(what)]


def true_change(learned, outcome):
	"""
	What a move did to ε where latencies are drawn at random: their mean stays, so only utilization changed it.
	The two partitions get half of all operations each.
	"""
	live = [p["live_blocks"] for p in learned["partitions"]]
	change = 0
	for side in ("from", "to"):
		if outcome[side]:
			old, new = outcome[side + "_old_blocks"], outcome[side + "_new_blocks"]
			change += live[outcome[side] - 1] * (1 / new - 1 / old)
	return RANDOM_LATENCY_US * RANDOM_RATE / 2 * change


def noise(results):
	judged = false = 0
	for learned in results.policy["learned"].values():
		for outcome in learned["outcomes"]:
			if outcome["verdict"] == "not_judged" or outcome["joined"]:
				continue
			judged += 1
			# judged improved by the noise alone: what the move itself did taken out, it still would be
			change = outcome["epsilon_after"] - outcome["epsilon_before"]
			by_chance = change - true_change(learned, outcome)
			false += outcome["verdict"] == "improved" and by_chance < -Z * outcome["standard_error"]
	yield f"false improved of {judged}", SIGNIFICANCE, [false / max(judged, 1)]
	drift = [abs(a["size_blocks"] - b["size_blocks"]) / results.pool_blocks
		for key, learned in results.policy["learned"].items()
		if key[0] == "equal" or "pure" in results.scenario.name
		for a, b in zip(learned["partitions"], results.policy["static"][key]["partitions"], strict=True)]
	yield "drift / pool", 0.02, drift


def judge(results, table, quiet):
	scenario = results.scenario

	def add(what, bar, values):
		table.add(scenario.name, what, bar, values, quiet)

	if scenario.epsilon and scenario.check is not shift:
		values = [e / results.best["epsilon"] for e in results.learned("epsilon")]
		add("epsilon / oracle", scenario.epsilon, values)
	if scenario.wa:
		add("WA / lowest", scenario.wa, [wa / results.best["wa"] for wa in results.learned("wa")])
	for peer in scenario.better:
		add(f"WA total / {peer}", 1, results.over(peer, "wa_total"))
		add(f"epsilon / {peer}", 1, results.over(peer, "epsilon"))
	for what, bar, values in scenario.check(results) if scenario.check else ():
		add(what, bar, values)
	add("harm (share)", HARM, results.harm())
	if scenario.wa and not quiet:
		static = {start: [p["wa"] for key, p in results.policy["static"].items() if key[0] == start]
			for start in STARTS}
		print(f"{'':26} WA static / lowest: " + ", ".join(
			f"{start} {sum(was) / len(was) / results.best['wa']:.2f}" for start, was in static.items()), flush=True)


def compare_restarted(runner, results, seeds, table):
	"""The run that was stopped and reopened midway beside the one that was not."""
	plain = Results(runner, results.scenario, results.sizes, seeds, ()).wait()
	apart, epsilon = [], []
	for key, restarted in results.policy["learned"].items():
		other = plain.policy["learned"][key]
		apart.append(max(abs(a["size_blocks"] - b["size_blocks"]) for a, b in zip(
			restarted["partitions"], other["partitions"], strict=True)) / results.pool_blocks)
		epsilon.append(restarted["epsilon"] / other["epsilon"] - 1)
	table.add(results.scenario.name, "restarted: size / pool apart", RESTART, apart)
	table.add(results.scenario.name, "restarted: epsilon, more", RESTART, epsilon)


def run_variant(arguments, runner, title, extra, quiet=False):
	table, waiting, sizes = Table(title), [], Sizes(arguments.full)
	for scenario in scenarios(arguments.trace, arguments.recorded, sizes):
		if arguments.only and not any(o in scenario.name for o in arguments.only.split(",")):
			continue
		# a trace has no randomness
		seeds = range(1, 2 if scenario.check is real_trace else arguments.seeds + 1)
		waiting.append((Results(runner, scenario, sizes, seeds, extra), seeds))
		if arguments.restart:
			Results(runner, scenario, sizes, seeds, ())
	for results, seeds in waiting:
		judge(results.wait(), table, quiet)
		if arguments.restart:
			compare_restarted(runner, results, seeds, table)
	return table.rows


def run_priors(arguments, runner, extra):
	"""Each prior ten times too large and too small; at the end, the worst of all for each bar."""
	rows, names = [], arguments.priors.split(",") if arguments.priors != "all" else list(PRIORS)
	for name in names:
		for factor in (10, 0.1):
			title = f"{name}={PRIORS[name] * factor:g}"
			print(f"{title}:", flush=True)
			rows.extend(run_variant(arguments, runner, title, (*extra, "--prior", title), True))
	worst = {}
	for row in rows:
		key = (row["scenario"], row["what"].split(" of ")[0])
		if key not in worst or row["worst"] > worst[key]["worst"]:
			worst[key] = row
	print("the worst of all:")
	for row in worst.values():
		Table().print({**row, "what": f"{row['what']} ({row['variant']})"})
	return rows


def drawn(seed):
	"""A load drawn at random, as arguments."""
	draw = random.Random(seed)
	count, spare = draw.choice([2, 2, 3, 3, 4, 6, 8, 12]), draw.choice([5, 10, 15, 20, 30, 40])
	live, turns = 1024 if count >= 8 else draw.choice([256, 512, 1024]), draw.choice([4, 6, 8])
	shares = [draw.random() ** 2 + 0.05 for _ in range(count)]
	weights = [draw.random() ** 3 + 0.005 for _ in range(count)]
	text = [f"--spare {spare}%", f"--metaslab {'512K' if live < 512 else '1M'}"]
	for i, (share, weight) in enumerate(zip(shares, weights)):
		pattern = draw.choice(["uniform", "uniform", "zipf:0.9", "zipf:1.2", "sequential"])
		reads = f",reads={draw.random() / 2:.3f}" if draw.random() < 0.3 else ""
		share, weight = live * share / sum(shares), weight / sum(weights)
		text.append(f"--partition p{i}:live={share:.1f}M,writes={weight:.4f},pattern={pattern}{reads}")
	text.append(f"--writes {live * (1 + spare / 100) * turns:.0f}M")
	if draw.random() < 0.2:
		text.append(f"--shift {live * turns * 0.4:.0f}M:p0={draw.random():.3f},p1={draw.random():.3f}")
	if draw.random() < 0.2:
		text.append(f"--flush {draw.choice([16, 64, 256])}K")
	start = draw.choice(["proportional", "proportional", "equal", "random", "random", "inverse", "first"])
	return shlex.split(" ".join(text)), start


def drawn_loads(first, count):
	for seed in range(first, first + count):
		yield (str(seed), *drawn(seed), seed)


def swinging_loads(sizes):
	"""Two equal partitions that are busy in turn, faster and slower than the pool's contents turn over."""
	for spare, weight, period in itertools.product((0.1, 0.2, 0.3), (0.8, 0.95), (0.25, 0.5, 1, 2, 4, 8, 16)):
		swing = f"--swing {sizes.written(spare, period)}:hot={1 - weight:g},cold={weight}"
		yield (f"{weight:.0%}, spare {spare:.0%}, {period:g} pool sizes",
			sizes.two(weight, 0.5, spare, swing, turns=max(10, 2 * period)), "equal", 1)


def shifting_loads(sizes):
	"""Two equal partitions, of which one is busy; then, early on, the other one is."""
	for spare, weight, at in itertools.product((0.1, 0.2, 0.3), (0.8, 0.9, 0.95, 0.99), (1, 1.5, 2, 4)):
		shift = f"--shift {sizes.written(spare, at)}:hot={1 - weight:g},cold={weight}"
		yield (f"{weight:.0%}, spare {spare:.0%}, after {at:g} pool sizes",
			sizes.two(weight, 0.5, spare, shift, turns=at + 4), "equal", 1)


def drawn_shifts(first, count):
	"""Equal partitions whose weights change places, and half of the time once more."""
	for seed in range(first, first + count):
		draw = random.Random(seed)
		partitions, spare = draw.choice([2, 2, 2, 3, 4, 6, 8]), draw.choice([0.1, 0.15, 0.2, 0.3])
		live = draw.choice([128, 256, 512]) if partitions <= 4 else 128
		weights = [draw.paretovariate(0.7) for _ in range(partitions)]
		at, pool = draw.uniform(0.9, 5), live * partitions * (1 + spare)
		text = [f"--spare {spare:.0%} --metaslab 1M"]
		for i, weight in enumerate(weights):
			pattern = draw.choice(["uniform", "uniform", "uniform", "zipf:0.99", "sequential"])
			share = weight / sum(weights)
			text.append(f"--partition p{i}:live={live}M,writes={share:.4f},pattern={pattern}")
		for _ in range(draw.choice([1, 2])):
			draw.shuffle(weights)
			shift = ",".join(f"p{i}={weight / sum(weights):.4f}" for i, weight in enumerate(weights))
			text.append(f"--shift {at * pool:.0f}M:{shift}")
			at += draw.uniform(0.3, 3)
		yield str(seed), shlex.split(" ".join([*text, f"--writes {(at + 3) * pool:.0f}M"])), "equal", seed


def run_loads(title, loads, runner, extra):
	"""Each load beside the same left alone; those that do harm, or end worse, are shown."""
	table, jobs, worst = Table(), {}, {"harm (share)": [], "epsilon / left alone": []}
	for name, arguments, start, seed in loads:
		jobs[name] = [runner.submit(arguments, policy, start, seed, more)
			for policy, more in (("learned", extra), ("static", ()))], arguments, start
	for name, ((learned, static), arguments, start) in jobs.items():
		pool_blocks = learned.result()["pool_blocks"]
		learned = learned.result()["policies"]["learned"]
		static = static.result()["policies"]["static"]
		harm = [a["device_blocks"] / b["device_blocks"] - 1
			for a, b in zip(learned["series"], static["series"]) if a["user_blocks"] >= pool_blocks]
		found = max(harm, default=0), learned["epsilon"] / static["epsilon"]
		for values, value in zip(worst.values(), found):
			values.append(value)
		if found[0] > HARM / 2 or found[1] > 1 + HARM:
			print(f"{name}: harm {found[0]:.4f}, at the end {harm[-1]:.4f}, epsilon {found[1]:.4f}, "
				f"{learned['moves']} moves: {shlex.join(arguments)} --start {start}", flush=True)
	for what, values in worst.items():
		bar = HARM if "harm" in what else 1 + HARM
		print(f"{sum(value > bar for value in values)} of {len(values)} {title} above {bar:g}")
		table.add(f"{len(values)} {title}", what, bar, values)
	return table.rows


def main():
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("--lcpfs", default="build/lcpfs")
	parser.add_argument("--seeds", type=int, default=10)
	parser.add_argument("--jobs", type=int, default=os.cpu_count())
	parser.add_argument("--only", default="")
	parser.add_argument("--trace", default="")
	parser.add_argument("--extra", default="")
	parser.add_argument("--json", default="")
	parser.add_argument("--priors", nargs="?", const="all")
	parser.add_argument("--restart", action="store_true")
	parser.add_argument("--full", action="store_true")
	parser.add_argument("--drawn", type=int)
	parser.add_argument("--swings", action="store_true")
	parser.add_argument("--shifts", nargs="?", const=0, type=int)
	parser.add_argument("--first", type=int, default=0, help="number of the first of those")
	arguments = parser.parse_args()
	runner, begun = Runner(arguments.lcpfs, arguments.jobs), time.monotonic()
	folder = tempfile.TemporaryDirectory()
	arguments.recorded = recorded_database(os.path.join(folder.name, "database.csv"))
	extra = (*shlex.split(arguments.extra), *(["--restart"] if arguments.restart else []))
	print(f"{'scenario':26} {'measure':28} {'bar':>9} {'worst':>9} {'mean':>9}", flush=True)
	if arguments.drawn:
		rows = run_loads("drawn at random", drawn_loads(arguments.first, arguments.drawn), runner, extra)
	elif arguments.shifts is not None:
		loads = drawn_shifts(arguments.first, arguments.shifts) if arguments.shifts \
			else shifting_loads(Sizes(arguments.full))
		rows = run_loads("shifts", loads, runner, extra)
	elif arguments.swings:
		rows = run_loads("swings", swinging_loads(Sizes(arguments.full)), runner, extra)
	elif arguments.priors:
		rows = run_priors(arguments, runner, extra)
	else:
		rows = run_variant(arguments, runner, "", extra)
	failed = sum(not row["pass"] for row in rows)
	print(f"{len(rows) - failed} passed, {failed} failed, in {time.monotonic() - begun:.0f} s")
	if arguments.json:
		with open(arguments.json, "w", encoding="utf-8") as file:
			json.dump(rows, file, indent="\t")
	return 1 if failed else 0


if __name__ == "__main__":
	sys.exit(main())
