#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two servers and one path, at the same time or after one another: a server that lives keeps its socket, a start
# that fails leaves nothing, a stop removes only what is its own.
. "$(dirname "$0")/../cli/lib.sh"
ROUNDS=${ROUNDS:-12}
for i in 1 2 3; do
	lcpfs create "pool$i" --size 64M --metaslab 1M
	lcpfs add "pool$i" "p$i" --min 8M --max 16M >/dev/null
done

stale() {
	/usr/bin/python3 -c '
import socket, sys
for name in sys.argv[1:]:
	socket.socket(socket.AF_UNIX).bind(name)' "$@"
}

# Several at once on one path, with or without something stale there: one lives, and it is reached.
for round in $(seq "$ROUNDS"); do
	rm -f s s.control out? err?
	[ $((round % 3)) -eq 0 ] || stale s s.control
	pids=
	for i in 1 2 3; do
		"$LCPFS" serve "pool$i" --socket "$T/s" >"out$i" 2>"err$i" &
		pids="$pids $!"
		at_end "end_job $!"
	done
	wait_until sh -c 'cat out[123] err[123] | grep -c . | grep -qx 3'
	[ "$(cat out? | wc -l)" -eq 1 ] || fail "not one serves: $(cat out? err?)"
	i=$(grep -l serving out? | tr -d out)
	nbdinfo --size "nbd+unix:///p$i?socket=$T/s" >/dev/null || fail "it cannot be reached"
	expect 0 lcpfs list "pool$i"
	for pid in $pids; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" || true
	done
	[ "$(ls -d s* 2>/dev/null | grep -vx server.log)" = "" ] || fail "left behind: $(ls -d s*)"
done

# serve_alone NUMBER PATH: that pool there, as process $PID.
serve_alone() {
	rm -f out
	"$LCPFS" serve "pool$1" --socket "$2" >out 2>&1 &
	PID=$!
	at_end "end_job $PID"
	wait_until grep -qs serving out
}

# One whose sockets were removed, and another that listens there since: the first one's end removes nothing.
serve_alone 1 "$T/s"
first=$PID
rm s s.control
serve_alone 2 "$T/s"
second=$PID
kill "$first"
wait "$first"
nbdinfo --size "nbd+unix:///p2?socket=$T/s" >/dev/null || fail "its socket is gone"
expect 0 lcpfs list pool2
kill "$second"
wait "$second"
! ls s s.control 2>/dev/null || fail "left behind"

# What fails after it listens leaves nothing: a control path that is taken, a pool in use, keys that are not there.
mkdir s.control
expect 1 lcpfs serve pool1 --socket "$T/s"
rmdir s.control
[ ! -e s ] || fail "the socket was left"
serve_alone 1 "$T/other"
first=$PID
expect 1 lcpfs serve pool1 --socket "$T/s"
expect 1 lcpfs serve pool2 --socket "$T/other"
says "a server listens there already"
expect 1 lcpfs serve pool2 --socket "$T/s" --tls-certificates "$T"
! ls s s.control 2>/dev/null || fail "left behind"
nbdinfo --size "nbd+unix:///p1?socket=$T/other" >/dev/null || fail "the other one's socket is gone"
kill "$first"
wait "$first"

# Sockets that systemd hands over, and its wish to know.
/usr/bin/python3 - "$LCPFS" "$T" <<'PYTHON'
import os
import socket
import subprocess
import sys

import nbd

lcpfs, folder = sys.argv[1:]
unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
unix.bind(f"{folder}/handed")
unix.listen(5)
tcp.bind(("127.0.0.1", 0))
tcp.listen(5)
notify.bind(f"{folder}/notify")

environment = dict(os.environ, LISTEN_FDS="2", NOTIFY_SOCKET=f"{folder}/notify")
script = 'LISTEN_PID=$$ exec "$@" 3<&' + str(unix.fileno()) + " 4<&" + str(tcp.fileno())
server = subprocess.Popen(["sh", "-c", script, "sh", lcpfs, "serve", f"{folder}/pool1"], env=environment,
	pass_fds=(unix.fileno(), tcp.fileno()), stdout=subprocess.PIPE, text=True)
assert notify.recv(100) == b"READY=1"
assert server.stdout.readline().startswith("lcpfs: serving"), "no line"
for uri in (f"nbd+unix:///p1?socket={folder}/handed", f"nbd://127.0.0.1:{tcp.getsockname()[1]}/p1"):
	h = nbd.NBD()
	h.connect_uri(uri)
	h.pwrite(b"x" * 512, 0)
	h.shutdown()
assert subprocess.run([lcpfs, "list", f"{folder}/pool1"], check=False).returncode == 0
assert os.path.exists(f"{folder}/handed.control")
server.terminate()
assert notify.recv(100) == b"STOPPING=1"
assert server.wait() == 0
assert os.path.exists(f"{folder}/handed") and not os.path.exists(f"{folder}/handed.control"), "not its to remove"
unix.close()

# as libnbd does it
h = nbd.NBD()
h.set_export_name("p1")
h.connect_systemd_socket_activation([lcpfs, "serve", f"{folder}/pool1"])
assert h.pread(512, 0) == b"x" * 512
h.shutdown()
del h
PYTHON

# The URI that is printed is one, whatever the path looks like and whatever it is served by.
odd="$T/a b%20+&=#?;'é\"[x]"
mkdir "$odd"
serve_printed() { # OPTIONS...: reaches the partition by each URI of the line
	rm -f out
	"$LCPFS" serve pool1 "$@" >out 2>err.log &
	PID=$!
	at_end "end_job $PID"
	wait_until grep -qs serving out
	tr ' ' '\n' <out | sed -n 's|NAME|p1|; /^nbd/p' >uris
	while IFS= read -r uri; do
		[ "$(nbdinfo --size "$uri")" -gt 0 ] || fail "$uri is not one of ours: $(cat out)"
	done <uris
	kill "$PID"
	wait "$PID"
}
port=$((20000 + $$ % 20000))
serve_printed --socket "$odd/s.sock" --listen "127.0.0.1:$port"
[ "$(wc -l <uris)" -eq 2 ] || fail "not two: $(cat out)"
serve_printed --listen ":$port" --socket "$odd/s.sock"
[ "$(wc -l <uris)" -eq 2 ] || fail "not two: $(cat out)"
if [ -e /proc/net/if_inet6 ] && grep -q "^0*1 " /proc/net/if_inet6; then
	serve_printed --listen "[::1]:$port" --socket "$odd/s.sock"
	[ "$(wc -l <uris)" -eq 2 ] || fail "not two: $(cat out)"
fi
