#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lcpfs report: a page that says what log and report --json say, loads nothing, and is the same of a pool that
# is served. Where there is a chromium, the page is opened in it: marks can be reached by keyboard, nothing sticks
# out, dark differs from light, it prints.
. "$(dirname "$0")/lib.sh"
HERE=$TESTS/cli
MAKER=$(dirname "$LCPFS")/tests/unit/test_pool_samples
[ -x "$MAKER" ] || skip "no $MAKER"
POOL=$T/pool

"$MAKER" "$POOL" 3 || fail "no pool"
check_clean "$POOL"
"$TESTS/../tools/decode.py" "$POOL" --totals >out || fail "the decoder complains: $(cat out)"

# page [OPTIONS]: in page.html, and what it has to say in report.json and log.json.
page() {
	expect 0 lcpfs report "$POOL" --output page.html "$@"
	[ ! -s out ] || fail "it prints: $(head -c 300 out)"
	lcpfs report "$POOL" --json >report.json
	lcpfs log "$POOL" --last 4096 --json >log.json
}

page
/usr/bin/python3 "$HERE/report.py" page.html report.json log.json || fail "not what log says"
grep -q 'class="mark improved"' page.html || fail "no move improved anything: it proves too little"
grep -q 'class="mark hurt"' page.html || fail "no move hurt"
grep -q 'class="mark resized"' page.html || fail "it was not resized"
lcpfs report "$POOL" >piped.html
/usr/bin/python3 "$HERE/report.py" piped.html report.json log.json || fail "standard output has another page"

# ---- only the last hours ----

cp page.html whole.html
page --last 6h
/usr/bin/python3 "$HERE/report.py" page.html report.json log.json 21600 || fail "not the last six hours"
[ "$(wc -c <page.html)" -lt "$(wc -c <whole.html)" ] || fail "as long as all of it"
for wrong in 0h 5 h 5y 1.5h -1h 99999999999h; do
	expect 2 lcpfs report "$POOL" --last "$wrong" --output page.html
	says "such as 90m"
done

# ---- files ----

cp page.html before.html
expect 1 lcpfs report "$POOL" --output "$T/none/page.html"
expect 1 lcpfs report "$T/none" --output page.html
cmp page.html before.html || fail "a report that failed changed the page"
(umask 077 && lcpfs report "$POOL" --output private.html)
[ "$(stat -c %a private.html)" = 600 ] || fail "mode $(stat -c %a private.html)"
ls page.html.* 2>/dev/null && fail "something was left behind"

# ---- a pool that knows nothing yet, names that want to be more ----

POOL="$T/<b>&\"pool"
lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
page
/usr/bin/python3 "$HERE/report.py" page.html report.json log.json || fail "an empty pool"
lcpfs add "$POOL" db --min 16M --max 32M >/dev/null
lcpfs add "$POOL" gone --min 16M --max 32M >/dev/null
lcpfs resize "$POOL" gone 24M >/dev/null
lcpfs remove "$POOL" gone --force >/dev/null
lcpfs grow "$POOL" --size 300M >/dev/null
page
/usr/bin/python3 "$HERE/report.py" page.html report.json log.json || fail "one that is gone"

# ---- served ----

POOL=$T/pool
lcpfs report "$POOL" --json >unserved.json
serve "$POOL" --tune off
page
/usr/bin/python3 "$HERE/report.py" page.html report.json log.json || fail "served"
/usr/bin/python3 - <<'PYTHON' || fail "other samples when it is served"
import json
unserved, served = (json.load(open(name)) for name in ("unserved.json", "report.json"))
assert served["samples"][: len(unserved["samples"])] == unserved["samples"] or \
	all(s in served["samples"] for s in unserved["samples"])
assert served["events"][: len(unserved["events"])] == unserved["events"]
PYTHON
unserve

# ---- in a browser ----

BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
	skip "no chromium; all else passed"
lcpfs report "$POOL" --output page.html
/usr/bin/python3 "$HERE/report_browser.py" "$BROWSER" page.html || fail "in the browser"
