#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds on to the memory that the host of this virtual machine has given it, for as long as something is measured.

Linux gives free memory back to the host in pieces of 2 MiB (free page reporting). The first touch of each page
after that waits for the host, some 10 us. So whatever takes new pages, even those of a socket, is several times
slower now and then, whoever serves. Here all free memory is touched once, and one page of each 2 MiB kept. No such
piece is free after that, so what else is free stays. A page is kept in a pipe: elsewhere the kernel would move it
away, to have 2 MiB in one piece again.

usage: bench/memory.py      holds it until standard input ends; takes root
"""

import array
import contextlib
import ctypes
import fcntl
import mmap
import os
import statistics
import sys
import time

MIB = 1 << 20
PAGE = mmap.PAGESIZE
PIECE = 2 * MIB
PIPE_BYTES = MIB  # as much as anybody may have
LEFT = 0.03  # of what is free: less would make the kernel look for more
POPULATE_WRITE = 23  # of madvise; mmap has no name for it
GIFT = 2  # of vmsplice
FRAME_MASK = (1 << 55) - 1  # of an entry in pagemap
SLOW = 4  # times what is usual
LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"  # of a container


class Vector(ctypes.Structure):
	_fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def is_virtual():
	with open("/proc/cpuinfo", encoding="utf-8") as info:
		return " hypervisor" in info.read()


def free_bytes():
	"""Of the machine: it has to be all of it, or the rest goes back. So it is not for who may not have all."""
	with open("/proc/meminfo", encoding="utf-8") as info:
		free = 1024 * next(int(line.split()[1]) for line in info if line.startswith("MemFree"))
	for path in LIMITS:
		with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as limit:
			if int(limit.read()) < free:
				raise PermissionError("memory is limited here")
	return free


def touch(memory):
	"""How long each MiB took."""
	took = []
	for at in range(0, len(memory), MIB):
		began = time.monotonic()
		memory.madvise(POPULATE_WRITE, at, MIB)
		took.append(time.monotonic() - began)
	return took


def one_of_each_piece(address, length):
	"""Addresses of pages, each in another piece of the machine's memory."""
	pages = {}
	with open("/proc/self/pagemap", "rb", 0) as pagemap:
		for at in range(address, address + length, 64 * MIB):
			pagemap.seek(at // PAGE * 8)
			entries = array.array("Q", pagemap.read(min(64 * MIB, address + length - at) // PAGE * 8))
			for number, entry in enumerate(entries):
				pages.setdefault((entry & FRAME_MASK) * PAGE // PIECE, at + number * PAGE)
	if len(pages) < 2:
		raise PermissionError("only root sees where memory lies")
	return list(pages.values())


def keep(stack, pages):
	libc = ctypes.CDLL(None, use_errno=True)
	left = 0
	for page in pages:
		if not left:
			ends = os.pipe()
			for end in ends:
				stack.callback(os.close, end)
			left = fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES) // PAGE
		if libc.vmsplice(ends[1], ctypes.byref(Vector(page, PAGE)), 1, GIFT) != PAGE:
			raise OSError(ctypes.get_errno(), "vmsplice")
		left -= 1


@contextlib.contextmanager
def held():
	"""Yields how many MiB were touched, and how many of them the host had taken, as far as time tells."""
	with contextlib.ExitStack() as stack:
		size = int(free_bytes() * (1 - LEFT)) // MIB * MIB
		with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
			memory.madvise(mmap.MADV_NOHUGEPAGE)
			took = touch(memory)
			# what says where it lies must be gone before it is unmapped
			address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
			keep(stack, one_of_each_piece(address, size))
		usual = statistics.quantiles(took, n=20)[0]
		yield len(took), sum(t > SLOW * usual for t in took)


if __name__ == "__main__":
	with held() as (touched, slow):
		print(f"{touched} MiB touched, {slow} of them slow; held until standard input ends", flush=True)
		sys.stdin.read()
