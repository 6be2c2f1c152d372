#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The Grafana dashboard has the fields of one and asks for no metric, and by no label, that docs/metrics.md does
# not promise; where there is a promtool, it can read each expression.
. "$(dirname "$0")/lib.sh"
DASHBOARD=$TESTS/../contrib/grafana/lcpfs.json

check() {
	/usr/bin/python3 "$TESTS/cli/dashboard.py" "$1" "$TESTS/../docs/metrics.md" "$T/rules.yml"
}

check "$DASHBOARD" || fail "the dashboard"
if command -v promtool >/dev/null; then
	promtool check rules "$T/rules.yml" >out 2>&1 || fail "promtool: $(cat out)"
fi

# What it is to notice.
refused() {
	sed "$1" "$DASHBOARD" >wrong.json
	! cmp -s "$DASHBOARD" wrong.json || fail "$1 changes nothing"
	! check wrong.json 2>/dev/null || fail "not noticed: $1"
}
refused 's/lcpfs_pool_free_bytes/lcpfs_pool_free_blocks/'
refused 's/by (partition)/by (name)/'
refused 's/latency_seconds_bucket/latency_seconds/'
refused '0,/"id": 3/s//"id": 2/'
refused 's/operation!=/action!=/'
