#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Power cuts under the real server and real clients: see powercuts.sh.

Clients write, trim, flush and use FUA over several connections to each of two partitions, until the server is
killed. What powercut.c wrote down tells what was durable then, and at any moment before: the state at the start,
and every write that was done before a flush began which succeeded. All else may be lost, kept, or kept in part.
Images of that are made, opened, and compared with what clients had been told by then.

usage: powercut.py LCPFS PRELOAD FOLDER ROUNDS IMAGES SEED
"""

import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time

import nbd

BLOCK = 4096
BLOCKS = 1024  # of each partition that are written
NAMES = ("db", "log")
CONNECTIONS = 3  # to each
ENTRY = struct.Struct("<IIQQQ")
MAGIC = 0x7463
WRITE, WRITTEN, DISCARD, DISCARDED, FLUSH, FLUSHED, FAILED = range(1, 8)
LIMIT_S = 120  # for anything that is waited for


def fail(text):
	sys.exit(f"FAILED: {text}")


# -- what a cut leaves --

NEVER = float("inf")


class Operation:
	"""A write, or a discard (data: None). Moments are places in the log."""

	def __init__(self, begun, offset, length, data):
		self.begun, self.offset, self.length, self.data = begun, offset, length, data
		self.done = self.durable = NEVER
		self.doomed = False


def read_entries(path):
	"""(place behind it, kind, number, offset, length, data) in order. The last one may have been cut short."""
	with open(path, "rb") as log:
		everything = log.read()
	at = 0
	while at + ENTRY.size <= len(everything):
		magic, kind, number, offset, length = ENTRY.unpack_from(everything, at)
		if magic != MAGIC:
			fail(f"{path}: no entry at {at}")
		at += ENTRY.size
		data = None
		if kind == WRITE:
			data = everything[at:at + length]
			at += length
			if len(data) < length:
				return
		yield at, kind, number, offset, length, data


def read_operations(path):
	"""In the order in which they began; how many flushes there were, and how many of them failed."""
	operations, covered = {}, {}
	flushes = failures = 0
	for at, kind, number, offset, length, data in read_entries(path):
		if kind in (WRITE, DISCARD):
			operations[number] = Operation(at, offset, length, data)
		elif kind in (WRITTEN, DISCARDED):
			operations[number].done = at
		elif kind == FLUSH:
			covered[number] = [o for o in operations.values() if o.done < at and o.durable == NEVER]
		elif kind == FLUSHED:
			flushes += 1
			for o in covered.pop(number):
				o.durable = min(o.durable, NEVER if o.doomed else at)
		elif kind == FAILED:  # the kernel calls those pages clean: no later flush covers them
			failures += 1
			for o in covered.pop(number):
				o.doomed = o.durable == NEVER
	return list(operations.values()), flushes, failures


def pieces(operation, unit):
	at, end = operation.offset, operation.offset + operation.length
	while at < end:
		behind = min(end, (at // unit + 1) * unit)
		yield at, behind
		at = behind


def copy(source, target):
	"""Anew: whoever was killed may hold the lock of the file that was there for a moment longer."""
	if os.path.exists(target):
		os.unlink(target)
	subprocess.run(["cp", "--sparse=always", source, target], check=True)


def make_image(base, operations, target, rng, cut, share):
	"""`share`: how much of what may be lost is kept; by blocks, or by sectors."""
	copy(base, target)
	unit = rng.choice((512, BLOCK, BLOCK))
	with open(target, "r+b") as image:
		for o in operations:
			durable = o.durable <= cut
			for start, end in [(o.offset, o.offset + o.length)] if durable else pieces(o, unit):
				if o.begun > cut or (not durable and rng.random() >= share):
					continue
				image.seek(start)
				data = bytes(o.length) if o.data is None else o.data
				image.write(data[start - o.offset:end - o.offset])


class Answer:
	"""A flush, or a change with FUA: when it was asked for and answered, and all that was flushed by then."""

	def __init__(self, asked, answered, flushed):
		self.asked, self.answered, self.flushed = asked, answered, flushed

	def suspicion(self, operations):
		"""Writes of the device that were done before it was asked for, and are not durable."""
		return sum(o.done < self.asked and o.durable > self.answered for o in operations)


# -- the server --

class Server:
	def __init__(self, lcpfs, pool, folder, environment):
		self.socket = os.path.join(folder, "nbd.sock")
		self.log = open(os.path.join(folder, "server.log"), "ab")
		command = [lcpfs, "serve", pool, "--socket", self.socket, "--tune", "off"]
		self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log,
			env={**os.environ, **environment})
		line = self.process.stdout.readline()
		if not line.startswith(b"lcpfs: serving"):
			fail(f"the server did not start: {open(self.log.name, encoding='utf-8').read()[-600:]}")

	def connect(self, name):
		h = nbd.NBD()
		h.connect_uri(f"nbd+unix:///{name}?socket={self.socket}")
		return h

	def end(self, number):
		self.process.send_signal(number)
		code = self.process.wait(LIMIT_S)
		self.process.stdout.close()
		self.log.close()
		return code


# -- clients --

class Volume:
	"""What each block was given, oldest first; of these the last that was answered, and that was flushed."""

	def __init__(self, values=()):
		self.values = [[value] for value in values] or [[0] for _ in range(BLOCKS)]
		self.answered = [0] * BLOCKS
		self.flushed = [0] * BLOCKS

	def begin(self, block, value):
		self.values[block].append(value)
		return len(self.values[block]) - 1

	def read_after_cut(self, name, data, flushed):
		"""What each block holds: what was flushed, or later."""
		for block in range(BLOCKS):
			words = data[block * BLOCK:(block + 1) * BLOCK]
			found = int.from_bytes(words[:8], "little")
			if words != found.to_bytes(8, "little") * (BLOCK // 8):
				fail(f"{name}: block {block} is torn")
			allowed = self.values[block][flushed[block]:]
			if found not in allowed:
				fail(f"{name}: block {block} reads {found}; flushed and later: {allowed[:20]}")
			yield found


class Load:
	def __init__(self, server, volumes, log, seed):
		self.volumes, self.log = volumes, log
		self.lock = threading.Lock()
		self.number = max(v for volume in volumes.values() for values in volume.values for v in values)
		self.done = self.errors = 0
		self.answers = []
		rng = random.Random(f"{seed}")
		self.flush_share, self.fua_share = rng.choice((0.02, 0.05, 0.2)), rng.choice((0, 0.05, 0.3))
		self.threads = []
		for name in NAMES:
			for part in range(CONNECTIONS):
				h = server.connect(name)
				arguments = (h, volumes[name], part, random.Random(f"{seed} {name} {part}"))
				self.threads.append(threading.Thread(target=self.run, args=arguments, daemon=True))
		for thread in self.threads:
			thread.start()

	def now(self):
		return os.stat(self.log).st_size

	def run(self, h, volume, part, rng):
		failed = 0
		while failed < 8:
			try:
				self.request(h, volume, part, rng)
				self.done += 1
			except nbd.Error:
				self.errors += 1
				failed += 1
				if h.aio_is_dead() or h.aio_is_closed():
					return

	def request(self, h, volume, part, rng):
		what = rng.random()
		asked = self.now()
		if what < self.flush_share:
			covered = enumerate(list(volume.answered))  # on any connection to that partition
			h.flush()
			self.flushed(asked, volume, covered)
			return
		count = rng.choice((1, 1, 1, 2, 4, 16))
		share = BLOCKS // CONNECTIONS
		first = part * share + rng.randrange(share - count)
		fua = nbd.CMD_FLAG_FUA if rng.random() < self.fua_share else 0
		trims = what > 0.85
		with self.lock:  # numbers are given once
			numbers = [0 if trims else self.number + 1 + i for i in range(count)]
			self.number += count
		indices = {first + i: volume.begin(first + i, numbers[i]) for i in range(count)}
		if trims:
			(h.trim if rng.random() < 0.5 else h.zero)(count * BLOCK, first * BLOCK, fua)
		else:
			data = b"".join(n.to_bytes(8, "little") * (BLOCK // 8) for n in numbers)
			h.pwrite(data, first * BLOCK, fua)
		for block, index in indices.items():
			volume.answered[block] = index
		if fua:
			self.flushed(asked, volume, indices.items())

	def flushed(self, asked, volume, covered):
		with self.lock:
			for block, index in covered:
				volume.flushed[block] = max(volume.flushed[block], index)
			flushed = {name: list(v.flushed) for name, v in self.volumes.items()}
			self.answers.append(Answer(asked, self.now(), flushed))

	def wait(self, wanted):
		end = time.monotonic() + LIMIT_S
		while self.done < wanted and any(t.is_alive() for t in self.threads):
			if time.monotonic() > end:
				fail(f"only {self.done} of {wanted} requests in {LIMIT_S} s")
			time.sleep(0.001)


# -- a round --

def look_at(lcpfs, preload, image, folder, volumes, flushed):
	done = subprocess.run([lcpfs, "check", image, "--data"], capture_output=True, text=True, check=False)
	if done.returncode:
		fail(f"check: {done.stdout}{done.stderr}")
	quick = {"LD_PRELOAD": preload, "POWERCUT_FILE": image, "POWERCUT_LOG": "/dev/null"}  # without a disk
	server = Server(lcpfs, image, folder, quick)
	found = {}
	for name in NAMES:
		h = server.connect(name)
		found[name] = list(volumes[name].read_after_cut(name, h.pread(BLOCKS * BLOCK, 0), flushed[name]))
		h.shutdown()
	server.end(signal.SIGKILL)  # nothing that it wrote is lost
	return found


def draw_trouble(rng, number):
	"""Every other time a flush fails before the cut; now and then a write does."""
	return {
		"POWERCUT_DELAY_US": str(rng.choice((0, 1000, 10000))),
		"POWERCUT_NO_URING": str(rng.randrange(2)),
		"POWERCUT_FAIL_FLUSH": str(rng.randrange(2, 25) if number % 2 else 0),
		"POWERCUT_FAIL_WRITE": str(rng.randrange(5, 60) if number % 4 == 2 else 0),
	}


def draw_cuts(rng, answers, operations, images):
	"""(moment, what was flushed, how much else is kept): right after answers, the doubtful ones among them."""
	doubtful = sorted(answers, key=lambda a: (a.suspicion(operations), rng.random()), reverse=True)
	chosen = doubtful[:images // 2] + rng.sample(answers, min(len(answers), images - images // 2 - 1))
	return [(a.answered, a.flushed, rng.choice((0, 0, 0.05, 0.5, 0.95))) for a in chosen]


def one_round(lcpfs, preload, folder, images, rng, pool, volumes, number):
	"""Life goes on with what the server's end left. Returns counts."""
	base, log = os.path.join(folder, "base"), os.path.join(folder, "powercut.log")
	armed, image = os.path.join(folder, "armed"), os.path.join(folder, "image")
	copy(pool, base)
	environment = {"LD_PRELOAD": preload, "POWERCUT_FILE": pool, "POWERCUT_LOG": log, "POWERCUT_ARMED": armed,
		**draw_trouble(rng, number)}
	server = Server(lcpfs, pool, folder, environment)
	with open(armed, "wb"):
		pass
	load = Load(server, volumes, log, rng.random())
	load.wait(rng.randrange(50, 1000))
	server.end(signal.SIGKILL)
	for thread in load.threads:
		thread.join(LIMIT_S)
	operations, flushes, failures = read_operations(log)
	end = (NEVER, {name: v.flushed for name, v in volumes.items()}, rng.choice((0, 0.5, 1)))
	cuts = [*draw_cuts(rng, load.answers, operations, images), end]
	lost = 0
	for cut, flushed, share in cuts:
		make_image(base, operations, image, rng, cut, share)
		lost += sum(o.begun <= cut and (o.durable > cut or o.durable == NEVER) for o in operations)
		try:
			found = look_at(lcpfs, preload, image, folder, volumes, flushed)
		except SystemExit as wrong:
			sys.exit(f"{wrong}\nafter {cut} of {load.now()} bytes of the log, {share} kept of what may be "
				f"lost; {environment}")
	for name in NAMES:
		volumes[name] = Volume(found[name])
	os.unlink(log)
	os.unlink(armed)
	copy(image, pool)
	return {"requests": load.done, "errors": load.errors, "flushes": flushes, "failed flushes": failures,
		"writes and discards": len(operations), "cuts": len(cuts), "not durable at these": lost}


def main():
	lcpfs, preload, folder, rounds, images, seed = sys.argv[1:]
	rng = random.Random(int(seed))
	pool = os.path.join(folder, "pool")
	volumes = {name: Volume() for name in NAMES}
	total = {}
	for number in range(int(rounds)):
		counts = one_round(lcpfs, preload, folder, int(images), rng, pool, volumes, number)
		for key, count in counts.items():
			total[key] = total.get(key, 0) + count
	print(f"{rounds} kills; " + ", ".join(f"{key} {count}" for key, count in total.items()))
	if not total["flushes"]:
		fail("there was hardly any load")


if __name__ == "__main__":
	main()
