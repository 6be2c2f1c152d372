#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is a page of lcpfs report what report --json and log --json say? usage: report.py PAGE REPORT LOG [LAST_S]"""

import json
import re
import sys
import time
import xml.etree.ElementTree as xml

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
CHANGES = {"moved", "resized", "emergency", "added", "removed", "grown"}
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def text_of(element):
	return "".join(element.itertext())


def of_class(parent, tag, name):
	return [e for e in parent.iter(tag) if name in e.get("class", "").split()]


def only(elements):
	elements = list(elements)
	assert len(elements) == 1, elements
	return elements[0]


def number(text):
	"""Of people's three digits."""
	text = text.replace(",", "")
	return float(text[:-1]) * UNITS[text[-1]] if text[-1:] in UNITS else float(text)


def close(text, wanted):
	return abs(number(text) - wanted) <= 0.006 * abs(wanted) + 1e-6


def when(time_s):
	return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(time_s))


def loads_nothing(page, source):
	for element in page.iter():
		tag = element.tag.removeprefix(HTML)
		assert tag not in ("script", "link", "img", "iframe", "object"), tag
		for name, value in element.attrib.items():
			assert not name.startswith("on") and name not in ("src", "srcset", "data"), name
			assert name != "href" or value.startswith("#"), value
	names = source.replace("http://www.w3.org/1999/xhtml", "").replace("http://www.w3.org/2000/svg", "")
	assert not re.search(r"https?:|url\(|@import", names), "it refers to something outside"


def links_lead_somewhere(page):
	ids = [e.get("id") for e in page.iter() if e.get("id")]
	assert len(ids) == len(set(ids)), "an id is there twice"
	for element in page.iter():
		href = element.get("href")
		assert href is None or href[1:] in ids, href


def outcome_of(move, events):
	for event in events:
		same = all(event[key] == move[key] for key in ("sequence", "from_id", "to_id"))
		later = event["kind"] == "outcome" and event["number"] > move["number"]
		if later and same and move["sequence"]:
			return event
	return None


def rows_are_events(page, events):
	rows = {row.get("id"): row for row in page.iter(HTML + "tr") if row.get("id")}
	used = set()
	for event in events:
		row = rows.pop(f"event-{event['number']}", None)
		if event["kind"] == "outcome":
			assert row is not None or event["number"] in used, event
		else:
			assert row is not None, event
		if row is None:
			continue
		assert text_of(row).startswith(when(event["time_s"])), text_of(row)
		assert text_of(only(of_class(row, HTML + "span", "text"))) == event["text"], event
		outcome = outcome_of(event, events) if event["kind"] == "moved" else None
		if event["kind"] in CHANGES and event["reason"]:
			assert text_of(only(of_class(row, HTML + "span", "reason"))) == event["reason"]
		if outcome:
			used.add(outcome["number"])
			assert text_of(only(of_class(row, HTML + "span", "verdict"))) == outcome["text"]
		for space in of_class(row, HTML + "span", "space"):
			assert close(text_of(space), event["blocks"] * 4096), text_of(space)
	assert not rows, f"more than the log has: {list(rows)}"


def marks_are_changes(page, events):
	changes = [e for e in events if e["kind"] in CHANGES]
	for picture in ("wide", "narrow"):
		svg = of_class(page, SVG + "svg", picture)[0]
		marks = of_class(svg, SVG + "a", "mark")
		assert [m.get("href") for m in marks] == [f"#event-{e['number']}" for e in changes], picture
		for mark, event in zip(marks, changes):
			title = text_of(only(mark.iter(SVG + "title")))
			outcome = outcome_of(event, events) if event["kind"] == "moved" else None
			assert event["text"] in title and (event["reason"] or "") in title, title
			assert not outcome or outcome["text"] in title
			assert not outcome or outcome["verdict"] in mark.get("class").split(), mark.get("class")


