#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is the Grafana dashboard one, and does it ask only for what docs/metrics.md promises?
usage: dashboard.py DASHBOARD METRICS.md [EXPRESSIONS]: where promtool is to find them as rules"""

import json
import re
import sys

OF_HISTOGRAMS = r"_(?:bucket|sum|count)$"
BOTH = {"datasource", "pool"}  # its variables
BUILT_IN = {"__rate_interval", "__interval"}


def promised(page):
	"""name: (type, labels)"""
	metrics = {}
	for name, kind, labels in re.findall(r"^\| `(lcpfs_\w+)` \| (\w+) \| ([^|]*)\|", page, re.MULTILINE):
		metrics[name] = (kind, {"pool", *re.findall(r"`(\w+)`", labels)})
	assert len(metrics) > 30
	return metrics


def is_promised(expression, metrics):
	names = set(re.findall(r"\blcpfs_\w+", expression))
	assert names, expression
	labels = set()
	for name in names:
		family = name if name in metrics else re.sub(OF_HISTOGRAMS, "", name)
		assert family in metrics, f"{name} is not in docs/metrics.md"
		assert (family == name) == (metrics[family][0] != "histogram"), f"{name}: a histogram, or none"
		counts = metrics[family][0] != "gauge"
		over_time = re.search(rf"(?:rate|increase|changes)\({name}\b", expression)
		assert over_time or not counts, f"{name} as it is"
		labels |= metrics[family][1] | ({"le"} if name.endswith("_bucket") else set())
		assert re.search(rf'\b{name}{{pool="\$pool"', expression), f"{name} of all pools: {expression}"
	used = re.findall(r'(\w+)(?:=|!=|=~|!~)"', expression)
	used += [word for group in re.findall(r"\bby \(([^)]*)\)", expression) for word in group.split(", ")]
	assert set(used) <= labels, (set(used) - labels, expression)


def fits(panels):
	"""In 24 columns, none over another."""
	taken = set()
	for p in panels:
		at = p["gridPos"]
		assert at["x"] >= 0 and at["x"] + at["w"] <= 24 and at["h"] > 1, p["title"]
		columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
		cells = {(x, y) for x in columns for y in rows}
		assert not cells & taken, f"{p['title']} lies over another"
		taken |= cells


def has_fields(dashboard):
	assert isinstance(dashboard["schemaVersion"], int) and dashboard["schemaVersion"] >= 36
	assert re.fullmatch(r"[\w-]{1,40}", dashboard["uid"]) and dashboard["title"]
	assert set(dashboard["time"]) == {"from", "to"} and "id" not in dashboard, "an id belongs to one Grafana"
	assert {v["name"] for v in dashboard["templating"]["list"]} == BOTH
	panels = dashboard["panels"]
	assert len({p["id"] for p in panels}) == len(panels) > 10
	for p in panels:
		assert p["type"] in ("timeseries", "stat", "bargauge") and p["title"] and p["description"]
		assert p["datasource"]["uid"] == "${datasource}" and p["targets"]
		assert p["fieldConfig"]["defaults"]["unit"] and p["fieldConfig"]["overrides"] == []
		assert len({t["refId"] for t in p["targets"]}) == len(p["targets"])
		for t in p["targets"]:
			assert t["datasource"]["uid"] == "${datasource}" and t["legendFormat"], p["title"]
			assert set(re.findall(r"\{\{(\w+)\}\}", t["legendFormat"])) <= LABELS, t["legendFormat"]
	fits(panels)


LABELS = {"partition", "operation", "verdict", "threshold", "health", "mode"}


def write_rules(expressions, path):
	rules = []
	for number, e in enumerate(expressions):
		plain = e.replace("$__rate_interval", "1m").replace("$pool", "0123456789abcdef")
		rules.append({"record": f"dashboard:{number}", "expr": plain})
	with open(path, "w", encoding="ascii") as out:
		json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, out)  # JSON is YAML, too


def main():
	dashboard = json.load(open(sys.argv[1], encoding="utf-8"))
	metrics = promised(open(sys.argv[2], encoding="utf-8").read())
	has_fields(dashboard)
	expressions = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
	expressions += [a["expr"] for a in dashboard["annotations"]["list"]]
	for e in expressions:
		is_promised(e, metrics)
		variables = set(re.findall(r"\$\{?(\w+)", e))
		assert variables <= BOTH | BUILT_IN, e
	if len(sys.argv) > 3:
		write_rules(expressions, sys.argv[3])


main()
