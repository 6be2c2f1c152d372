#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs every scenario of the engine's bars through `lcpfs simulate` and prints bar, measured value and pass or fail.

    sim/bars.py [--lcpfs build/lcpfs] [--seeds 10] [--jobs N] [--only NAME,...] [--trace FILE] [--extra "ARGS"] [--json FILE]

Each scenario runs from several starts (equal spare, spare in proportion to live data, all to the first, all to the last,
in inverse proportion to the writes) and seeds; what is printed is the worst of all runs, and the mean. Sizes are a fortieth of
the 11 GiB pool of the documentation, so that a run takes about a second; the ratios are the same.
"""

import argparse
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys

LIVE = 256  # MiB of live data in every synthetic scenario
STARTS = ["equal", "proportional", "first", "last", "inverse"]


def partition(name, live, writes, *more):
	return f"--partition {name}:" + ",".join([f"live={live:g}M", f"writes={writes:g}", *more])


def synthetic(spare, partitions, turns=6, *more, metaslab="256K"):
	pool = LIVE * (1 + spare)
	return shlex.split(f"--pool {pool:g}M --metaslab {metaslab} --writes {pool * turns:g}M") + [
		word for text in [*partitions, *more] for word in shlex.split(text)]


def two(hot_share, hot_live, spare, **kw):
	return synthetic(spare, [partition("hot", LIVE * hot_live, hot_share),
		partition("cold", LIVE * (1 - hot_live), 1 - hot_share)], **kw)


def many(weights, spare, turns=6):
	live = LIVE / len(weights)
	return synthetic(spare, [partition(f"p{i}", live, w) for i, w in enumerate(weights)], turns,
		metaslab="128K" if len(weights) > 4 else "256K")


def zipf_weights(n, s):
	weights = [1 / (i + 1) ** s for i in range(n)]
	return [w / sum(weights) for w in weights]


def shift_at(turns, spare):
	return f"--shift {LIVE * (1 + spare) * turns:g}M:hot=0.2,cold=0.8"


class Scenario:
	def __init__(self, name, arguments, epsilon=None, wa=None, better=(), starts=STARTS, oracle=None, check=None):
		self.name, self.arguments, self.epsilon, self.wa = name, arguments, epsilon, wa
		self.better, self.starts, self.check = better, starts, check
		self.oracle = arguments if oracle is None else oracle


def scenarios(trace):
	out = []
	for spare in (0.1, 0.2, 0.3):
		out.append(Scenario(f"80/20 spare {spare:.0%}", two(0.8, 0.2, spare), 1.05, 1.10))
	for spare in (0.1, 0.3):
		out.append(Scenario(f"90/10 spare {spare:.0%}", two(0.9, 0.1, spare), 1.07, 1.12))
	out.append(Scenario("4 equal, 70/20/8/2", many([0.7, 0.2, 0.08, 0.02], 0.2, 10), 1.05, 1.10))
	out.append(Scenario("16 equal, zipf 1.5", many(zipf_weights(16, 1.5), 0.2, 10), 1.08, 1.12))
	out.append(Scenario("2 equal, 50/50", two(0.5, 0.5, 0.2), 1.02, 1.02))
	out.append(Scenario("zipf 0.99 inside", synthetic(0.2, [
		partition("hot", LIVE * 0.2, 0.8, "pattern=zipf:0.99"),
		partition("cold", LIVE * 0.8, 0.2, "pattern=zipf:0.99")], 10), 1.08, None, ("static", "threshold")))
	out.append(Scenario("log + database + archive", synthetic(0.2, [
		partition("log", LIVE * 0.2, 0.3, "pattern=sequential"),
		partition("database", LIVE * 0.3, 0.65),
		partition("archive", LIVE * 0.5, 0.05, "reads=0.05")], 10), 1.08, None, ("static", "threshold")))
	out.append(Scenario("weights swap", two(0.8, 0.2, 0.2, turns=9) + shlex.split(shift_at(4, 0.2)), 1.10, None,
		oracle=two(0.2, 0.2, 0.2), check="shift"))
	pool = LIVE * 1.2
	out.append(Scenario("daily rhythm", synthetic(0.2, [partition("hot", LIVE * 0.5, 0.8), partition("cold", LIVE * 0.5,
		0.2)], 48, f"--swing {pool * 16:g}M:hot=0.2,cold=0.8"), None, None, ("static",), ["proportional"], [],
		"rhythm"))
	if trace:
		out.append(Scenario("real trace", ["--trace", trace, "--format", "vscsi", "--split", "1G", "--spare", "10%",
			"--repeat", "5"], None, None, ("static", "equal", "threshold"), STARTS, None, "trace"))
	out.append(Scenario("pure noise", synthetic(0.2, [
		partition("a", LIVE * 0.5, 0.5, "pattern=sequential"),
		partition("b", LIVE * 0.5, 0.5, "pattern=sequential")], 10, "--random-latency"), None, None, (),
		["equal"], [], "noise"))
	return out


class Runner:
	def __init__(self, lcpfs, extra, jobs):
		self.lcpfs, self.extra = shlex.split(lcpfs), shlex.split(extra)
		self.pool = concurrent.futures.ThreadPoolExecutor(jobs)

	def run(self, arguments, policies, start, seed, learned_extra=()):
		command = self.lcpfs + (["simulate"] if "lcpfs" in os.path.basename(self.lcpfs[0]) else [])
		command += arguments + ["--json", "--start", start, "--seed", str(seed), *self.extra, *learned_extra]
		for policy in policies:
			command += ["--policy", policy]
		done = subprocess.run(command, capture_output=True, text=True, check=False)
		if done.returncode:
			raise RuntimeError(f"{shlex.join(command)}: {done.stderr}")
		return json.loads(done.stdout)

	def submit(self, *arguments):
		return self.pool.submit(self.run, *arguments)


def epsilon_at_demand(policy):
	return policy["epsilon"]


def harm(policies, pool_blocks):
	worst = -1
	if "static" not in policies:
		return None
	for learned, static in zip(policies["learned"]["series"], policies["static"]["series"]):
		if learned["user_blocks"] >= pool_blocks and learned["user_blocks"] == static["user_blocks"]:
			worst = max(worst, learned["device_blocks"] / static["device_blocks"] - 1)
	return worst


def line(name, what, bar, worst, mean, good):
	print(f"{name:26} {what:26} {bar:>8} {worst:>9.4f} {mean:>9.4f}  {'pass' if good else 'FAIL'}", flush=True)
	return {"scenario": name, "what": what, "bar": bar, "worst": worst, "mean": mean, "pass": good}


def report_at_most(rows, name, what, bar, values):
	rows.append(line(name, what, f"<= {bar:.2f}", max(values), sum(values) / len(values), max(values) <= bar))


def wanted_policies(scenario):
	return ["learned", "static"] + [p for p in scenario.better if p != "static"]


def oracle_of(runner, scenario, objective, seeds):
	if scenario.oracle == []:
		return None
	futures = [runner.submit(scenario.oracle + ["--objective", objective], ["oracle"], "proportional", s) for s in seeds]
	key = "epsilon" if objective == "epsilon" else "wa"
	return [f.result()["policies"]["oracle"][key] for f in futures]


def after_shift(result):
	"""ε from three pool sizes after the swap on, over the last point's."""
	series, pool = result["policies"]["learned"]["series"], result["pool_blocks"]
	swap = 4 * pool
	late = [p for p in series if p["user_blocks"] >= swap + 3 * pool]
	return sum(p["epsilon"] for p in late[:10]) / len(late[:10])