def samples_are_there(page, report, from_s):
	table = only(of_class(page, HTML + "table", "samples"))
	rows = [[text_of(cell) for cell in row] for row in table.iter(HTML + "tr")][1:]
	samples = [s for s in report["samples"] if s["time_s"] >= from_s]
	assert len(rows) == len(samples), (len(rows), len(samples))
	for row, s in zip(rows, samples):
		assert row[0] == (s["name"] or f"partition {s['id']} (removed)"), row
		assert row[1] == when(s["time_s"]), row
		assert int(row[2]) == s["span_s"]
		keys = ("size_blocks", "live_blocks", "written_blocks", "device_blocks")
		assert all(close(cell, 4096 * s[key]) for cell, key in zip(row[3:], keys)), (row, s)
		wa = s["write_amplification"]
		assert close(row[7], wa) if wa is not None else not row[7]
		assert close(row[8], s["epsilon"]), (row, s)


def partitions_are_there(page, report):
	table = only(of_class(page, HTML + "table", "partitions"))
	rows = [[text_of(cell) for cell in row] for row in table.iter(HTML + "tr")][1:]
	assert [row[0] for row in rows] == [p["name"] for p in report["partitions"]]
	for row, p in zip(rows, report["partitions"]):
		keys = ("size_blocks", "min_size_blocks", "max_size_blocks", "live_blocks")
		assert all(close(cell, 4096 * p[key]) for cell, key in zip(row[1:], keys)), (row, p)
	for picture in ("wide", "narrow"):
		svg = of_class(page, SVG + "svg", picture)[0]
		assert len(of_class(svg, SVG + "path", "size")) >= len(rows)


def thresholds_are_there(page, report, events):
	table = only(of_class(page, HTML + "table", "learned"))
	rows = [[text_of(cell) for cell in row] for row in table.iter(HTML + "tr")][1:]
	learned = [e["thresholds"] for e in events if e["thresholds"]]
	now = report["pool"]["engine"]["thresholds"]
	assert len(rows) - len(learned) in (1, 2), "each outcome, what was before them, and what is now"
	for row, thresholds in zip(rows[-len(learned) - 1:], [*learned, now]):
		for i, key in enumerate(("pressure", "cooldown_s", "growth_step", "shrink_step")):
			assert close(row[1 + 2 * i], thresholds[key]["value"]), (row, thresholds)
			assert close(row[2 + 2 * i], thresholds[key]["confidence"]), (row, thresholds)


def boundaries_add_up(page, report):
	"""The stack's edges at its right end are the sizes of now."""
	svg = of_class(page, SVG + "svg", "wide")[0]
	sizes = [e.get("d") for e in of_class(svg, SVG + "path", "size")]
	height = 300
	low, bottom = 0, None
	for d, p in zip(sizes, report["partitions"]):
		top_y, bottom_y = right_edge(d)
		bottom = bottom_y if bottom is None else bottom
		wanted = p["size_blocks"] / report["pool"]["size_blocks"] * height
		assert abs((bottom_y - top_y) - wanted) < 0.3, (p["name"], bottom_y - top_y, wanted)
		assert abs(bottom - bottom_y - low) < 0.3
		low += wanted


def right_edge(d):
	"""y of the upper and the lower corner at the right end of a band."""
	points, x, y = [], 0.0, 0.0
	for command, arguments in re.findall(r"([MHVZ])([\d. -]*)", d):
		values = [float(v) for v in arguments.split()]
		if command == "M":
			x, y = values
		elif command == "H":
			x = values[0]
		elif command == "V":
			y = values[0]
		points.append((x, y))
	most = max(x for x, _ in points)
	ys = [y for x, y in points if x == most]
	return min(ys), max(ys)


def main():
	page_name, report_name, log_name, *last = sys.argv[1:]
	source = open(page_name, encoding="utf-8").read()
	page = xml.fromstring(source.removeprefix("<!DOCTYPE html>"))
	report, log = json.load(open(report_name)), json.load(open(log_name))
	assert report["events"] == log["events"], "report and log tell different events"
	times = [s["time_s"] for s in report["samples"]] + [e["time_s"] for e in log["events"]]
	from_s = max(times, default=0) - int(last[0]) if last else 0
	events = [e for e in log["events"] if e["time_s"] >= from_s]
	loads_nothing(page, source)
	links_lead_somewhere(page)
	rows_are_events(page, events)
	marks_are_changes(page, events)
	samples_are_there(page, report, from_s)
	partitions_are_there(page, report)
	thresholds_are_there(page, report, events)
	if all(s["name"] for s in report["samples"]) and not any(e["kind"] == "removed" for e in events):
		boundaries_add_up(page, report)


main()
