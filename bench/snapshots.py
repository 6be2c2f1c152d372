#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what snapshots cost on the device: lcpfs beside qcow2's internal snapshots and LVM's thin volumes.

The same work for each, on a block device of its own whose statistics count what is read and written beneath
all caches. No times: so a busy machine or an emulated one does no harm. A volume is filled, a snapshot is taken,
blocks of 4 KiB at random places are overwritten once and once more, the snapshot goes; then many snapshots, a few
more of these blocks after each, a read of the whole volume, and the end of all of them.

lcpfs and qcow2 use loop devices, as root. Thin volumes need a kernel that has them: GUEST names a program that
runs a command in a guest, as tests/guest/run.sh has it; without it they are left out.

usage: bench/snapshots.py [BUILD] [--json] [--snapshots N] [--only NAME]
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
BLOCK = 4096
VOLUME_MIB = 256
DEVICE_MIB = 1024
OVERWRITTEN = 1000  # blocks
STILL_S = 2  # a device that does hardly anything for so long has done all
STILL_BLOCKS = 32
STILL_WAIT_S = 60


class Failed(Exception):
	pass


def run(*arguments, text=None):
	command = [str(a) for a in arguments]
	done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
	if done.returncode:
		raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
	return done.stdout


# ---- counting ----

def counts(device):
	"""(blocks read, blocks written) of a block device since it is there."""
	fields = pathlib.Path(f"/sys/block/{device.name}/stat").read_text().split()
	return int(fields[2]) * 512 / BLOCK, int(fields[6]) * 512 / BLOCK


def settle(device):
	"""The counts once hardly anything happens any more: a pool that is served goes on saying so."""
	os.sync()
	end = time.monotonic() + STILL_WAIT_S
	while True:
		before = counts(device)
		time.sleep(STILL_S)
		now = counts(device)
		if sum(now) - sum(before) <= STILL_BLOCKS or time.monotonic() > end:
			return now


def forget(device):
	os.sync()
	run("blockdev", "--flushbufs", device)
	pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


# ---- peers: each has fill, write, read, snapshot, destroy ----

