#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# send and receive: by way of files and pipes, with servers and without, killed in the middle, and gone on with.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool
COPY=$T/copy

# change PYTHON: h is db, and some(n) n random blocks, the same each time
change() {
	/usr/bin/python3 -c "
import nbd, random, sys
random.seed(sys.argv[2])
h = nbd.NBD()
h.connect_uri(sys.argv[1])
some = lambda n: random.randbytes(4096 * n)
$1
h.shutdown()" "$(uri db)" "$1" || fail "cannot write"
}

# hash POOL EXPORT: of all its bytes
hash() {
	serve "$1"
	/usr/bin/python3 -c "
import hashlib, nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
sum = hashlib.sha256()
for at in range(0, h.get_size(), 1 << 22): sum.update(h.pread(min(1 << 22, h.get_size() - at), at))
print(sum.hexdigest())" "$(uri "$2")" >sum || fail "cannot read $2"
	unserve
	cat sum
}

same() {
	hash "$POOL" "$1" >first
	hash "$COPY" "$2" >second
	cmp first second || fail "$1 and $2 differ"
}

names() {
	lcpfs list "$COPY" --snapshots --json | grep -o '"name":"[^"]*"' | cut -d '"' -f 4 | tr '\n' ' '
}

# from CODE FILE COMMAND...: with a file as its input, and one line of complaint
from() {
	wanted=$1 file=$2
	shift 2
	code=0
	"$@" <"$file" >out 2>err || code=$?
	[ "$code" -eq "$wanted" ] || fail "$*: exit code $code, not $wanted: $(cat out err)"
	[ "$wanted" -eq 0 ] || [ "$(wc -l <err)" -eq 1 ] || fail "$*: $(cat err)"
}

lcpfs create "$POOL" --size 256M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 32M --max 32M --volume 24M >/dev/null
lcpfs create "$COPY" --size 512M --metaslab 2M >/dev/null
lcpfs add "$COPY" bk --min 32M --max 32M --volume 24M >/dev/null
lcpfs add "$COPY" via --min 32M --max 32M --volume 24M >/dev/null
serve "$POOL"
change 'h.pwrite(some(2048), 5 << 20)
for i in range(200): h.pwrite(some(1), random.randrange(6144) * 4096)'
lcpfs snapshot "$POOL" db@one >/dev/null
change 'h.pwrite(some(1024), 7 << 20); h.trim(3 << 20, 6 << 20)
for i in range(50): h.pwrite(some(1), random.randrange(6144) * 4096)'
lcpfs snapshot "$POOL" db@two >/dev/null

# ---- the same with a server and without, and as long as was said ----

sends() {
	lcpfs send "$POOL" db@one >"$1.whole" || fail "cannot send"
	lcpfs send "$POOL" db@two --from one >"$1.more" || fail "cannot send"
	lcpfs send "$POOL" db@two --from db@one -n --json >out
	[ "$(grep -o '"stream_bytes":[0-9]*' out)" = "\"stream_bytes\":$(wc -c <"$1.more")" ] || fail "$(cat out)"
	expect 0 lcpfs send "$POOL" db@one --dry-run
	grep -q '^would be: db@one: sent, [0-9.]*M$' out || fail "$(cat out)"
	expect 1 lcpfs send "$POOL" db
	says "names no snapshot"
	expect 1 lcpfs send "$POOL" db@one --from two
	says "db@two is not older than db@one"
	expect 1 lcpfs send "$POOL" db@one --from none
	says "there is no snapshot db@none"
	[ ! -s out ] || fail "it wrote something"
	expect 2 lcpfs send "$POOL"
}
sends served
# Nobody reads it to its end; who may not wait is not waited for, and nothing is left open.
lcpfs send "$POOL" db@one 2>err | head -c 100000 >out || true
[ "$(wc -c <out)" -eq 100000 ] || fail "$(wc -c <out)"
grep -q "Broken pipe" err || fail "$(cat err)"
lcpfs send "$POOL" db@one --progress 2>err >out
cmp out served.whole
grep -q "100.0 %" err || fail "$(cat err)"
expect 0 lcpfs destroy "$POOL" db@one -n
unserve
chmod 400 "$POOL"
sends unserved
chmod 600 "$POOL"
cmp served.whole unserved.whole
cmp served.more unserved.more

# ---- received, and refused without a trace ----

refusals() {
	from 1 served.more lcpfs receive "$COPY" bk
	says "the stream goes on from db@one, and the youngest snapshot of bk is none"
	head -c 3000000 served.whole >cut
	from 1 cut lcpfs receive "$COPY" bk
	says "the stream ends before its end, at byte 2"
	from 1 /dev/null lcpfs receive "$COPY" bk
	says "ends before its end, at byte 0"
	from 1 "$TESTS/cli/lib.sh" lcpfs receive "$COPY" bk
	says "this is no stream that lcpfs send has made"
	from 1 served.whole lcpfs receive "$COPY" nobody
	says "there is no partition nobody"
	from 1 served.whole lcpfs receive "$COPY" bk --abort
	says "has received no part of a snapshot"
	from 2 served.whole lcpfs receive "$COPY" bk --abort --resume
	from 0 served.whole lcpfs receive "$COPY" bk -n
	grep -q '^would be: bk@one: received, ' out || fail "$(cat out)"
	[ -z "$(names)" ] || fail "$(names)"
}
refusals
serve "$COPY"
refusals
from 0 served.whole lcpfs receive "$COPY" bk --json
grep -q '"snapshot":"one","from":null' out || fail "$(cat out)"
from 1 served.whole lcpfs receive "$COPY" bk
says "bk@one is that snapshot already"
/usr/bin/python3 -c "
import nbd, subprocess, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
command = [sys.argv[2], 'receive', sys.argv[3], 'bk']
done = subprocess.run(command, stdin=open('served.more'), stderr=subprocess.PIPE)
assert done.returncode == 1 and b'in use by 1 client' in done.stderr, done" "$(uri bk)" "$LCPFS" "$COPY" || fail
unserve
# A pipe, and on from there to a third.
lcpfs send "$POOL" db@two --from one | lcpfs receive "$COPY" bk >out || fail "cannot receive"
grep -q "^bk@two: received, .*, goes on from one$" out || fail "$(cat out)"
same db@two bk@two
lcpfs send "$COPY" bk@one >via.whole
from 0 via.whole lcpfs receive "$COPY" via
from 0 served.more lcpfs receive "$COPY" via
[ "$(names)" = "bk@one bk@two via@one via@two " ] || fail "$(names)"
same db@two via@two
lcpfs log "$COPY" >out
grep -q "snapshot   via@two, received" out || fail "$(cat out)"