def judge(runner, scenario, seeds):
	rows, policies = [], wanted_policies(scenario)
	jobs = {(start, seed): runner.submit(scenario.arguments, policies, start, seed)
		for start in scenario.starts for seed in seeds}
	# the oracle does not depend on the start, and hardly on the seed
	best = {o: oracle_of(runner, scenario, o, seeds[:1]) for o in ("epsilon", "wa")}
	results = {key: job.result() for key, job in jobs.items()}
	learned = [r["policies"]["learned"] for r in results.values()]
	best = {o: sum(v) / len(v) if v else None for o, v in best.items()}
	if scenario.epsilon:
		if scenario.check == "shift":
			values = [after_shift(r) / best["epsilon"] for r in results.values()]
		else:
			values = [p["epsilon"] / best["epsilon"] for p in learned]
		report_at_most(rows, scenario.name, "epsilon / oracle", scenario.epsilon, values)
	if scenario.wa:
		report_at_most(rows, scenario.name, "WA / lowest", scenario.wa, [p["wa"] / best["wa"] for p in learned])
	same = [r for (start, _), r in results.items() if start == "proportional"]  # where peers start by themselves
	for peer in scenario.better:
		values = [r["policies"]["learned"]["wa_total"] / r["policies"][peer]["wa_total"] for r in same]
		report_at_most(rows, scenario.name, f"WA total / {peer}", 1.0, values)
		values = [r["policies"]["learned"]["epsilon"] / r["policies"][peer]["epsilon"] for r in same]
		report_at_most(rows, scenario.name, f"epsilon / {peer}", 1.0, values)
	harms = [harm(r["policies"], r["pool_blocks"]) for r in results.values()]
	report_at_most(rows, scenario.name, "harm (share)", 0.02, harms)
	rows.extend(extra_checks(scenario, results, best))
	static = {s: sum(r["policies"]["static"]["wa"] for (start, _), r in results.items() if start == s) / len(seeds)
		for s in scenario.starts}
	if best["wa"]:
		print(f"{'':26} WA static / lowest: " + ", ".join(f"{s} {v / best['wa']:.2f}" for s, v in static.items()) +
			f"; moves {min(p['moves'] for p in learned)}..{max(p['moves'] for p in learned)}"
			f", undone {sum(p['undone'] for p in learned)}", flush=True)
	return rows


