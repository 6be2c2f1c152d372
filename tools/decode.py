#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a pool by docs/format.md alone, and says what it holds and what is wrong with it.

It shares nothing with the C code, so that the two can judge each other. It never writes to the pool. It follows
label, uberblock and pool pages, and of each partition root, block table, space list, log, volumes and snapshots.
It verifies every checksum, owner, reference and count, reads all data, and prints where each address of each
volume lies.

Exit codes: 0 nothing is wrong, 1 something is, 2 it is no pool that this can read, or is in use.
"""

import argparse
import fcntl
import json
import os
import struct
import sys

try:
	import xxhash
except ImportError:
	sys.exit("decode.py: needs python3-xxhash")

BLOCK = 4096
SECTORS = 8  # of a block
VERSION = 2
LABEL, LEASE, UBERBLOCK, MAP, PARTITION, ENGINE, HISTORY, ROOT, RECORD, PAGE, SNAPSHOTS = range(1, 12)
NONE = 0xFFFFFFFF  # no metaslab
TABLE, SPACE = 1, 2  # trees of pages
DATA, VOLUME_PAGE = 1, 2  # kinds of blocks
CLASS_TABLE = 3
SLOTS = 126  # of a page of the block table
VOLUME_SLOTS = 512
REGIONS = 32
HEADS = 3
LIST, VOLUME = 0, 1  # volumes that a root has
SNAPSHOT_FIRST, SNAPSHOT_LAST = 2, (1 << 24) - 1  # numbers of those that the list has
SNAPSHOT_SLOTS = 31
ALIVE, DYING, LEFT, CLONED, BOOKMARK = range(1, 6)
STATES = {ALIVE: "alive", DYING: "dying", LEFT: "left", CLONED: "clone", BOOKMARK: "bookmark"}
CLONES = 32  # that a root has room for
# incompatible features of a partition
HAS_SNAPSHOTS, RECEIVES, HAS_CLONES, HAS_BOOKMARKS, PROMOTES, HAS_LINES, HAS_TURNS = 1, 2, 4, 8, 16, 32, 64
WRITE, OVERWRITE, MOVE, LOST, TRIM, FREE, VOLPAGE, VANISH, HEAD, LEAVE, BECOME, DROP, CLONE = range(1, 14)
FREES = {FREE, VANISH, DROP}
HAS_CHECKS = {WRITE, OVERWRITE, VOLPAGE}
HAS_BLOCKS = {WRITE, OVERWRITE, MOVE, LOST, VOLPAGE}
# Words behind the first, before the checks.
HAS_WHERE = {WRITE: 1, TRIM: 2, VOLPAGE: 2, VANISH: 2, HEAD: 1, LEAVE: 2, BECOME: 2, CLONE: 3}
OF_TREES = {WRITE, TRIM, VOLPAGE, VANISH, LEAVE}
MIB_BLOCKS = 256
ZERO = bytes(BLOCK)


class Refused(Exception):
	"""It cannot be judged."""


class Lost(Exception):
	"""What is needed to go on is damaged."""


def check_of(data):
	"""The checksum of 128 bits as it is stored: the low half first."""
	return xxhash.xxh3_128_digest(data)[::-1]


def up(number, unit):
	return -(-number // unit)


class Head:
	"""What a structure says of itself."""

	def __init__(self, data):
		(self.magic, self.version, self.kind, self.guid, self.partition, self.count,
			self.checksum) = struct.unpack_from("<4sHHQIIQ", data)
		self.ours = self.magic == b"lpfs"
		hashed = data[:24] + bytes(8) + data[32:]
		self.sealed = self.ours and self.checksum == xxhash.xxh3_64_intdigest(hashed)

	def good(self, kind, guid, partition=None):
		return (self.sealed and self.version == VERSION and self.kind == kind and self.guid == guid and
			partition in (None, self.partition))


class Image:
	def __init__(self, path):
		try:
			self.file = os.open(path, os.O_RDONLY)
			fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
			self.blocks = os.lseek(self.file, 0, os.SEEK_END) // BLOCK
		except BlockingIOError:
			raise Refused("the pool is in use") from None
		except OSError as error:
			raise Refused(error.strerror) from None

	def block(self, number):
		"""Zeros where nothing can be read: no structure is all zero."""
		try:
			return os.pread(self.file, BLOCK, number * BLOCK).ljust(BLOCK, b"\0")
		except (OSError, OverflowError):
			return ZERO


class Report:
	def __init__(self):
		self.found = []

	def __call__(self, text, block=None, partition=None):
		self.found.append({"partition": partition, "block": block, "text": text})


# -- the pool --


class Label:
	def __init__(self, data):
		head = Head(data)
		self.guid = head.guid
		self.features = struct.unpack_from("<QQQ", data, 32)
		(self.device, self.area, self.base, self.metaslab_blocks, self.metaslabs, self.slots,
			self.map_pages, self.engine_pages, self.history_pages, self.created, self.device_guid,
			*self.devices) = struct.unpack_from("<QQQ6IQQ3I", data, 56)
		self.device_list = data[512:512 + 32 * 64]
		self.pages = self.map_pages + self.slots + self.engine_pages + self.history_pages
		self.data = data

	def sane(self):
		blocks = self.metaslab_blocks
		return (self.guid and 256 <= blocks <= 16384 and blocks & (blocks - 1) == 0 and
			1 <= self.metaslabs <= 1 << 20 and 1 <= self.slots <= 4096 and self.engine_pages <= 256 and
			self.map_pages * 1008 >= self.metaslabs and 1 <= self.history_pages <= 4096 and
			self.pages <= 16384 and self.area % MIB_BLOCKS == 0 and self.base >= self.area and
			self.base % blocks == 0 and self.device % MIB_BLOCKS == 0 and
			self.area >= 10 + 2 * self.pages + 2 * self.slots and
			self.base + self.metaslabs * blocks + self.area <= self.device and
			self.device_guid and self.devices == [0, 1, 0] and not any(self.device_list))

	def wanted(self):
		"""Both copies hold this: as it was read, with the partition table that belongs to it, sealed."""
		sectors = min(SECTORS * self.device - 1, (1 << 32) - 1)
		entry = bytes.fromhex("00000200eeffffff") + struct.pack("<II", 1, sectors)
		data = self.data[:24] + bytes(8) + self.data[32:446] + entry + bytes(48) + b"\x55\xaa" + self.data[512:]
		return data[:24] + struct.pack("<Q", xxhash.xxh3_64_intdigest(data)) + data[32:]

	def area_block(self, copy, block):
		return block + (self.device - self.area if copy else 0)

	def page_block(self, copy, page, slot):
		return self.area_block(copy, 10 + 2 * page + slot)

	def root_block(self, copy, slot, which):
		return self.area_block(copy, 10 + 2 * self.pages + 2 * slot + which)

	def page_kind(self, page):
		for kind, pages in ((MAP, self.map_pages), (PARTITION, self.slots), (ENGINE, self.engine_pages)):
			if page < pages:
				return kind
			page -= pages
		return HISTORY


class Uberblock:
	def __init__(self, data):
		(self.txg, self.time, self.partition_next, self.page_count, self.history_next, self.mode,
			self.open) = struct.unpack_from("<QQIIQII", data, 32)
		self.slot_map = data[2048:]
		self.same = data[:24] + data[32:68] + data[72:]  # all but `open` and the checksum

	def sane(self, pages, place):
		return self.txg and self.txg % 8 == place and self.page_count == pages and self.partition_next

	def slot(self, page):
		return self.slot_map[page // 8] >> page % 8 & 1


class Pool:
	def __init__(self, path):
		self.image = Image(path)
		self.report = Report()
		self.partitions = []
		self.owners = []
		self.samples = []
		try:
			self.label = self.find_label()
			self.guid = self.label.guid
			self.read_uberblock()
			self.read_pages()
			self.verify_owners()
			self.verify_rest()
		except Lost as lost:
			self.report(str(lost))
			self.partitions = []
		for partition in self.partitions:
			partition.decode()

	def judge_label(self, block):
		data = self.image.block(block)
		head = Head(data)
		if head.sealed and head.version != VERSION:
			raise Refused(f"the pool has format version {head.version}; this reads {VERSION}")
		if not head.good(LABEL, head.guid, 0):
			return None
		label = Label(data)
		if label.features[0]:
			raise Refused("the pool uses a feature that this does not know")
		return label if label.sane() else None

	def find_label(self):
		end = self.image.blocks // MIB_BLOCKS * MIB_BLOCKS
		label = self.judge_label(0)
		if label and label.device > end:
			raise Lost("the pool is truncated")
		step = MIB_BLOCKS
		while not label and step <= min(end, 128 * 1024):
			label = self.judge_label(end - step)
			if label and (label.area != step or label.device != end):
				label = None
			step += MIB_BLOCKS
		if not label:
			if Head(self.image.block(0)).ours:
				raise Lost("both labels are damaged")
			raise Refused("this is no pool")
		return label

	def read_uberblock(self):
		label = self.label
		ring = {}
		for copy in range(2):
			for place in range(8):
				block = label.area_block(copy, 2 + place)
				data = self.image.block(block)
				uberblock = Uberblock(data) if Head(data).good(UBERBLOCK, self.guid, 0) else None
				if uberblock and not uberblock.sane(label.pages, place):
					uberblock = None
				ring[copy, place] = (uberblock, data == ZERO, block)
		good = [u for u, _, _ in ring.values() if u]
		if not good:
			raise Lost("all uberblocks are damaged")
		self.uberblock = u = max(good, key=lambda u: u.txg)
		self.closed = any(v.same == u.same and not v.open for v in good)
		for place in range(8):
			self.verify_ring(place, [ring[copy, place] for copy in range(2)])
		for copy in range(2):
			block = label.area_block(copy, 0)
			data = self.image.block(block)
			wanted = label.wanted()
			parts = [(data[i:i + 512], wanted[i:i + 512]) for i in range(0, BLOCK, 512)]
			cut_off = not self.closed and (copy == 1 or u.txg == 1)
			if data != wanted and not (cut_off and all(a in (b, bytes(512)) for a, b in parts)):
				self.report(f"copy {copy} of the label is damaged or differs", block)

	def verify_ring(self, place, copies):
		current = self.uberblock
		if not self.closed and place in (current.txg % 8, (current.txg + 1) % 8):
			return  # torn, maybe
		wanted = current if place == current.txg % 8 else next((u for u, _, _ in copies if u), None)
		for copy, (uberblock, blank, block) in enumerate(copies):
			if (uberblock.same != wanted.same if uberblock else wanted or not blank):
				self.report(f"copy {copy} of uberblock {place} is damaged or older", block)

	def read_pages(self):
		label = self.label
		self.pages = []
		for page in range(label.pages):
			slot = self.uberblock.slot(page)
			blocks = [label.page_block(copy, page, slot) for copy in range(2)]
			copies = [self.image.block(block) for block in blocks]
			good = [data for data in copies if self.page_good(page, data)]
			best = max(good, key=lambda data: struct.unpack_from("<Q", data, 32)[0], default=None)
			for copy in range(2):
				if copies[copy] != best:
					text = f"copy {copy} of pool page {page} is damaged or older"
					self.report(text, blocks[copy])
			if not best and label.page_kind(page) == MAP:
				raise Lost(f"page {page} of the map is damaged in both copies")
			self.pages.append(best)

	def page_good(self, page, data):
		txg, number = struct.unpack_from("<QI", data, 32)
		return (Head(data).good(self.label.page_kind(page), self.guid) and number == page and
			txg <= self.uberblock.txg)

	def verify_owners(self):
		label = self.label
		for page in self.pages[:label.map_pages]:
			self.owners += struct.unpack_from("<1008I", page, 64)
		if any(self.owners[label.metaslabs:]):
			self.report("a metaslab that does not exist has an owner")
		del self.owners[label.metaslabs:]
		for slot in range(label.slots):
			data = self.pages[label.map_pages + slot]
			if data and Head(data).partition:
				self.partitions.append(Partition(self, slot, data))
		ids = [p.id for p in self.partitions]
		for metaslab, owner in enumerate(self.owners):
			if owner and owner not in ids:
				self.report(f"metaslab {metaslab} belongs to partition {owner}: there is none")
		if len(set(ids)) < len(ids):
			raise Lost("a partition's id is there twice")
		if len({p.name for p in self.partitions}) < len(ids):
			self.report("a partition's name is there twice")
		if sum(p.min for p in self.partitions) > label.metaslabs * label.metaslab_blocks:
			self.report("the partitions' min add up to more than the pool")
		for p in self.partitions:
			p.verify_page()

	def verify_samples(self, page, data):
		"""In a page of the engine that holds nothing of the engine's."""
		count, = struct.unpack_from("<I", data, 64)
		samples = [struct.unpack_from("<QIII4f", data, 100 + 36 * i) for i in range(min(count, 111))]
		ids = range(1, self.uberblock.partition_next)
		if count > 111 or any(
			span == 0 or partition not in ids or size > self.label.metaslabs
			for _, span, partition, size, *_ in samples
		):
			self.report(f"samples in pool page {page} make no sense")
		self.samples += samples

	def verify_rest(self):
		"""Samples, the history's numbers, and the lease."""
		label = self.label
		for page, data in enumerate(self.pages):
			if data and label.page_kind(page) == ENGINE and not Head(data).count:
				self.verify_samples(page, data)
		end, room = self.uberblock.history_next, 8 * label.history_pages
		for number in range(max(end - room, 0), end):
			at = number % room
			data = self.pages[label.pages - label.history_pages + at // 8]
			if data and struct.unpack_from("<Q", data, 64 + 504 * (at % 8) + 8)[0] != number + 1:
				self.report(f"event {number + 1} of the history is not in its place")
		copies = [self.image.block(label.area_block(copy, 1)) for copy in range(2)]
		good = [Head(data).good(LEASE, self.guid, 0) for data in copies]
		claimed = any(good[i] and struct.unpack_from("<Q", copies[i], 2104)[0] for i in range(2))
		for i in range(2):
			if not good[i] and (copies[i] != ZERO or any(good)) and self.closed and not claimed:
				self.report(f"copy {i} of the lease is damaged", label.area_block(i, 1))


# -- a partition's structures --


class Pointer:
	def __init__(self, data, offset):
		self.place = struct.unpack_from("<QQ", data, offset)
		self.check = data[offset + 16:offset + 32]


class Root:
	def __init__(self, data):
		(self.generation, self.epoch, self.epoch_seq, self.seq, self.durable, self.id_end,
			self.data_blocks, self.page_blocks, self.table_pages, self.written, self.birth, self.shift,
			self.table_metaslab, self.table_offset) = struct.unpack_from("<10Q4I", data, 32)
		self.table, self.space = Pointer(data, 128), Pointer(data, 168)
		self.table_levels, = struct.unpack_from("<I", data, 160)
		self.space_levels, = struct.unpack_from("<I", data, 200)
		self.volume = [struct.unpack_from("<QIIQQ", data, 208 + 32 * i) for i in range(2)]
		self.region = [struct.unpack_from("<QQ6I", data, 464 + 40 * i) for i in range(REGIONS)]
		clones = [struct.unpack_from("<I4xQIIQQ", data, 1744 + 40 * i) for i in range(CLONES)]
		self.clones = [clone for clone in clones if clone[0]]

	@staticmethod
	def clone_good(number, top, levels, birth, blocks, origin):
		return (SNAPSHOT_FIRST <= number <= SNAPSHOT_LAST and birth == number - SNAPSHOT_FIRST and
			top % 2 == 0 and top < 1 << 48 and 1 <= levels <= 5 and 1 <= blocks <= 1 << 40 and
			SNAPSHOT_FIRST <= origin < number)

	def complaint(self, metaslab_blocks):
		top, levels, birth, blocks, origin = self.volume[VOLUME]
		list_top, list_levels, *list_rest = self.volume[LIST]
		pages = up(up(self.id_end, SLOTS), SLOTS)
		offsets = [r[3 + 2 * h] for r in self.region for h in range(HEADS) if r[2 + 2 * h] != NONE]
		rules = {
			"generation": 0 < self.generation < 1 << 63,
			"epoch": max(self.epoch, self.written) < (1 << 63) - 1,
			"seq": self.seq <= self.durable < 1 << 63 and all(r[0] <= self.seq for r in self.region),
			"id_end": 2 <= self.id_end <= 1 << 48,
			"region_shift": self.shift <= 40 and (pages - 1) >> self.shift < REGIONS,
			"counts": self.data_blocks + self.page_blocks <= self.id_end,
			"levels": self.table_levels <= 7 and self.space_levels <= 7,
			"positions": all(offset + 3 <= metaslab_blocks for offset in offsets),
			"volume": top % 2 == 0 and top < 1 << 48 and 1 <= levels <= 5 and 1 <= blocks <= 1 << 40,
			"list": list_top % 2 == 0 and list_top < 1 << 48 and 1 <= list_levels <= 5,
			"birth": self.birth < SNAPSHOT_LAST,
			"clone": all(self.clone_good(*clone) for clone in self.clones),
			"what is not in use yet": list_rest == [0, 0, 0] and birth == origin == 0,
		}
		wrong = (f"its root's {name} makes no sense" for name, good in rules.items() if not good)
		return next(wrong, None)


class Entry:
	"""Of a record. `checks`: one for each block, or none."""

	def __init__(self, data, at, end):
		first, = struct.unpack_from("<Q", data, at)
		self.kind, self.count, self.id = first & 255, first >> 8 & 255, first >> 16
		if not WRITE <= self.kind <= CLONE or self.count not in self.counts():
			raise ValueError
		more = HAS_WHERE.get(self.kind, 0)
		checks = at + 8 + 8 * more
		self.end = checks + (16 * self.count if self.kind in HAS_CHECKS else 0)
		if self.end > end:
			raise ValueError
		words = struct.unpack_from(f"<{more}Q", data, at + 8)
		self.volume, self.where = (words[0] >> 40, words[0] & (1 << 40) - 1) if more else (VOLUME, 0)
		self.extra = words[1] if more > 1 else 0  # TRIM: how many; VOLUME, CLONE: levels; others: level
		self.length = words[2] if more > 2 else 0  # CLONE: blocks
		self.checks = [data[i:i + 16] for i in range(checks, self.end, 16)]
		self.blocks = self.count if self.kind in HAS_BLOCKS else 0

	def counts(self):
		none, one, two = {TRIM, HEAD, LEAVE, BECOME, CLONE}, {VOLPAGE}, {VANISH, DROP}
		kind = self.kind
		return (0,) if kind in none else (1,) if kind in one else (2,) if kind in two else range(1, 256)

	def ids(self):
		return range(self.id, self.id + self.count)


class Record:
	def __init__(self, data, block):
		(self.seq, self.previous, self.durable, place, self.epoch, self.written, self.next, self.birth,
			self.blocks, self.log_head) = struct.unpack_from("<6Q2IHB", data, 32)
		head = Head(data)
		self.checksum = head.checksum
		self.block = block
		at, end = 96, 96 + 8 * head.count
		self.entries = []
		if place != block * SECTORS or head.count > 500:
			raise ValueError
		while at < end:
			self.entries.append(Entry(data, at, end))
			at = self.entries[-1].end
		if sum(e.blocks for e in self.entries) != self.blocks:
			raise ValueError

	def placed(self):
		"""Each entry with the block that its first one lies in."""
		block = self.block + 2
		for entry in self.entries:
			yield entry, block
			block += entry.blocks


class Block:
	"""An entry of the block table."""
	__slots__ = ("place", "check", "birth", "sectors", "kind", "zero")

	def __init__(self, place, check, birth, sectors, kind, zero):
		self.place, self.check, self.birth = place, check, birth
		self.sectors, self.kind, self.zero = sectors, kind, zero


class Snapshot:
	"""A slot of the list of snapshots."""

	def __init__(self, data, offset, known):
		(self.number, self.state, self.held, self.top, self.levels, self.birth, self.blocks, self.origin,
			self.created, self.guid, self.turn) = struct.unpack_from("<IBB2xQIIQQQQQ", data, offset)
		self.known = known  # the turn of its block
		name = data[offset + 64:offset + 128]
		self.ends = name[63] == 0
		self.name = name.split(b"\0")[0].decode("ascii", "replace")

	def complaint(self, birth):
		rules = {
			"number": SNAPSHOT_FIRST <= self.number <= SNAPSHOT_LAST,
			"birth": self.birth_good() and self.birth < birth,
			"state": self.state in STATES,
			"held": self.held <= 1,
			"tree": self.top % 2 == 0 and self.top < 1 << 48 and 1 <= self.levels <= 5,
			"length": self.blocks <= 1 << 40,
			"origin": self.origin < self.number or (self.in_line() and self.origin <= SNAPSHOT_LAST),
			"name": self.ends,
			"turn": self.turn == 0 or self.state == CLONED,
		}
		return next((name for name, good in rules.items() if not good), None)

	def in_line(self):
		"""Its origin is the clone that it is of; 0: it is of the head."""
		return self.state in (ALIVE, DYING, BOOKMARK)

	def birth_good(self):
		"""A clone that was destroyed has the birth of that moment."""
		made = self.number - SNAPSHOT_FIRST
		return self.birth == made or (self.state == LEFT and self.birth > made)

	def name_good(self):
		letters = self.name.translate(str.maketrans("._-:", "aaaa"))
		return self.name.isascii() and letters.isalnum()


FOREVER = 1 << 32  # above each birth
ABOVE = -1  # in place of an id: the tree has its top further down
NOTHING = [0] * VOLUME_SLOTS


class Tree:
	"""A volume: pages that say which id an address refers to. Those that the log changed are in memory."""

	def __init__(self, partition, volume, length, birth=FOREVER, state=ALIVE, low=0):
		self.partition = partition
		self.top, self.levels = volume
		self.length, self.birth, self.alive, self.low = length, birth, state in (ALIVE, CLONED), low
		self.pages = {}  # (level, index) -> slots, or None: as in memory, or read

	def outside(self, level, index):
		return level >= self.levels or index >= VOLUME_SLOTS ** (self.levels - 1 - level)

	def page(self, level, index, make=False):
		"""As it is in memory; read where that was not done yet. None: it does not exist."""
		key = (level, index)
		if key in self.pages and (self.pages[key] or not make):
			return self.pages[key]
		page = None
		if not self.outside(level, index):
			page = self.partition.read_volume_page(self, self.page_id(level, index))
		if not page and make:
			self.grow(level, index)
			if level + 1 < self.levels:
				self.page(level + 1, index // VOLUME_SLOTS, True)
			page = self.pages.get(key) or list(NOTHING)
		self.pages[key] = page
		return page

	def page_id(self, level, index):
		if level + 1 == self.levels:
			return self.top
		above = self.page(level + 1, index // VOLUME_SLOTS)
		return above[index % VOLUME_SLOTS] if above else 0

	def grow(self, level, index):
		while self.outside(level, index):
			if self.levels == 5:
				raise Lost("its volume's tree is too high")
			self.pages[self.levels, 0] = [self.top] + [0] * (VOLUME_SLOTS - 1)
			self.levels += 1
			self.top = 0

	def keep(self, level, index, number):
		"""The page has this id from now on, and is read anew; 0: it is gone."""
		self.grow(level, index)
		if level + 1 == self.levels:
			self.top = number
		else:
			self.page(level + 1, index // VOLUME_SLOTS, True)[index % VOLUME_SLOTS] = number
		if number:
			self.pages.pop((level, index), None)
		else:
			self.pages[level, index] = None

	def become(self, top, levels):
		self.top, self.levels, self.pages = top, levels, {}

	def bind(self, address, number, make):
		if address >= self.length:
			raise Lost(f"the log tells of address {address}, behind the volume's end")
		page = self.page(0, address // VOLUME_SLOTS, make)
		if page:
			page[address % VOLUME_SLOTS] = number

	def has(self, number):
		"""What one that is dying had may be free by now, and be given out again, or stay for another."""
		block = self.partition.table.get(number)
		shared = block and block.birth < self.low
		return not shared and (self.alive or bool(block and block.birth <= self.birth))

	def in_memory(self):
		"""Of each page above: which of those below it are in memory."""
		found = {}
		for (level, index), page in self.pages.items():
			if page:
				above = (level + 1, index // VOLUME_SLOTS)
				found.setdefault(above, set()).add(index % VOLUME_SLOTS)
		return found

	def addresses(self):
		return self.below(self.levels - 1, 0, self.in_memory())

	def below(self, level, index, in_memory):
		more = in_memory.get((level, index), ())
		for i, number in enumerate(self.page(level, index) or ()):
			if level and (number or i in more):
				yield from self.below(level - 1, index * VOLUME_SLOTS + i, in_memory)
			elif number:
				yield index * VOLUME_SLOTS + i, number


class Reference:
	"""Who refers to an id: how often, as what kind; is it to be read; what it is."""
	__slots__ = ("count", "kind", "alive", "what")

	def __init__(self):
		self.count, self.kind, self.alive, self.what = 0, 0, False, None


# -- a partition --


class Partition:
	def __init__(self, pool, slot, data):
		self.pool, self.slot = pool, slot
		self.image, self.label = pool.image, pool.label
		self.id = Head(data).partition
		name = data[64:128].split(b"\0")[0].decode("ascii", "replace")
		letters = name.translate(str.maketrans("._-", "aaa"))
		valid = name.isascii() and letters.isalnum() and name[0] not in ".-"
		self.name = name if valid else f"#{self.id}"
		self.min, self.max, self.volume_blocks = struct.unpack_from("<QQQ", data, 128)
		self.data_limits = struct.unpack_from("<QQ", data, 160)
		self.volume_bytes, self.wait = struct.unpack_from("<QI", data, 176)
		self.incompatible, = struct.unpack_from("<Q", data, 192)
		self.receiving = struct.unpack_from("<5Q", data, 216)  # guid, from, records, check
		names = [data[at:at + 64].split(b"\0")[0].decode("ascii", "replace") for at in (264, 328)]
		self.promoting = (*struct.unpack_from("<I", data, 256), *names)  # clone, names before
		self.metaslabs = {m for m, owner in enumerate(pool.owners) if owner == self.id}
		self.table = {}  # id -> Block
		self.used = {}  # block -> what lies there
		self.live = {}  # metaslab -> blocks, as the space list and the log say
		self.youngest = {}  # metaslab -> seq of its youngest record
		self.vanished = {}  # id -> (seq, number in its record) of the last entry that frees it as a page
		self.now = None  # the entry that is being rolled forward
		self.snapshots = []  # what the list has, but for the clones
		self.bookmarks = []
		self.turns = []  # of the blocks of the list
		self.clones = {}  # number -> Tree; in the end Snapshot of each that is listed
		self.references = {}  # id -> Reference
		self.unreadable = set()  # ids of pages that were told of
		self.lost_ids = set()
		self.headers = {}  # seq of each record that was looked at -> block
		self.opened = False

	def report(self, text, block=None):
		self.pool.report(text, block, self.name)

	def verify_page(self):
		size = len(self.metaslabs) * self.label.metaslab_blocks
		if self.name.startswith("#"):
			self.report("its name is not acceptable")
		if not self.min <= size <= self.max:
			self.report(f"its size of {size} blocks is not between min and max")
		if self.min % self.label.metaslab_blocks or self.max % self.label.metaslab_blocks:
			self.report("min or max are not whole metaslabs")
		seen = up(self.volume_bytes, BLOCK)
		if not 1 <= self.volume_blocks <= 1 << 40 or seen not in (0, self.volume_blocks):
			self.report("the length of its volume makes no sense")
		if self.data_limits[0] > self.data_limits[1] or self.wait > 86400:
			self.report("its limits make no sense")
		if self.id >= self.pool.uberblock.partition_next:
			self.report(f"its id {self.id} is not given out yet")

	def decode(self):
		if self.incompatible >= 2 * HAS_TURNS:
			self.report("it uses a feature that this does not know")
			return
		try:
			self.read_root()
			self.read_table(self.root.table, self.root.table_levels - 1, 0)
			self.read_space()
			self.follow()
			self.apply_table()
			self.apply_volumes()
			self.read_list()
			self.now = None
			self.opened = True
		except Lost as lost:
			self.report(str(lost))
			return
		self.verify()

	# places

	def metaslab_of(self, block):
		return (block - self.label.base) // self.label.metaslab_blocks

	def first_block(self, metaslab):
		return self.label.base + metaslab * self.label.metaslab_blocks

	def block_of(self, place):
		"""None: it makes no sense."""
		block = place // SECTORS
		return None if place % SECTORS or self.metaslab_of(block) not in self.metaslabs else block

	def use(self, block, what):
		if block in self.used:
			self.report(f"{what} lies where {self.used[block]} lies", block)
		self.used[block] = what

	# root

	def read_root(self):
		roots = {}
		for which in range(2):
			for copy in range(2):
				data = self.image.block(self.label.root_block(copy, self.slot, which))
				head = Head(data)
				if head.sealed and head.version != VERSION:
					raise Lost(f"a root has format version {head.version}")
				if head.good(ROOT, self.pool.guid, self.id):
					roots[which, copy] = Root(data)
		if not roots:
			raise Lost("all copies of its root are damaged")
		self.root = max(roots.values(), key=lambda root: root.generation)
		current = next(which for (which, _), root in roots.items() if root is self.root)
		self.verify_roots(roots, current)
		complaint = self.root.complaint(self.label.metaslab_blocks)
		if complaint:
			raise Lost(complaint)
		length = self.root.volume[VOLUME][3]
		self.head = Tree(self, self.root.volume[VOLUME][:2], length)
		self.list = Tree(self, self.root.volume[LIST][:2], 2 * SNAPSHOT_LAST)
		self.clones = {n: self.new_clone(*rest) for n, *rest in self.root.clones}
		self.birth = self.root.birth
		if length < self.volume_blocks:
			raise Lost("its root and the pool disagree about its volume")
		if len(self.metaslabs) < 6:
			raise Lost(f"it owns only {len(self.metaslabs)} metaslabs")

	def new_clone(self, top, levels, _birth, blocks, _origin):
		return Tree(self, (top, levels), blocks, state=CLONED)

	def verify_roots(self, roots, current):
		for which in range(2):
			newest = max((r.generation for (w, _), r in roots.items() if w == which), default=0)
			if not self.pool.closed or (which != current and self.root.generation == 1):
				continue
			for copy in range(2):
				root = roots.get((which, copy))
				if not root or root.generation < newest:
					self.report(f"copy {copy} of its root is damaged",
						self.label.root_block(copy, self.slot, which))

	# the block table and the space list

	def read_page(self, pointer, tree, level, index):
		"""The bytes of a page, from either copy; what is wrong with them is told."""
		name = "block table" if tree == TABLE else "space list"
		best = None
		for copy, place in enumerate(pointer.place):
			block = self.block_of(place)
			data = self.image.block(block) if block else ZERO
			if (block and check_of(data) == pointer.check and
					Head(data).good(PAGE, self.pool.guid, self.id) and
					struct.unpack_from("<BB6xQ", data, 40) == (tree, level, index)):
				best = best or data
			else:
				text = f"copy {copy} of page {index} (level {level}) of the {name} is damaged"
				self.report(text, block)
			if block:
				self.use(block, f"a page of the {name}")
		if not best and tree == SPACE:
			raise Lost("a page of its space list is damaged in both copies")
		return best

	def children(self, data, index):
		for i in range(SLOTS):
			pointer = Pointer(data, 64 + 32 * i)
			if pointer.place[0]:
				yield pointer, SLOTS * index + i

	def read_table(self, pointer, level, index):
		if level < 0 or not pointer.place[0]:
			return
		data = self.read_page(pointer, TABLE, level, index)
		if not data:
			first, count = index * SLOTS ** (level + 1), SLOTS ** (level + 1)
			self.lost_ids.add(range(first, first + count))
			self.report(f"ids {first} to {first + count - 1} are lost with a page of the block table")
			return
		if level:
			for child, number in self.children(data, index):
				self.read_table(child, level - 1, number)
			return
		for i in range(SLOTS):
			block = Block(*struct.unpack_from("<Q16sIHBB", data, 64 + 32 * i))
			if block.kind or block.place:
				self.table[SLOTS * index + i] = block

	def is_lost(self, number):
		return any(number in ids for ids in self.lost_ids)

	def read_space(self):
		self.table_pages = len(self.used) // 2
		if self.root.space_levels:
			self.read_space_page(self.root.space, self.root.space_levels - 1, 0)

	def read_space_page(self, pointer, level, index):
		data = self.read_page(pointer, SPACE, level, index)
		if level:
			for child, number in self.children(data, index):
				self.read_space_page(child, level - 1, number)
			return
		for i in range(252):
			metaslab, live, last = struct.unpack_from("<IIQ", data, 64 + 16 * i)
			if not live:
				continue
			most = self.label.metaslab_blocks * SECTORS
			if (live % SECTORS or live > most or metaslab in self.live or last >> 56 > CLASS_TABLE or
					metaslab >= self.label.metaslabs):
				raise Lost(f"the space list says what cannot be of metaslab {metaslab}")
			self.live[metaslab] = live // SECTORS
			if last >> 56 != CLASS_TABLE:
				self.youngest[metaslab] = last & (1 << 56) - 1

	# the log

	def header(self, block):
		"""The record whose first header is there, and which copies of it are good; or None."""
		copies = [self.image.block(block + i) for i in range(2)]
		record, good = None, [False, False]
		for i, data in enumerate(copies):
			if data == ZERO or not Head(data).good(RECORD, self.pool.guid, self.id):
				continue
			try:
				other = Record(data, block)
			except ValueError:
				continue
			good[i] = not record or data == copies[0]
			record = record or other
		end = self.first_block(self.metaslab_of(block) + 1)
		if not record or block + 2 + record.blocks > end:
			return None, good
		return record, good

	def peek(self, position, seq):
		metaslab, offset = position
		if metaslab not in self.metaslabs or offset + 2 > self.label.metaslab_blocks:
			return None
		record, good = self.header(self.first_block(metaslab) + offset)
		if not record or record.seq <= seq:
			return None
		older = record.seq <= self.root.epoch_seq
		if (record.epoch >= self.root.epoch) if older else (record.epoch != self.root.epoch):
			return None
		self.durable = max(self.durable, record.durable)
		return record, good

	def log(self):
		"""The records from the redo point on, each with which copies of its header are good."""
		region = min(self.root.region, key=lambda r: r[0])
		seq, chain = region[:2]
		self.positions = [(region[2 + 2 * h], region[3 + 2 * h]) for h in range(HEADS)]
		while True:
			seen = [self.peek(position, seq) for position in self.positions]
			here = [h for h in range(HEADS) if seen[h] and seen[h][0].seq == seq + 1]
			have = [h for h in here if seen[h][0].previous == chain]
			if not have:
				return
			head = max(have, key=lambda h: seen[h][0].epoch)
			record, good = seen[head]
			yield record, good
			seq, chain = record.seq, record.checksum
			metaslab, offset = self.positions[head]
			behind = (metaslab, offset + 2 + record.blocks)
			self.positions[head] = behind if record.next == NONE else (record.next, 0)
			for entry in record.entries:
				if entry.kind == HEAD:
					if entry.where not in (1, 2) or entry.id > NONE:
						raise Lost(f"record {record.seq} moves a head that there is not")
					self.positions[entry.where] = (entry.id, 0)

	def follow(self):
		"""Where the log ends, if it does not end earlier because it is torn there."""
		self.durable = self.root.durable
		self.redo = self.end = min(r[0] for r in self.root.region)
		for record, _ in self.log():
			self.end = record.seq
		self.look_behind()
		if self.durable > self.end:
			raise Lost(f"record {self.end + 1} of its log was flushed and is not there")
		if self.end < self.root.seq:
			raise Lost(f"its root is newer than record {self.end}, the last of its log")

	def look_behind(self):
		starts = [self.first_block(m) for m in self.metaslabs]
		for metaslab, offset in self.positions:
			if metaslab in self.metaslabs:
				first, end = self.first_block(metaslab), self.first_block(metaslab + 1)
				starts += range(first + offset, end - 2)
		for block in starts:
			record, last = self.header(block)[0], self.end
			while record and record.seq > last and record.epoch >= self.root.epoch:
				self.durable = max(self.durable, record.durable)
				last = record.seq
				block += 2 + record.blocks
				if record.next in self.metaslabs:
					block = self.first_block(record.next)
				ours = self.metaslab_of(block) in self.metaslabs
				record = self.header(block)[0] if ours else None

	# the log: the table

	def torn(self, record):
		"""Does a block of it not match? MOVE: by what the table says at this moment."""
		for entry, first in record.placed():
			for i in range(entry.blocks):
				moved = self.table.get(entry.id + i) if entry.kind == MOVE else None
				check = entry.checks[i] if entry.checks else moved and moved.check
				if check and check_of(self.image.block(first + i)) != check:
					return True
		return False

	def knows(self, number, seq):
		region = number // SLOTS // SLOTS >> self.root.shift
		return region < REGIONS and self.root.region[region][0] >= seq

	def apply_table(self):
		done = self.redo
		for record, good in self.log():
			if record.seq > self.durable and self.torn(record):
				break
			done = record.seq
			self.verify_headers(record, good)
			self.youngest[self.metaslab_of(record.block)] = record.seq
			self.birth = record.birth
			for at, (entry, first) in enumerate(record.placed()):
				for i, number in enumerate(entry.ids()):
					if not self.knows(number, record.seq):
						self.change(record, entry, i, number, first + i)
				if entry.kind in (VANISH, DROP):
					self.vanished[entry.id] = (record.seq, at)
		self.end = done

	def verify_headers(self, record, good):
		self.headers[record.seq] = record.block
		for i in range(2):
			if not good[i] and (self.pool.closed or record.seq <= self.durable):
				text = f"copy {i} of the header of record {record.seq} is damaged"
				self.report(text, record.block + i)

	def count(self, place, by):
		block = self.block_of(place)
		metaslab = self.metaslab_of(place // SECTORS)
		if block is None and metaslab not in self.live:
			raise Lost(f"the log tells of place {place}, which is not this partition's")
		self.live[metaslab] = self.live.get(metaslab, 0) + by
		if self.live[metaslab] < 0:
			raise Lost(f"the log frees more in metaslab {metaslab} than is live there")

	def change(self, record, entry, i, number, block):
		old = self.table.get(number)
		counted = record.seq > self.root.seq
		if number < 2 or number >= 1 << 48:
			raise Lost(f"record {record.seq} has the id {number}")
		if counted:
			self.judge(record, entry, old, number)
			kinds = {WRITE: 1, VOLPAGE: not old, FREE: -1, VANISH: -1, DROP: -1}
			kind = old.kind if old else DATA if entry.kind == WRITE else VOLUME_PAGE
			self.in_use(kind, kinds.get(entry.kind, 0))
			if old:
				self.count(old.place, -1)
		if entry.kind in FREES:
			self.table.pop(number, None)
			return
		self.put(record, entry, i, number, block)
		if counted:
			self.count(block * SECTORS, 1)
			self.root.id_end = max(self.root.id_end, number + 1)

	def judge(self, record, entry, old, number):
		if self.is_lost(number):
			raise Lost(f"record {record.seq} changes id {number}, whose page is lost")
		if entry.kind == WRITE and old or entry.kind not in (WRITE, VOLPAGE) and not old:
			raise Lost(f"record {record.seq}: id {number} is {'in use' if old else 'free'}")
		kind = {OVERWRITE: DATA, VOLPAGE: VOLUME_PAGE}.get(entry.kind)
		if old and kind and old.kind != kind:
			raise Lost(f"record {record.seq}: id {number} is of another kind")

	def in_use(self, kind, by):
		if kind == DATA:
			self.root.data_blocks += by
		elif kind == VOLUME_PAGE:
			self.root.page_blocks += by

	def put(self, record, entry, i, number, block):
		kind = VOLUME_PAGE if entry.kind == VOLPAGE else DATA
		b = self.table.get(number)
		if not b:
			b = self.table[number] = Block(0, bytes(16), record.birth, SECTORS, 0, 0)
		b.place = block * SECTORS
		if entry.kind in (MOVE, LOST):
			return
		if entry.kind == WRITE or b.kind != kind:
			b.birth = record.birth
		b.kind, b.check, b.sectors = kind, entry.checks[i], SECTORS

	# the log: volumes

	def slots_of(self, number):
		"""Of the page that is kept as this; None: it cannot be had."""
		for i in range(2):
			b = self.table.get(number + i)
			block = self.block_of(b.place) if b and b.kind == VOLUME_PAGE else None
			data = self.image.block(block) if block else ZERO
			if block and check_of(data) == b.check:
				return list(struct.unpack(f"<{VOLUME_SLOTS}Q", data))
		return None

	def read_volume_page(self, tree, number):
		"""Of one that an entry frees later: nothing, since something else may be kept as that by now."""
		if not number or (self.now and self.vanished.get(number, (0, 0)) > self.now):
			return None
		slots = self.slots_of(number)
		if not slots and self.now:  # to roll forward takes it
			raise Lost(f"the page of a volume that is kept as id {number} cannot be had")
		if not slots and tree.alive and number not in self.unreadable:
			self.unreadable.add(number)
			self.report(f"the page of a volume that is kept as id {number} is lost, with all below it")
		return slots

	def apply_volumes(self):
		for record, _ in self.log():
			if record.seq > self.end:
				break
			for at, entry in enumerate(record.entries):
				self.now = (record.seq, at)
				self.apply_entry(entry)
		self.now = (self.end + 1, 0)

	def tree_of(self, entry):
		only_volume = entry.kind in (TRIM, BECOME)
		if entry.volume == VOLUME or (entry.volume == LIST and not only_volume):
			return self.head if entry.volume == VOLUME else self.list
		if entry.volume in self.clones and entry.kind != BECOME:
			return self.clones[entry.volume]
		raise Lost(f"the log tells of volume {entry.volume}")

	def apply_clone(self, entry):
		if not SNAPSHOT_FIRST <= entry.volume <= SNAPSHOT_LAST or entry.extra > 5 or entry.id % 2:
			raise Lost(f"the log tells of a clone {entry.volume} that there cannot be")
		if entry.extra:
			self.clones[entry.volume] = self.new_clone(entry.id, entry.extra, 0, entry.length, 0)
		else:
			self.clones.pop(entry.volume, None)

	def is_of_ended(self, entry):
		"""The root knows no more of a clone that was destroyed by then."""
		known = entry.volume in (LIST, VOLUME) or entry.volume in self.clones
		return entry.kind in OF_TREES and not known and self.now[0] <= self.root.seq

	def apply_entry(self, entry):
		kind = entry.kind
		if self.is_of_ended(entry):
			return
		if kind == CLONE:
			self.apply_clone(entry)
		elif kind == WRITE:
			for i in range(entry.count):
				self.tree_of(entry).bind(entry.where + i, entry.id + i, True)
		elif kind == TRIM:
			last = entry.where + entry.extra - 1
			if not entry.extra or last // VOLUME_SLOTS != entry.where // VOLUME_SLOTS:
				raise Lost("a trim in the log is not of one leaf")
			for address in range(entry.where, last + 1):
				self.tree_of(entry).bind(address, 0, False)
		elif kind in (VOLPAGE, VANISH, LEAVE):
			if entry.extra >= 5 or (kind == VANISH and entry.id % 2):
				raise Lost(f"the log tells of a page of level {entry.extra} that there cannot be")
			if kind != VOLPAGE or entry.id % 2 == 0:
				number = entry.id if kind == VOLPAGE else 0
				self.tree_of(entry).keep(entry.extra, entry.where, number)
		elif kind == BECOME:
			if entry.id % 2 or not 1 <= entry.extra <= 5:
				raise Lost("the log makes the volume a tree that there cannot be")
			self.tree_of(entry).become(entry.id, entry.extra)

	# snapshots

	def list_copy(self, number, pair):
		b = self.table.get(number)
		block = self.block_of(b.place) if b and b.kind == DATA else None
		data = self.image.block(block) if block else ZERO
		good = (block and check_of(data) == b.check and
			Head(data).good(SNAPSHOTS, self.pool.guid, self.id) and
			struct.unpack_from("<Q", data, 32)[0] == pair)
		return data if good else None

	def read_list(self):
		listed = dict(self.list.addresses())
		pair = 0
		while 2 * pair in listed or 2 * pair + 1 in listed:
			number = listed.pop(2 * pair, 0)
			if number == 0 or listed.pop(2 * pair + 1, 0) != number + 1:
				raise Lost("its list of snapshots refers to what is no pair")
			data = self.list_copy(number, pair) or self.list_copy(number + 1, pair)
			if not data:
				raise Lost("a block of its list of snapshots is damaged in both copies")
			if number % 2 or self.table[number].check != self.table[number + 1].check:
				self.report(f"block {pair} of its list of snapshots is no pair")
			self.read_slots(data)
			pair += 1
		if listed:
			raise Lost("its list of snapshots has a gap")
		if pair and not self.incompatible & HAS_SNAPSHOTS:
			self.report("it has a list of snapshots, and its page does not say so")
		self.snapshots.sort(key=lambda n: n.number)
		self.turn_lines()
		self.verify_list()
		self.verify_clones()

	def read_slots(self, data):
		known, = struct.unpack_from("<Q", data, 40)
		self.turns.append(known)
		slots = [Snapshot(data, 128 + 128 * i, known) for i in range(SNAPSHOT_SLOTS)]
		slots = [n for n in slots if n.number]
		self.snapshots += [n for n in slots if n.state != BOOKMARK]
		self.bookmarks += [n for n in slots if n.state == BOOKMARK]
		if len(slots) != Head(data).count:
			said = Head(data).count
			self.report(f"a block of its list of snapshots has {len(slots)}, and says {said}")

	def turn_lines(self):
		"""Blocks of the list that do not know the last exchange of lines."""
		last = max(self.turns, default=0)
		if last and not self.incompatible & HAS_TURNS:
			self.report("a clone was promoted past snapshots, and its page does not say so")
		if min(self.turns, default=0) == last:
			return
		clone = next((n for n in self.snapshots if n.state == CLONED and n.turn == last), None)
		if not clone:
			raise Lost("no clone tells which lines were exchanged")
		for n in self.snapshots + self.bookmarks:
			if n.known == last or not n.in_line():
				continue
			if n.origin == clone.number:
				n.origin = 0
			elif not n.origin and n.number > clone.origin:
				n.origin = clone.number

	def verify_list(self):
		numbers = {n.number for n in self.snapshots}
		births = {n.number: n.birth for n in self.snapshots}
		if len(numbers) < len(self.snapshots):
			raise Lost("a snapshot's number is there twice")
		for n in self.snapshots:
			complaint = n.complaint(self.birth)
			if complaint or (n.origin and n.origin not in numbers):
				raise Lost(f"the {complaint or 'origin'} of snapshot {n.number} makes no sense")
			if n.state == ALIVE and not n.name_good():
				self.report(f"the name of snapshot {n.number} is not acceptable")
			if n.state in (LEFT, CLONED) and not n.origin:
				self.report(f"snapshot {n.number} has the origin {n.origin}")
			low = births.get(self.base_of(n), -1) + 1
			if n.state != CLONED:
				n.tree = Tree(self, (n.top, n.levels), n.blocks, n.birth, n.state, low)
		for n in self.bookmarks:
			complaint = n.complaint(self.birth)
			if complaint or (n.top, n.levels, n.held) != (0, 1, 0):
				raise Lost(f"the {complaint or 'tree'} of bookmark {n.name} makes no sense")
			self.base_of(n)
			if not n.name_good():
				self.report(f"the name of a bookmark of snapshot {n.number} is not acceptable")
		if self.bookmarks and not self.incompatible & HAS_BOOKMARKS:
			self.report("it has bookmarks, and its page does not say so")
		if len({(n.origin, n.name) for n in self.bookmarks}) < len(self.bookmarks):
			self.report("a bookmark's name is there twice")
		names = [(n.origin, n.name) for n in self.snapshots if n.state == ALIVE]
		if len(set(names)) < len(names):
			self.report("a snapshot's name is there twice")
		of_clones = any(n.origin for n in self.snapshots + self.bookmarks if n.in_line())
		if of_clones and not self.incompatible & HAS_LINES:
			self.report("a clone has snapshots or bookmarks, and its page does not say so")

	def base_of(self, n):
		"""The number of what it, or the line that it is of, goes on from; 0: nothing."""
		if not n.in_line() or not n.origin:
			return n.origin
		clone = next((c for c in self.snapshots if c.number == n.origin), None)
		good = clone and (clone.state == CLONED or (clone.state == LEFT and n.state == DYING))
		if not good or not 0 < clone.origin < n.number:
			raise Lost(f"snapshot {n.number} is of volume {n.origin}, which has none")
		return clone.origin

	def verify_clones(self):
		"""Those of the list are those that there are."""
		by_number = {n.number: n for n in self.snapshots}
		listed = {n.number: n for n in self.snapshots if n.state == CLONED}
		self.snapshots = [n for n in self.snapshots if n.state != CLONED]
		if listed.keys() != self.clones.keys():
			raise Lost("the clones of its list are others than those of its root and log")
		for number, n in listed.items():
			n.tree, n.base = self.clones[number], by_number[n.origin]
			n.tree.low = n.base.birth + 1
			if n.base.state != ALIVE or n.tree.length != n.blocks or (n.top, n.levels) != (0, 1):
				raise Lost(f"clone {number} of its list makes no sense")
			if not n.name_good():
				self.report(f"the name of clone {number} is not acceptable")
		if len({n.name for n in listed.values()}) < len(listed):
			self.report("a clone's name is there twice")
		if listed and not self.incompatible & HAS_CLONES:
			self.report("it has clones, and its page does not say so")
		self.clones = listed
		number, partition, name = self.promoting
		if bool(number) != bool(self.incompatible & PROMOTES):
			self.report("its page contradicts itself about promoting a clone")
		if number:
			done = number in listed and listed[number].name == partition
			self.name = name if done else partition

	# invariants

	def verify(self):
		ends = {0: self.head, **{n.number: n.tree for n in self.clones.values()}}
		ends.update({n.number: n.tree for n in self.snapshots if n.state == LEFT})
		lines = {number: [] for number in ends}
		for n in self.snapshots:
			if n.in_line():
				lines[n.origin].append(n.tree)
		for number, n in self.clones.items():
			for tree in lines[number] + [n.tree]:
				self.verify_shared(tree, n.base.tree)
		for number, members in lines.items():
			self.walk(members + [ends[number]])
		self.walk([self.list])
		self.verify_references()
		self.verify_blocks()
		self.verify_counts()
		self.verify_records()

	def walk(self, line):
		"""Volumes that followed each other in time: all that they refer to, of what they share once."""
		self.in_memory = line[-1].in_memory()
		level = max(tree.levels for tree in line)
		members = []
		for tree in line:
			members += self.having((tree,), tree.top if tree.levels == level else ABOVE, True)
		self.visit(level - 1, 0, members)

	def having(self, volumes, number, is_page):
		"""Which of these have it still."""
		if number <= 0:
			return [(volumes, number)]
		if number >> 48 or number >= self.root.id_end or (is_page and number % 2):
			self.report(f"a slot of a volume refers to id {number}")
			return [(volumes, 0)]
		b = self.table.get(number)
		if b and b.birth <= volumes[0].birth and all(tree.low <= b.birth for tree in volumes):
			return [(volumes, number)]
		if b and any(tree.alive and tree.birth < b.birth for tree in volumes):
			self.report(f"id {number} is younger than a snapshot that refers to it")
		still = tuple(tree for tree in volumes if tree.has(number))
		shared = tuple(tree for tree in volumes if tree.alive and not tree.has(number))
		return ([(still, number)] if still else []) + ([(shared, 0)] if shared else [])

	def visit(self, level, index, members):
		"""One place in volumes of a line: in which volumes it has which id. Level -1: an address."""
		runs = []
		for volumes, number in members:
			if runs and runs[-1][1] == number:
				runs[-1] = (runs[-1][0] + volumes, number)
			else:
				runs.append((volumes, number))
		before = None
		for volumes, number in runs:
			if number > 0:
				self.refer(volumes, number, level, index, before)
			before = volumes[-1]
		if level < 0:
			return
		groups = [group for run in runs for group in self.contents(level, index, *run)]
		pages = [page for _, page in groups if page is not NOTHING]
		places = {i for page in pages for i, number in enumerate(page) if number}
		for i in sorted(places | self.in_memory.get((level, index), set())):
			below = [m for volumes, page in groups for m in self.having(volumes, page[i], level > 0)]
			self.visit(level - 1, index * VOLUME_SLOTS + i, below)

	def verify_shared(self, tree, base):
		"""Of a clone, or a snapshot of one: what it has of its origin, that has in the same place."""
		self.in_memory = tree.in_memory()
		top = base.top if base.levels == tree.levels else 0
		if tree.alive:
			self.visit_shared((tree, base), tree.levels - 1, 0, tree.top, top)

	def visit_shared(self, trees, level, index, number, origin):
		tree, base = trees
		b = self.table.get(number)
		shared = b and b.birth < tree.low
		if shared and number != origin:
			self.report(f"id {number} is older than a clone, whose origin does not have it")
		page = self.page_of_clone(tree, level, index, 0 if shared else number) if level >= 0 else None
		if not page:
			return
		theirs = self.page_of_origin(base, level, index)
		places = {i for i, slot in enumerate(page) if slot} | self.in_memory.get((level, index), set())
		for i in sorted(places):
			self.visit_shared(trees, level - 1, index * VOLUME_SLOTS + i, page[i], theirs[i])

	def page_of_clone(self, tree, level, index, number):
		"""One that is its own, or that the log changed."""
		page = tree.pages.get((level, index))
		return page or (self.read_volume_page(tree, number) if number else None)

	def page_of_origin(self, tree, level, index):
		if level == tree.levels and index == 0:
			return [tree.top] + NOTHING[1:]
		return tree.page(level, index) or NOTHING

	def contents(self, level, index, volumes, number):
		"""What these volumes have in a page of this id. What the log changed only the last one has."""
		if number == ABOVE:
			tops = [tree.top if tree.levels == level else ABOVE for tree in volumes]
			return [((tree,), [top] + NOTHING[1:]) for tree, top in zip(volumes, tops)]
		memory = volumes[-1].pages.get((level, index))
		page = self.slots_of(number) if number else NOTHING
		if not page and any(tree.alive for tree in volumes):
			self.read_volume_page(self.head, number)  # tells it
		if memory and memory != page:
			rest = [(volumes[:-1], page)] if page and volumes[:-1] else []
			return rest + [(volumes[-1:], memory)]
		return [(volumes, page)] if page else []

	def refer(self, volumes, number, level, index, before):
		kind = DATA if level < 0 else VOLUME_PAGE
		b = self.table.get(number)
		if before and b and b.birth <= before.birth:
			self.report(f"id {number} is as old as a snapshot that does not refer to it")
		if level < 0 and any(tree.alive and index >= tree.length for tree in volumes):
			self.report(f"address {index} is behind the end of its volume")
		for i in range(number, number + (2 if kind == VOLUME_PAGE else 1)):
			reference = self.references.setdefault(i, Reference())
			reference.count += 1
			reference.kind = kind
			reference.alive = reference.alive or any(tree.alive for tree in volumes)
			reference.what = "a page of a volume" if level >= 0 else f"address {index}"

	def verify_references(self):
		none = Reference()
		for number in sorted(self.references.keys() | self.table.keys()):
			b = self.table.get(number)
			reference = self.references.get(number, none)
			if b and reference.count != 1:
				self.report(f"id {number} is in use; {reference.count} refer to it")
			elif not b and not self.is_lost(number):
				self.report(f"id {number} is free; {reference.count} refer to it")
			elif b and b.kind != reference.kind:
				text = f"id {number} is of kind {b.kind}, and referred to as {reference.kind}"
				self.report(text)

	def is_read(self, number):
		"""What only those have that are dying nobody reads."""
		reference = self.references.get(number)
		return not reference or reference.alive

	def verify_blocks(self):
		for number, b in sorted(self.table.items()):
			block = self.block_of(b.place)
			known = b.kind in (DATA, VOLUME_PAGE) and (b.sectors, b.zero) == (SECTORS, 0)
			if not known or block is None or b.birth > self.birth:
				self.report(f"the entry of id {number} makes no sense")
				continue
			self.use(block, f"id {number}")
			if self.is_read(number) and check_of(self.image.block(block)) != b.check:
				reference = self.references.get(number)
				what = f", {reference.what}" if reference else ""
				self.report(f"id {number}{what}, does not match its checksum", block)

	def verify_counts(self):
		kinds = [b.kind for b in self.table.values()]
		for name, count, said in (
				("data blocks", kinds.count(DATA), self.root.data_blocks),
				("blocks of volume pages", kinds.count(VOLUME_PAGE), self.root.page_blocks),
				("pages of the block table", self.table_pages, self.root.table_pages)):
			if count != said and not self.lost_ids:
				self.report(f"there are {count} {name}; the root says {said}")
		live = {}
		for block, what in self.used.items():
			if what != "a page of the space list":
				live[self.metaslab_of(block)] = live.get(self.metaslab_of(block), 0) + 1
		for metaslab in sorted(live.keys() | self.live.keys()):
			is_there, said = live.get(metaslab, 0), self.live.get(metaslab, 0)
			if is_there != said and not self.lost_ids:
				self.report(f"{is_there} blocks are live in metaslab {metaslab}; the list says {said}")
		if len(self.used) > len(self.metaslabs) * self.label.metaslab_blocks:
			self.report("more is live than it has room for")

	def verify_records(self):
		for metaslab, youngest in sorted(self.youngest.items()):
			needed = youngest and (self.live.get(metaslab) or youngest > self.redo)
			if needed and metaslab in self.metaslabs:
				self.verify_metaslab(metaslab, youngest)

	def verify_metaslab(self, metaslab, youngest):
		block, last = self.first_block(metaslab), 0
		while last < youngest:
			record, good = (None, None)
			if block + 2 <= self.first_block(metaslab + 1):
				record, good = self.header(block)
			if not record or not last < record.seq <= youngest:
				text = f"both headers behind record {last} of metaslab {metaslab} are damaged"
				self.report(text, block)
				return
			last = record.seq
			if last <= self.redo:
				self.verify_headers(record, good)
			block += 2 + record.blocks

	# what it holds

	def mapping(self, tree=None):
		for address, number in (tree or self.head).addresses() if self.opened else ():
			b = self.table.get(number)
			if b:
				yield address, number, b.place // SECTORS, b.check[::-1].hex()

	def all_clones(self):
		return list(self.clones.values()) if self.opened else []

	def alive(self):
		return [n for n in self.snapshots if n.state == ALIVE and self.opened]

	def volume_name(self, n):
		"""Of what a snapshot or a bookmark is of."""
		clone = self.clones.get(n.origin)
		return clone.name if clone else self.name

	def extract(self, snapshot, path):
		"""The volume, as a sparse file. What does not match its checksum stays a hole; it was told."""
		tree = snapshot.tree if snapshot else self.head
		with open(path, "wb") as out:
			length = self.volume_bytes or self.volume_blocks * BLOCK
			if snapshot:
				length = snapshot.blocks * BLOCK
			for address, _, block, check in self.mapping(tree):
				data = self.image.block(block)
				if check_of(data)[::-1].hex() == check and address * BLOCK < length:
					out.seek(address * BLOCK)
					out.write(data)
			out.truncate(length)

	def lying(self, what):
		"""The blocks where something of that kind lies."""
		return sorted(block for block, this in self.used.items() if this == what)

	def structures(self):
		"""Where what it is made of lies, but its data and its roots; of headers the first copy."""
		pages = [(number, b) for number, b in self.table.items() if b.kind == VOLUME_PAGE]
		listed = [self.table.get(number) for _, number in self.list.addresses()] if self.opened else []
		return {
			"table_pages": self.lying("a page of the block table"),
			"space_pages": self.lying("a page of the space list"),
			"volume_pages": sorted(b.place // SECTORS for number, b in pages if self.is_read(number)),
			"list_pages": sorted(b.place // SECTORS for b in listed if b),
			"headers": sorted(self.headers.values()),
		}

	def totals(self):
		return {
			"id": self.id, "opened": self.opened,
			"size_blocks": len(self.metaslabs) * self.label.metaslab_blocks,
			"volume_blocks": self.volume_blocks,
			"data_blocks": sum(1 for _ in self.mapping()),
			**{name: len(blocks) for name, blocks in self.structures().items()},
		}


# -- what it says --


def snapshot_json(partition, n, keys):
	about = {"name": n.name, "volume": partition.volume_name(n) if n.in_line() else n.name,
		"number": n.number, "state": STATES[n.state], "created_s": n.created,
		"held": bool(n.held), "volume_blocks": n.blocks, "origin": n.origin}
	if n.state in (ALIVE, CLONED):
		about["map"] = [dict(zip(keys, m)) for m in partition.mapping(n.tree)]
	return about


def print_json(pool):
	keys = ("address", "id", "block", "check")
	partitions = []
	for p in pool.partitions:
		mapping = [dict(zip(keys, m)) for m in p.mapping()]
		snapshots = [snapshot_json(p, n, keys) for n in p.snapshots]
		clones = [snapshot_json(p, n, keys) for n in p.all_clones()]
		holds = {"map": mapping, "snapshots": snapshots, "clones": clones}
		partitions.append({"name": p.name, **p.totals(), **p.structures(), **holds})
	print(json.dumps({"partitions": partitions, "damage": pool.report.found}))


def print_map(mapping):
	for address, number, block, check in mapping:
		print(f"  {address} -> id {number}, block {block}, {check}")


def print_text(pool, with_map):
	for p in pool.partitions:
		print(f"partition {p.name}:", ", ".join(f"{name} {value}" for name, value in p.totals().items()))
		print_map(p.mapping() if with_map else ())
		for n in p.snapshots:
			about = f"number {n.number}, {STATES[n.state]}, volume_blocks {n.blocks}"
			print(f"snapshot {p.volume_name(n)}@{n.name}: {about}, created {n.created}")
			print_map(p.mapping(n.tree) if with_map and n.state == ALIVE else ())
		for n in p.all_clones():
			origin = f"{p.volume_name(n.base)}@{n.base.name}"
			about = f"number {n.number}, volume_blocks {n.blocks}, of {origin}"
			print(f"clone {n.name}: {about}, created {n.created}")
			print_map(p.mapping(n.tree) if with_map else ())
		for n in p.bookmarks:
			print(f"bookmark {p.volume_name(n)}#{n.name}: number {n.number}, guid {n.guid:016x}")
	for found in pool.report.found:
		where = f"{found['partition']}: " if found["partition"] else ""
		place = f" (block {found['block']})" if found["block"] is not None else ""
		print(f"damage: {where}{found['text']}{place}")


def find(pool, name):
	"""The partition and, where that is meant, its snapshot or clone; None: there is none."""
	name, is_snapshot, snapshot = name.partition("@")
	for p in pool.partitions:
		if p.name == name and not is_snapshot:
			return p, None
		for n in p.alive():
			if p.volume_name(n) == name and n.name == snapshot:
				return p, n
		for n in p.all_clones():
			if n.name == name and not is_snapshot:
				return p, n
	return None


def main():
	parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0], prog="decode.py")
	parser.add_argument("pool", help="a file or a block device that nobody uses")
	parser.add_argument("--json", action="store_true", help="print one JSON object")
	parser.add_argument("--totals", action="store_true", help="leave out where each address lies")
	parser.add_argument("--extract", nargs=2, metavar=("NAME[@SNAPSHOT]", "FILE"),
		help="write a partition's volume, a snapshot of it, or a clone, to a file")
	arguments = parser.parse_args()
	try:
		pool = Pool(arguments.pool)
	except Refused as why:
		print(f"decode.py: {arguments.pool}: {why}", file=sys.stderr)
		return 2
	if arguments.extract:
		found = find(pool, arguments.extract[0])
		if not found:
			print(f"decode.py: there is no {arguments.extract[0]}", file=sys.stderr)
			return 2
		found[0].extract(found[1], arguments.extract[1])
	if arguments.json:
		print_json(pool)
	else:
		print_text(pool, not (arguments.totals or arguments.extract))
	return 1 if pool.report.found else 0


if __name__ == "__main__":
	sys.exit(main())