# ---- killed in the middle ----

again() {
	lcpfs remove "$COPY" bk --force >/dev/null
	lcpfs add "$COPY" bk --min 32M --max 32M --volume 24M >/dev/null
}
mkfifo slow

# half OPTIONS...: a receive that has got more than a pipe holds, and waits for the rest; RECEIVER is its process.
half() {
	"$LCPFS" receive "$COPY" bk "$@" <slow >out 2>err &
	RECEIVER=$!
	exec 9>slow
	head -c 4000000 served.whole >&9
}

# listed STATE JSON COUNT: of bk, and how many partitions wait for the rest of a snapshot.
listed() {
	lcpfs list "$COPY" >out
	grep -q "^bk .* $1 *$" out || fail "not $1: $(cat out)"
	lcpfs list "$COPY" --json >out
	grep -q "\"name\":\"bk\".*\"receiving\":\"$2\".*\"half_received\":$3" out || fail "not $2: $(cat out)"
}

# A command of its own, killed.
again
half
kill -9 "$RECEIVER"
wait "$RECEIVER" || true
exec 9>&-
wait_released "$COPY"
check_clean "$COPY"
listed half-received interrupted 1
expect 0 lcpfs status "$COPY"
grep -q "^received    a part of a snapshot by 1 partition, see lcpfs list: go on with" out || fail "$(cat out)"
from 1 served.whole lcpfs receive "$COPY" bk
says "go on with lcpfs receive --resume, or give it up with --abort"
expect 1 lcpfs snapshot "$COPY" bk@x
says "has received a part of a snapshot"
from 0 served.whole lcpfs receive "$COPY" bk --resume
from 0 served.more lcpfs receive "$COPY" bk --resume
same db@two bk@two

# The server, killed; then it is given up.
again
serve "$COPY"
half --resume
expect 1 lcpfs snapshot "$COPY" bk@x
says "is receiving a snapshot"
expect 1 lcpfs receive "$COPY" bk
says "is receiving a snapshot"
listed receiving now 0
unserve KILL
wait "$RECEIVER" && fail "it does not notice"
exec 9>&-
wait_released "$COPY"
serve "$COPY"
/usr/bin/python3 -c "
import nbd, sys
h = nbd.NBD()
try:
	h.connect_uri(sys.argv[1])
except nbd.Error:
	sys.exit(0)
sys.exit('it is open')" "$(uri bk)" || fail
expect 0 lcpfs receive "$COPY" bk --abort --dry-run
expect 0 lcpfs receive "$COPY" bk --abort
[ "$(cat out)" = "bk: given up" ] || fail "$(cat out)"
from 0 served.whole lcpfs receive "$COPY" bk -n
unserve

# Its client, killed: the server gives it up by itself, or keeps it.
again
serve "$COPY"
half
kill -9 "$RECEIVER"
wait "$RECEIVER" || true
exec 9>&-
gone() {
	! lcpfs snapshot "$COPY" bk@x --dry-run 2>&1 | grep -q "is receiving"
}
wait_until gone
expect 0 lcpfs snapshot "$COPY" bk@x --dry-run
half --resume
kill -9 "$RECEIVER"
wait "$RECEIVER" || true
exec 9>&-
wait_until gone
expect 1 lcpfs snapshot "$COPY" bk@x --dry-run
says "has received a part of a snapshot"
# The rest comes cut, too.
head -c 6000000 served.whole >cut
from 1 cut lcpfs receive "$COPY" bk --resume
says "what came is kept for --resume"
from 0 served.whole lcpfs receive "$COPY" bk --resume --json
grep -q '"skipped_bytes":[1-9]' out || fail "$(cat out)"
unserve
same db@one bk@one

# ---- since a snapshot that is gone here, and only noted ----

from 0 served.more lcpfs receive "$COPY" bk
serve "$POOL"
lcpfs bookmark "$POOL" db@two noted >/dev/null
lcpfs destroy "$POOL" db@two >/dev/null
change 'h.pwrite(some(100), 6 << 20); h.trim(1 << 20, 8 << 20)
for i in range(30): h.pwrite(some(1), random.randrange(6144) * 4096)'
lcpfs snapshot "$POOL" db@three >/dev/null
lcpfs send "$POOL" db@three --from db#noted >noted.more || fail "cannot send"
expect 0 lcpfs send "$POOL" db@three --from '#noted' -n --json
grep -q "\"from\":\"noted\".*\"stream_bytes\":$(wc -c <noted.more)," out || fail "$(cat out)"
expect 1 lcpfs send "$POOL" db@three --from db#none
says "there is no bookmark db#none"
unserve
from 0 noted.more lcpfs receive "$COPY" bk
same db@three bk@three
lcpfs list "$COPY" --json | grep -q '"receiving":"[^n]' && fail "it still receives"
check_clean "$COPY"
check_clean "$POOL"
