#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs lcpfs top at a terminal of 80 × 24 and ends it in every way: the terminal is then as it was.

usage: top.py LCPFS POOL CONTROL
"""

import ast
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time

LCPFS, POOL, CONTROL = sys.argv[1:4]


class Terminal:
	"""Its first process starts the program, and is still there when that has ended: then the modes are looked
	at. When the first process ends, the kernel makes them what they were at first."""

	def __init__(self, arguments, **environment):
		ready, go = os.pipe()
		told, tell = os.pipe()
		leader, self.fd = pty.fork()
		if leader == 0:
			os.read(ready, 1)
			self.lead(tell, arguments, environment)
			os._exit(0)
		os.close(tell)
		self.told = os.fdopen(told)
		fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
		self.modes = termios.tcgetattr(self.fd)
		self.out = b""
		os.write(go, b"x")
		self.pid = int(self.told.readline())

	@staticmethod
	def lead(tell, arguments, environment):
		pid = os.fork()
		if pid == 0:
			os.environ.update({"TERM": "xterm", "LC_ALL": "C.UTF-8", **environment})
			os.execv(LCPFS, [LCPFS, *arguments])
		signal.signal(signal.SIGINT, signal.SIG_IGN)
		os.write(tell, b"%d\n" % pid)
		status = os.waitpid(pid, 0)[1]
		os.write(tell, repr((status, termios.tcgetattr(0))).encode() + b"\n")

	def read(self, until=None, seconds=60):
		"""Until `until` has come, or the end."""
		end = time.time() + seconds
		while time.time() < end and not (until and until in self.out):
			if select.select([self.fd], [], [], 0.1)[0]:
				try:
					block = os.read(self.fd, 65536)
				except OSError:
					block = b""
				if not block:
					return
				self.out += block
		assert until is None or until in self.out, (until, self.out)

	def wait(self, is_clean=True, has_shown=True):
		self.read()
		assert select.select([self.told], [], [], 0)[0], "it does not end"
		status, modes = ast.literal_eval(self.told.readline())
		before, begun, shown = self.out.rpartition(b"\x1b[?1049h")
		assert b"\x1b[?1049l" in shown if begun else not has_shown, self.out
		if is_clean:
			assert modes == self.modes, (self.modes, modes)
		return status


def top(*arguments, **environment):
	terminal = Terminal(["top", POOL, *arguments], **environment)
	terminal.read(b"q quit")
	return terminal


# What is on the screen, and the keys.
t = top("0.3")
for word in b"db", b"archive", b"ONLINE", b"mode observe", b"|min #data", b"P99":
	assert word in t.out, (word, t.out)
ANSWERS = ((b"s", b"(size)"), (b"s", b"(operations)"), (b" ", b"PAUSED"), (b"\x1b[B", b"db"), (b"\r", b"added"))
for key, answer in ANSWERS:
	t.out = t.out[:20]
	os.write(t.fd, key + b"\x0c")  # and drawn anew as a whole
	t.read(answer)
os.write(t.fd, b"q")
assert t.wait() == 0
assert re.search(rb"\x1b\[[0-9;]*36m", t.out), "colours"

# Every end.
for key in b"q", b"\x03":
	t = top()
	os.write(t.fd, key)
	assert t.wait() == 0, key
for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
	t = top()
	os.kill(t.pid, number)
	assert t.wait() == 0, number
for _ in range(10):  # as soon as the terminal is another
	t = Terminal(["top", POOL])
	while termios.tcgetattr(t.fd) == t.modes:
		pass
	os.kill(t.pid, signal.SIGHUP)
	assert t.wait(has_shown=False) == 0
for number in signal.SIGABRT, signal.SIGSEGV:
	t = top()
	os.kill(t.pid, number)
	assert os.WTERMSIG(t.wait(False)) == number

# Without colours, without UTF-8, at a small terminal.
t = top(NO_COLOR="1")
os.write(t.fd, b"q")
t.wait()
assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", t.out), t.out
t = top("0.2", LC_ALL="C")
fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 20, 0, 0))
os.kill(t.pid, signal.SIGWINCH)
t.read(None, 1)
os.write(t.fd, b"q")
assert t.wait() == 0
assert max(t.out) < 128, t.out

# What is asked for at each refresh takes no walk through snapshots.
asked = []


def pass_on(source, to, heard):
	for line in source.makefile("rb"):
		heard.append(line)
		to.sendall(line)
	to.shutdown(socket.SHUT_WR)


def listen(at, real):
	while True:
		client, server = at.accept()[0], socket.socket(socket.AF_UNIX)
		server.connect(real)
		threading.Thread(target=pass_on, args=(client, server, asked), daemon=True).start()
		threading.Thread(target=pass_on, args=(server, client, []), daemon=True).start()


os.rename(CONTROL, CONTROL + ".real")
spy = socket.socket(socket.AF_UNIX)
spy.bind(CONTROL)
spy.listen()
threading.Thread(target=listen, args=(spy, CONTROL + ".real"), daemon=True).start()
t = top("0.2")
t.read(None, 1)
os.write(t.fd, b"q")
assert t.wait() == 0
explains = [json.loads(line) for line in asked if b'"explain"' in line]
assert len(explains) > 1 and all(e.get("brief") for e in explains), asked
with socket.socket(socket.AF_UNIX) as s:
	s.connect(CONTROL + ".real")
	for brief in "", ',"brief":true':
		s.sendall(b'{"command":"explain"%s}\n' % brief.encode())
		result = json.loads(s.makefile().readline())["result"]
		assert ("snapshots" in result) != bool(brief), result
os.rename(CONTROL + ".real", CONTROL)

# A terminal that nobody knows is refused.
t = Terminal(["top", POOL], TERM="nobody-knows")
t.read()
assert b"is not known" in t.out, t.out
