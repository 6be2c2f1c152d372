# SPDX-License-Identifier: Apache-2.0
"""A control server that means no good: hostile_server.py SOCKET POOL GUID MODE; or tells what stands in a file."""

import json
import os
import socket
import sys
import time

path, pool, guid, mode = sys.argv[1:5]
status = os.stat(pool)
identity = {"guid": guid, "device": f"{status.st_dev:016x}", "inode": f"{status.st_ino:016x}", "offset": "0" * 16}
if mode == "other-pool":
	identity["inode"] = f"{status.st_ino + 1:016x}"
EVIL = "\x1b]0;PWNED\x07\x9b2J\u202e\x7f\nlcpfs: second line"
RESULT = {
	"partitions": [{"name": EVIL, "size_blocks": 1, EVIL: 1}],
	"pool": {"health": EVIL, "health_text": EVIL, "guid": EVIL, "engine": {"mode": EVIL}},
	"decision": {"sentence": EVIL, "advice": EVIL, "ranking": EVIL},
	"events": [{"number": 1, "time_s": 1, "kind": EVIL, "text": EVIL}],
	"mode": EVIL, "removed": EVIL, "partition": {"name": EVIL},
	"findings": [{"text": EVIL, "partition": EVIL}],
}


def say(connection, value):
	connection.sendall(json.dumps(value, ensure_ascii=False).encode() + b"\n")


def answer(connection, request):
	if request.get("command") == "identify" and mode not in ("silent", "drip-hello"):
		say(connection, {"ok": True, "result": identity})
	elif mode in ("silent", "silent-later"):
		time.sleep(100)
	elif os.path.exists(mode):
		with open(mode, encoding="utf-8") as file:
			say(connection, {"ok": True, "result": json.load(file)})
	elif mode == "escapes":
		say(connection, {"ok": True, "result": RESULT})
	elif mode == "escapes-in-error":
		say(connection, {"ok": False, "error": {"name": "SYSTEM", "message": EVIL}})
	elif mode in ("drip", "drip-hello"):
		while True:
			say(connection, {"progress": {"done": 1, "total": 2}})
			time.sleep(0.2)
	elif mode == "flood":
		while True:
			connection.sendall(b"x" * 65536)
	elif mode == "many-objects":
		many = b",".join([b"{}"] * 2600000)
		connection.sendall(b'{"ok":true,"result":{"partitions":[' + many + b"]}}\n")
	elif mode == "many-numbers":
		connection.sendall(b'{"ok":true,"result":{"partitions":[' + b",".join([b"1"] * 4000000) + b"]}}\n")
	elif mode == "deep":
		connection.sendall(b"[" * 1000000 + b"\n")


server = socket.socket(socket.AF_UNIX)
server.bind(path)
if mode == "backlog":
	server.listen(0)
	waiting = []
	for _ in range(3):
		waiting.append(socket.socket(socket.AF_UNIX))
		waiting[-1].setblocking(False)
		try:
			waiting[-1].connect(path)
		except BlockingIOError:
			pass
	print("up", flush=True)
	time.sleep(100)
server.listen(5)
print("up", flush=True)
while True:
	client, _ = server.accept()
	try:
		for line in client.makefile():
			answer(client, json.loads(line))
	except (BrokenPipeError, ConnectionResetError):
		pass
	client.close()