class Lcpfs:
	name = "lcpfs"

	def __init__(self, device, build):
		import nbd  # where it is needed: the guest may not have it
		self.device, self.lcpfs = device, build / "lcpfs"
		self.folder = tempfile.mkdtemp(prefix="lcpfs-bench.")
		run(self.lcpfs, "create", device)
		run(self.lcpfs, "add", device, "v", "--min", "64M", "--max", "600M", "--size", "600M",
			"--volume", f"{VOLUME_MIB}M")
		socket = f"{self.folder}/s"
		self.server = subprocess.Popen([self.lcpfs, "serve", device, "--socket", socket],
			stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
		self.server.stdout.readline()
		self.volume = nbd.NBD()
		self.volume.connect_uri(f"nbd+unix:///v?socket={socket}")

	def fill(self):
		for i in range(VOLUME_MIB):
			self.volume.pwrite(random.randbytes(MIB), i * MIB)
		self.volume.flush()

	def write(self, blocks):
		for b in blocks:
			self.volume.pwrite(random.randbytes(BLOCK), b * BLOCK)
		self.volume.flush()

	def read(self):
		for i in range(VOLUME_MIB):
			self.volume.pread(MIB, i * MIB)

	def snapshot(self, name):
		run(self.lcpfs, "snapshot", self.device, f"v@{name}")

	def destroy(self, names):
		run(self.lcpfs, "destroy", self.device, "v@" + ",".join(names))

	def end(self):
		self.volume.shutdown()
		self.server.terminate()
		self.server.wait()
		shutil.rmtree(self.folder)


class Files:
	"""What is read and written by a program that takes a device."""

	def fill(self):
		with open(self.path, "r+b", buffering=0) as f:
			for _ in range(VOLUME_MIB):
				f.write(random.randbytes(MIB))
			os.fsync(f)

	def write(self, blocks):
		with open(self.path, "r+b", buffering=0) as f:
			for b in blocks:
				f.seek(b * BLOCK)
				f.write(random.randbytes(BLOCK))
			os.fsync(f)

	def read(self):
		with open(self.path, "rb", buffering=0) as f:
			while f.read(MIB):
				pass


class Qcow2:
	name = "qcow2"

	def __init__(self, device, _build):
		self.device = device
		run("qemu-img", "create", "-q", "-f", "qcow2", device, f"{VOLUME_MIB}M")

	def io(self, commands):
		text = "\n".join([*commands, "flush", "quit", ""])
		run("qemu-io", "-f", "qcow2", "-t", "none", self.device, text=text)

	def fill(self):
		self.io([f"write -q -P {i % 255 + 1} {i}M 1M" for i in range(VOLUME_MIB)])

	def write(self, blocks):
		self.io([f"write -q -P {b % 255 + 1} {b * BLOCK} {BLOCK}" for b in blocks])

	def read(self):
		self.io([f"read -q {i}M 1M" for i in range(VOLUME_MIB)])

	def snapshot(self, name):
		run("qemu-img", "snapshot", "-c", name, self.device)

	def destroy(self, names):
		for name in names:
			run("qemu-img", "snapshot", "-d", name, self.device)

	def end(self):
		pass


class Thin(Files):
	name = "LVM thin"

	def __init__(self, device, _build):
		self.device, self.path = device, "/dev/mapper/g-v"
		self.config = ["--config", "activation { udev_sync=0 udev_rules=0 } "
			"devices { use_devicesfile=0 }"]
		run("modprobe", "dm_thin_pool")
		run("vgcreate", *self.config, "-q", "g", device)
		run("lvcreate", *self.config, "-q", "-W", "n", "-L", f"{DEVICE_MIB - 100}M",
			"--poolmetadatasize", "16M", "-T", "g/pool")
		run("lvcreate", *self.config, "-q", "-W", "n", "-V", f"{VOLUME_MIB}M", "-T", "g/pool", "-n", "v")

	def snapshot(self, name):
		run("lvcreate", *self.config, "-q", "-s", "-n", name, "g/v")

	def destroy(self, names):
		run("lvremove", *self.config, "-q", "-y", *[f"g/{name}" for name in names])

	def end(self):
		pass


# ---- the work ----

def measure(peer, snapshots):
	"""Step -> [blocks read, blocks written]."""
	device, found = peer.device, {}
	last = settle(device)

	def note(step):
		nonlocal last
		now = settle(device)
		found[step] = [round(b - a) for a, b in zip(last, now)]
		last = now

	random.seed(1)
	blocks = random.sample(range(VOLUME_MIB * MIB // BLOCK), OVERWRITTEN)
	peer.fill()
	note("fill")
	peer.snapshot("first")
	note("take a snapshot")
	peer.write(blocks)
	note("first overwrite")
	peer.write(blocks)
	note("overwritten again")
	peer.destroy(["first"])
	note("destroy it")
	share = OVERWRITTEN // snapshots
	for i in range(snapshots):
		peer.snapshot(f"s{i}")
		peer.write(blocks[i * share:(i + 1) * share])
	note("many, with writes")
	forget(device)
	last = settle(device)
	peer.read()
	note("read all")
	peer.destroy([f"s{i}" for i in range(snapshots)])
	note("destroy many")
	peer.end()
	return found


def on_loop(kind, build, snapshots):
	with tempfile.NamedTemporaryFile(prefix="lcpfs-bench.", dir="/var/tmp") as file:
		os.truncate(file.fileno(), DEVICE_MIB * MIB)
		device = pathlib.Path(run("losetup", "--find", "--show", file.name).strip())
		try:
			return measure(kind(device, build), snapshots)
		finally:
			run("losetup", "-d", device)


def in_guest(guest, snapshots):
	with tempfile.NamedTemporaryFile(prefix="lcpfs-bench.", dir="/var/tmp") as file:
		os.truncate(file.fileno(), DEVICE_MIB * MIB)
		os.chdir(ROOT)
		said = run(guest, "--mem", "1024", "--disk", file.name, "--", "/usr/bin/python3",
			"bench/snapshots.py", "--here", "/dev/vda", "--snapshots", snapshots)
	return json.loads(said.strip().split("\n")[-1])


def table(results):
	steps = list(next(iter(results.values())))
	print(f"{'blocks of 4 KiB read / written':24}" + "".join(f"{name:>22}" for name in results))
	for step in steps:
		print(f"{step:24}" + "".join("{:>12,} /{:>8,}".format(*found[step]) for found in results.values()))


def main():
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
	parser.add_argument("build", nargs="?", default=str(ROOT / "build"))
	parser.add_argument("--json", action="store_true")
	parser.add_argument("--snapshots", type=int, default=100)
	parser.add_argument("--only", choices=["lcpfs", "qcow2", "LVM thin"])
	parser.add_argument("--here", help="measure thin volumes on this device, which loses what is on it")
	o = parser.parse_args()
	if o.here:
		print(json.dumps(measure(Thin(pathlib.Path(o.here), None), o.snapshots)))
		return
	results = {}
	for kind in Lcpfs, Qcow2:
		if o.only in (None, kind.name):
			results[kind.name] = on_loop(kind, pathlib.Path(o.build).resolve(), o.snapshots)
	if o.only in (None, Thin.name):
		guest = os.environ.get("GUEST")
		if guest:
			results[Thin.name] = in_guest(pathlib.Path(guest).resolve(), o.snapshots)
		else:
			print("LVM's thin volumes are left out: GUEST names no program", file=sys.stderr)
	print(json.dumps(results)) if o.json else table(results)


if __name__ == "__main__":
	try:
		main()
	except Failed as failed:
		sys.exit(f"snapshots.py: {failed}")
