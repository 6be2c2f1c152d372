#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Is lcpfs.json what Grafana itself calls a dashboard? Grafana publishes its schema as types, in the npm package
# @grafana/schema; a compiler for these judges the dashboard, the options of each panel, and those of time series.
# usage: contrib/grafana/check.sh
#
# By Grafana 10 it has to be whole; the newest adds what it lacks, and must know all that is there.
# It downloads from the npm registry; where that cannot be reached it says so and ends with 77.
set -eu
DASHBOARD=$(cd "$(dirname "$0")" && pwd)/lcpfs.json
command -v npm >/dev/null || { echo "skipped: no npm"; exit 77; }
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cd "$T"
cat >program.py <<'PYTHON'
import json
import pathlib
import re
import sys


# What plugins add to a variable and an annotation is in no schema: Prometheus' query, as Grafana exports it.
def without_plugins(d):
	for v in d["templating"]["list"]:
		v.pop("definition", None)
	for a in d["annotations"]["list"]:
		for key in ("expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"):
			a.pop(key, None)
	return d


# A text is no member of an enum of texts, but what JSON holds are texts.
def as_texts(enum):
	return f"type {enum[1]} = " + " | ".join(re.findall(r'= ("[^"]*"|-?\d+)', enum[2])) + ";"


def enums_as_texts(types):
	for path in types.rglob("*.d.ts"):
		text = path.read_text(encoding="utf-8")
		new = re.sub(r"(?:declare )?enum (\w+) \{(.*?)\}", as_texts, text, flags=re.DOTALL)
		if new != text:
			path.write_text(new, encoding="utf-8")


schema = pathlib.Path("node_modules/@grafana/schema/dist")
KINDS = ("timeseries", "stat", "bargauge")
names = ["raw/dashboard/x/*types.gen.d.ts"] + [f"raw/composable/{k}/panelcfg/x/*types.gen.d.ts" for k in KINDS]
found = [min(schema.rglob(name)) for name in names]
enums_as_texts(schema)
d = json.load(open(sys.argv[1], encoding="utf-8"))
whole = sys.argv[2] == "10"
out = ["type Part<T> = T extends object ? { [K in keyof T]?: Part<T[K]> } : T;"]
out += [f'import type {{ Dashboard }} from "./{str(found[0])[:-5]}";']
for kind, path in zip(KINDS, found[1:]):
	also = ", FieldConfig as Fields" if kind == "timeseries" else ""
	out.append(f'import type {{ Options as {kind}{also} }} from "./{str(path)[:-5]}";')
for i, p in enumerate(d["panels"]):
	kind = p["type"] if whole else f"Part<{p['type']}>"
	out.append(f"export const options{i}: {kind} = {json.dumps(p['options'])};")
	if p["type"] == "timeseries":
		custom = p["fieldConfig"]["defaults"]["custom"]
		out.append(f"export const fields{i}: Fields = {json.dumps(custom)};")
out.append(f"export const dashboard: Dashboard = {json.dumps(without_plugins(d), indent=1)};")
pathlib.Path("dashboard.ts").write_text("\n".join(out), encoding="utf-8")
PYTHON

for version in 10 latest; do
	rm -rf node_modules package*.json
	npm install --silent --no-audit --no-fund "@grafana/schema@$version" typescript >npm.log 2>&1 ||
		{ echo "skipped: $(tail -n 1 npm.log)"; exit 77; }
	python3 program.py "$DASHBOARD" "$version"
	npx tsc --noEmit --strict --skipLibCheck --target es2020 --module esnext --moduleResolution bundler \
		dashboard.ts
	echo "a dashboard, by $(sed -n 's/.*"version": "\(.*\)".*/\1/p' node_modules/@grafana/schema/package.json)"
done
