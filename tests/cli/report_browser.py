#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Opens a page of lcpfs report in a headless chromium. usage: report_browser.py CHROMIUM PAGE"""

import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# Says in the page's title what a browser made of it.
PROBE = """
<script>
const seen = (e) => e.getClientRects().length > 0;
const marks = [...document.querySelectorAll("a.mark")].filter(seen);
const reached = marks.filter((m) => { m.focus(); return document.activeElement === m; });
const hints = marks.filter((m) => { m.focus(); return [...m.querySelectorAll(".hint")].some(seen); });
if (marks.length) marks[0].blur();
const outside = [...document.querySelectorAll("body *")].filter((e) => seen(e) && !e.closest(".scroll") &&
	!e.classList.contains("skip") && e.getBoundingClientRect().right > innerWidth + 1);
const texts = [...document.querySelectorAll("svg text")].filter(seen);
const over = [];
for (const svg of [...document.querySelectorAll("figure > svg")].filter(seen)) {
	const boxes = [...svg.querySelectorAll("text")].map((t) => [t, t.getBoundingClientRect()]);
	boxes.forEach(([a, x], i) => boxes.slice(i + 1).forEach(([b, y]) => {
		if (x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 3 && y.top < x.bottom - 3)
			over.push(a.textContent + " / " + b.textContent);
	}));
}
document.title = "PROBE" + JSON.stringify({
	marks: marks.length,
	reached: reached.length,
	hints: hints.length,
	pictures: [...document.querySelectorAll("figure > svg")].filter(seen).length,
	outside: outside.slice(0, 5).map((e) => e.outerHTML.slice(0, 80)),
	scrolls: document.documentElement.scrollWidth > innerWidth + 1,
	page: getComputedStyle(document.body).backgroundColor,
	ink: getComputedStyle(texts[0]).fill,
	over: over.slice(0, 5),
}) + "PROBE";
</script>
"""


class Browser:
	def __init__(self, program, folder):
		self.command = [
			program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
			f"--user-data-dir={folder}/profile",
		]

	def run(self, *options):
		done = subprocess.run([*self.command, *options], capture_output=True, timeout=100, check=True)
		return done.stdout.decode(errors="replace")

	def probe(self, page, width, dark=False):
		scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
		dom = self.run(f"--window-size={width},900", *scheme, "--dump-dom", page.as_uri())
		return json.loads(html.unescape(re.search(r"PROBE(\{.*?\})PROBE", dom).group(1)))


def main():
	program, page = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
	source = page.read_text(encoding="utf-8")
	marks = source.count('<a class="mark ') // 2  # in the picture for a desk and in that for a phone
	with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
		browser = Browser(program, folder)
		probed = pathlib.Path(folder) / "probed.html"
		probed.write_text(source.replace("</body>", PROBE + "</body>"), encoding="utf-8")
		colours = set()
		for width, dark in ((1200, False), (1200, True), (500, False), (500, True)):
			found = browser.probe(probed, width, dark)
			assert found["marks"] == found["reached"] == marks > 0, found
			assert found["hints"] == (marks if width > 700 else 0), found
			assert found["pictures"] == 2 and not found["outside"] and not found["scrolls"], found
			assert not found["over"], f"{width}: texts lie over each other: {found['over']}"
			colours.add((dark, found["page"], found["ink"]))
		assert [len({c[i] for c in colours}) for i in range(3)] == [2, 2, 2], colours
		printed = pathlib.Path(folder) / "printed.pdf"
		browser.run(f"--print-to-pdf={printed}", "--no-pdf-header-footer", page.as_uri())
		assert printed.read_bytes().startswith(b"%PDF") and printed.stat().st_size > 20000


main()
