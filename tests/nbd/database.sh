#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A database on ext4 on a volume: snapshots while it writes, and a clone of each is mounted. The file system and
# the database recover as after a power cut, and what was acknowledged before the snapshot is there.
. "$(dirname "$0")/../cli/lib.sh"
. "$TESTS/nbd/lib.sh"
POOL=$T/pool
needs mkfs.ext4 fsck.ext4
/usr/bin/python3 -c 'import sqlite3' 2>/dev/null || skip "no sqlite3 for Python"

cat >base.py <<'PYTHON'
"""base.py write FOLDER ACKNOWLEDGED: one transaction after the other, until its input ends; the number of each
that is durable goes to a file. base.py verify FOLDER LEAST MOST: has such a writer left the database so?"""
import hashlib
import select
import sqlite3
import sys

what, folder, *rest = sys.argv[1:]
base = sqlite3.connect(f"{folder}/base.db", isolation_level=None)
base.execute("PRAGMA synchronous=FULL")


def content(number, row):
	return hashlib.sha512(f"{number} {row}".encode()).hexdigest() * (1 + number % 7)


def rows(number):
	return 1 + number % 5


def add(number):
	base.execute("BEGIN")
	for row in range(rows(number)):
		base.execute("INSERT INTO rows VALUES (?, ?, ?)", (number, row, content(number, row)))
	base.execute("UPDATE total SET transactions = ?, rows = rows + ?", (number, rows(number)))
	base.execute("COMMIT")


def verify(least, most):
	assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
	(last, total), = base.execute("SELECT transactions, rows FROM total")
	assert least <= last <= most, f"the last transaction is {last}, not {least} to {most}"
	wanted = [(n, row, content(n, row)) for n in range(1, last + 1) for row in range(rows(n))]
	assert base.execute("SELECT * FROM rows ORDER BY number, row").fetchall() == wanted
	assert total == len(wanted)
	return last


if what == "write":
	base.execute("PRAGMA journal_mode=WAL")
	base.execute("CREATE TABLE rows (number, row, content, PRIMARY KEY (number, row))")
	base.execute("CREATE TABLE total (transactions, rows)")
	base.execute("INSERT INTO total VALUES (0, 0)")
	number = 0
	while not select.select([sys.stdin], [], [], 0)[0]:
		number += 1
		add(number)
		with open(rest[0], "a", buffering=1) as out:
			out.write(f"{number}\n")
else:
	last = verify(int(rest[0]), int(rest[1]))
	add(last + 1)  # and it goes on
	verify(last + 1, last + 1)
base.close()
PYTHON

acknowledged() {
	tail -n 1 acknowledged
}

# More of them than now.
await_more() {
	least=$(($(acknowledged) + $1))
	for _ in $(seq 600); do
		[ "$(acknowledged)" -lt "$least" ] || return 0
		sleep 0.1
	done
	fail "the database stands still at $(acknowledged): $(cat base.log)"
}

lcpfs create "$POOL" --size 768M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 64M --max 512M --size 512M --volume 192M >/dev/null
serve "$POOL"
file_of db
OWN_FUSE=$FUSE
loop_of "$T/db.fuse/nbd"
OWN_LOOP=$LOOP
mkfs.ext4 -q -F "$OWN_LOOP" >mkfs.log 2>&1 || fail "mkfs: $(cat mkfs.log)"
mount_at "$OWN_LOOP" mnt
echo 0 >acknowledged
mkfifo end
/usr/bin/python3 base.py write mnt acknowledged <end >base.log 2>&1 &
writer=$!
exec 8>end
at_end "exec 8>&-; wait $writer 2>/dev/null"
for i in 1 2 3; do
	await_more 30
	before=$(acknowledged)
	lcpfs snapshot "$POOL" "db@s$i" >/dev/null
	after=$(($(acknowledged) + 2)) # one under way, and one that is not noted yet
	lcpfs clone "$POOL" "db@s$i" copy >/dev/null
	file_of copy
	loop_of "$T/copy.fuse/nbd"
	mount_at "$LOOP" copy
	/usr/bin/python3 base.py verify copy "$before" "$after" >verify.log 2>&1 ||
		fail "snapshot $i, $before to $after acknowledged: $(tail -n 3 verify.log)"
	umount copy
	fsck.ext4 -f -n "$LOOP" >fsck.log 2>&1 || fail "fsck: $(cat fsck.log)"
	loop_end "$LOOP"
	file_end copy
	lcpfs destroy "$POOL" copy >/dev/null
done
await_more 10
echo >&8
wait "$writer" || fail "the database: $(cat base.log)"
last=$(acknowledged)
/usr/bin/python3 base.py verify mnt "$last" "$last" >verify.log 2>&1 || fail "$(tail -n 3 verify.log)"
umount mnt
fsck.ext4 -f -n "$OWN_LOOP" >fsck.log 2>&1 || fail "fsck: $(cat fsck.log)"
loop_end "$OWN_LOOP"
FUSE=$OWN_FUSE
file_end db
lcpfs destroy "$POOL" db@% >/dev/null
unserve
check_clean "$POOL"
