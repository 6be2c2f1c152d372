#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a container with little memory the server lives, and so does what it was given: what the system keeps of the
# pool counts there, too, and has to give way.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ -z "$SANITIZER" ] || skip "a sanitizer has memory of its own"
POOL=$T/pool

# Control groups, version 2 or 1.
GROUP=/sys/fs/cgroup/lcpfs-test.$$ LIMIT=memory.max KILLS=memory.events
grep -qs memory /sys/fs/cgroup/cgroup.subtree_control || {
	GROUP=/sys/fs/cgroup/memory/lcpfs-test.$$ LIMIT=memory.limit_in_bytes KILLS=memory.oom_control
}
mkdir "$GROUP" 2>/dev/null || skip "no control group of its own"
at_end "rmdir $GROUP"
at_end '[ -z "$SERVER" ] || { end_job "$SERVER"; wait "$SERVER" 2>/dev/null; }'
[ -e "$GROUP/$KILLS" ] || skip "control groups do not count memory"
echo $((32 << 20)) >"$GROUP/$LIMIT" || skip "memory cannot be limited"

# Everything that is lcpfs runs in there.
cat >contained <<SH
#!/bin/sh
echo \$\$ >$GROUP/cgroup.procs
exec $LCPFS "\$@"
SH
chmod +x contained
LCPFS=$T/contained

lives() {
	kill -0 "$SERVER" || fail "the server is gone"
	grep -q "^oom_kill 0" "$GROUP/$KILLS" || fail "somebody was killed: $(cat "$GROUP/$KILLS")"
}

"$LCPFS" create "$POOL" --size 512M --metaslab 1M >/dev/null
"$LCPFS" add "$POOL" db --min 32M --max 400M --size 400M --volume 300M >/dev/null
serve "$POOL" --cache 16M
cat >client.py <<'PYTHON'
import random
import sys

import nbd

SIZE, LARGE, SMALL = 300 << 20, 1 << 20, 4096
h = nbd.NBD()
h.connect_uri(f"nbd+unix:///db?socket={sys.argv[1]}")
rounds = random.Random(7)
overwritten = {rounds.randrange(SIZE // SMALL): n for n in range(20000)}


def content(offset):
	n = overwritten.get(offset // SMALL)
	return (n if n is not None else offset // LARGE << 32).to_bytes(8, "little") * (SMALL // 8)


if sys.argv[2] == "write":
	for at in range(0, SIZE, LARGE):
		h.pwrite((at // LARGE << 32).to_bytes(8, "little") * (LARGE // 8), at)
	for block in overwritten:
		h.pwrite(content(block * SMALL), block * SMALL)
	h.flush()
for at in range(0, SIZE, LARGE):
	wanted = b"".join(content(at + i) for i in range(0, LARGE, SMALL))
	assert h.pread(LARGE, at) == wanted, at
h.shutdown()
PYTHON
/usr/bin/python3 client.py "$SOCKET" write
lives
kill -9 "$SERVER"
wait "$SERVER" || true
serve "$POOL" --cache 16M
/usr/bin/python3 client.py "$SOCKET" read
lives
kill "$SERVER"
wait "$SERVER"
SERVER=
"$LCPFS" check --data "$POOL"
grep -q "^oom_kill 0" "$GROUP/$KILLS" || fail "check was killed"