def extra_checks(scenario, results, best):
	rows, learned = [], [r["policies"]["learned"] for r in results.values()]
	if scenario.check == "rhythm":
		moves = [p["moves"] / 3 for p in learned]
		rows.append(line(scenario.name, "moves per turn", "stated", max(moves), sum(moves) / len(moves), True))
	if scenario.check == "trace":
		values = [p["epsilon"] / best["epsilon"] for p in learned]
		rows.append(line(scenario.name, "epsilon / oracle", "stated", max(values), sum(values) / len(values), True))
		values = [p["wa"] / best["wa"] for p in learned]
		rows.append(line(scenario.name, "WA / lowest", "stated", max(values), sum(values) / len(values), True))
	if scenario.check == "noise":
		judged = sum(p["improved"] + p["hurt"] + p["inconclusive"] for p in learned)
		improved = sum(p["improved"] for p in learned)
		rows.append(line(scenario.name, f"improved of {judged} judged", "<= 0.05", improved / max(judged, 1),
			improved / max(judged, 1), improved <= max(0.05 * judged, 1 if judged < 20 else 0)))
		drift = [max(abs(a["size_blocks"] - b["size_blocks"]) / r["pool_blocks"] for a, b in zip(
			r["policies"]["learned"]["partitions"], r["policies"]["static"]["partitions"])) for r in results.values()]
		report_at_most(rows, scenario.name, "drift / pool", 0.02, drift)
	return rows


def main():
	parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
	parser.add_argument("--lcpfs", default="build/lcpfs")
	parser.add_argument("--seeds", type=int, default=10)
	parser.add_argument("--jobs", type=int, default=os.cpu_count())
	parser.add_argument("--only", default="")
	parser.add_argument("--trace", default="")
	parser.add_argument("--extra", default="")
	parser.add_argument("--json", default="")
	arguments = parser.parse_args()
	runner = Runner(arguments.lcpfs, arguments.extra, arguments.jobs)
	rows = []
	print(f"{'scenario':26} {'measure':26} {'bar':>8} {'worst':>9} {'mean':>9}", flush=True)
	for scenario in scenarios(arguments.trace):
		if arguments.only and not any(o in scenario.name for o in arguments.only.split(",")):
			continue
		seeds = 1 if scenario.check == "trace" else arguments.seeds  # a trace has no randomness
		rows.extend(judge(runner, scenario, range(1, seeds + 1)))
	failed = sum(not r["pass"] for r in rows)
	print(f"{len(rows) - failed} passed, {failed} failed")
	if arguments.json:
		with open(arguments.json, "w", encoding="utf-8") as file:
			json.dump(rows, file, indent="\t")
	return 1 if failed else 0


if __name__ == "__main__":
	sys.exit(main())
