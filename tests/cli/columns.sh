#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What people read fits into 80 columns at a terminal; in a pipe each sentence and each event is one line. list has
# what clients see, a total, and says what the columns and the mode are.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool

lcpfs create "$POOL" --size 4G --metaslab 1M >out
grep -q "Boundaries are watched, and not moved before lcpfs tune $POOL on" out || fail "create: $(cat out)"
lcpfs add "$POOL" db --min 64M --max 768M --size 176M --volume 152M >/dev/null
lcpfs add "$POOL" archive-2026 --min 100M --max 900M --size 640M --volume 256M >/dev/null

lcpfs list "$POOL" >out
head -1 out | grep -q "SIZE.*MIN.*MAX.*VOL.*DATA.*USED.*SPACE.*OPS.*LAT.*PRESS.*EPS.*WA" || fail "$(cat out)"
grep -q "^db  *177M  *64.0M  *768M  *152M " out || fail "$(cat out)"
grep -q "^TOTAL  *817M  164M 1.63G  *408M" out || fail "no total: $(cat out)"
grep -q "^The pool has 3.99G, of which 3.12G are nobody's.$" out || fail "$(cat out)"
grep -q "^Mode observe: boundaries are watched, not moved; lcpfs explain POOL says" out || fail "$(cat out)"
lcpfs tune "$POOL" on >/dev/null
lcpfs list "$POOL" | grep -q "^Mode on: boundaries move by themselves.$" || fail "mode on"
lcpfs status "$POOL" | grep -q "^engine  *mode on: boundaries move by themselves" || fail "$(lcpfs status "$POOL")"

# Runs a command at a terminal of 80 columns, and prints what came. No pager waits for a key there.
export PAGER=cat
cat >terminal.py <<'PYTHON'
import fcntl
import os
import pty
import struct
import sys
import termios

pid, fd = pty.fork()
if pid == 0:
	fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
	os.execv(sys.argv[1], sys.argv[1:])
try:
	while block := os.read(fd, 65536):
		sys.stdout.write(block.decode().replace("\r\n", "\n"))
except OSError:
	pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PYTHON
for command in "list $POOL" "status $POOL" "explain $POOL" "explain $POOL archive-2026" "log $POOL" "check $POOL" \
	"get $POOL" "scrub $POOL" "resize $POOL db 200M" help "help serve" "help create" "simulate --help"; do
	# shellcheck disable=SC2086
	/usr/bin/python3 terminal.py "$LCPFS" $command >out || fail "$command: $(cat out)"
	# A bold letter is one that is printed twice at its place.
	/usr/bin/python3 -c 'import re, sys
long = [line for line in re.sub(".\b", "", open("out").read()).split("\n") if len(line) > 80]
sys.exit("\n".join(long) if long else 0)' || fail "$command: wider than 80 columns"
done

lcpfs explain "$POOL" archive-2026 >out
[ "$(head -1 out)" = "$(lcpfs explain "$POOL" archive-2026 --json | /usr/bin/python3 -c '
import json, sys
print(json.load(sys.stdin)["decision"]["sentence"])')" ] || fail "not one line: $(head -2 out)"
lcpfs log "$POOL" >out
! grep -vq '^20[0-9-]* [0-9:]* [+-][0-9][0-9][0-9][0-9]  [a-z]' out || fail "no line each, or zone: $(cat out)"
