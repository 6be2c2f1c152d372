#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# README's five minutes, as they stand there: each command in one shell, with the outcome that is shown (numbers
# may differ), by programs that `make` installs. What only root can do is left out for others.
. "$(dirname "$0")/lib.sh"
needs bash fio nbdcopy
fio --enghelp | grep -qw nbd || skip "fio without its nbd engine"
PATH=$(dirname "$LCPFS"):$PATH
can_mount=no
if [ "$(id -u)" -eq 0 ] && [ -c /dev/fuse ] && losetup --find >/dev/null 2>&1; then
	can_mount=yes
	needs nbdfuse mkfs.ext4 fusermount3
fi
at_end "umount -l $T/fs 2>/dev/null; umount -l $T/mnt 2>/dev/null; kill \$(cat $T/pids 2>/dev/null) 2>/dev/null"

cat >walk.py <<'PYTHON'
"""Makes a shell script of README's five minutes, or compares what that printed with what README shows."""
import re
import sys

from page_steps import steps_of

readme, what, can_mount = sys.argv[1], sys.argv[2], sys.argv[3] == "yes"
steps = steps_of(readme, "Five minutes by hand")
assert steps[0][1].startswith("make && "), steps[0]
assert len(steps) > 20
steps = [s for s in steps[1:] if s[0] == "$" or can_mount]
steps[0][1] = "true"  # the folder: the test has its own


def plain(line):
	line = line.replace("/tmp/tut/", sys.argv[4] + "/") if len(sys.argv) > 4 else line
	return re.sub(r"\d[\d.,]*[KMGT]?", "#", line.rstrip())


if what == "script":
	# Whoever else looks for a free loop device has each of them open for a moment.
	print('retry() { for i in {1..600}; do "$@" && return; sleep 0.1; done; return 1; }')
	for number, (_, command, _) in enumerate(steps):
		command = f"retry {command}" if command.startswith("fusermount3 ") else command
		print(f"echo; echo '=== {number}'\n{command}\necho \"status $?\"")
		if command.endswith("&"):
			ready = "grep -q '^lcpfs: serving' walk.out" if command.startswith("lcpfs serve") else \
				"[ -e mnt/nbd ]" if command.startswith("nbdfuse") else "true"
			print(f"echo $! >>pids; for i in {{1..600}}; do {ready} && break; sleep 0.1; done")
elif what == "programs":
	commands = " | ".join(command for _, command, _ in steps).replace("\n", " ")
	print(*sorted({word.split()[0] for word in re.split(r"[|;]|&&", commands) if word.strip()}))
else:
	out = re.split(r"^=== \d+\n", open("walk.out").read(), flags=re.MULTILINE)[1:]
	assert len(out) == len(steps), f"it ended after {len(out)} of {len(steps)} commands: {out[-1]}"
	for (_, command, shown), got in zip(steps, out):
		lines = {plain(line) for line in got.split("\n")}
		refused = any(line.startswith("lcpfs: ") and "serving" not in line for line in shown)
		assert (re.search(r"^status 0$", got, re.MULTILINE) is None) == refused, f"{command}: {got}"
		for line in shown:
			if line.startswith(("pool.lcpfs", "db:", "archive:", "lcpfs:", "Mode ")):
				assert plain(line) in lines, f"{command}: not \"{line}\" but {got}"
		assert not shown or re.sub("status .*", "", got).strip(), f"{command} prints nothing"
PYTHON
README=$TESTS/../README.md
export PYTHONPATH="$TESTS/cli" PYTHONDONTWRITEBYTECODE=1
for program in $(/usr/bin/python3 walk.py "$README" programs "$can_mount"); do
	case $program in lcpfs | kill | wait | true | export) continue ;; esac
	path=$(command -v "$program") || fail "no $program"
	package=$(dpkg-query -S "$path" 2>/dev/null || dpkg-query -S "${path#/usr}" 2>/dev/null) || continue
	package=${package%%:*}
	"$TESTS/../tools/install-deps.sh" use --list | grep -qx "$package" ||
		[ "$(dpkg-query -W -f '${Essential}' "$package" | head -c 3)" = yes ] ||
		fail "README uses $program of $package, which make does not install"
done
/usr/bin/python3 walk.py "$README" script "$can_mount" >walk.sh
timeout 200 bash walk.sh >walk.out 2>&1 </dev/null || true
/usr/bin/python3 walk.py "$README" compare "$can_mount" "$T" || fail "$(cat walk.out)"
[ "$can_mount" = yes ] || echo "the file system was left out: no root, FUSE or loop device"
