#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every option and command that a client can send, by libnbd: what is agreed on, what each does, how each is
# refused.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
POOL=$T/pool

lcpfs create "$POOL" --size 256M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 128M --size 64M --volume 48M >/dev/null
serve "$POOL"
cat >client.py <<'PYTHON'
import errno
import sys

import nbd

URI = "nbd+unix:///{}?socket=" + sys.argv[1]
SIZE = 48 << 20


def connected(name="db", set_up=lambda h: None):
	h = nbd.NBD()
	h.set_strict_mode(0)
	set_up(h)
	h.connect_uri(URI.format(name))
	return h


def refused(code, do, *arguments):
	try:
		do(*arguments)
	except nbd.Error as error:
		assert error.errnum == code, (error, code)
		return
	sys.exit(f"{do}{arguments} was not refused")


# options
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(URI.format(""))
names = []
h.opt_list(lambda name, description: names.append((name, description)))
assert names == [("db", f"lcpfs partition of {SIZE} bytes")], names
h.set_full_info(True)
h.opt_info()
assert h.get_size() == SIZE and h.get_canonical_export_name() == "db", "the only one is the default"
assert h.get_export_description() == f"lcpfs partition of {SIZE} bytes"
h.set_export_name("none")
try:
	h.opt_info()
	sys.exit("an export that is not there")
except nbd.Error:
	pass
contexts = []
h.set_export_name("db")
h.opt_list_meta_context(lambda name: contexts.append(name))
assert contexts == ["base:allocation", "lcpfs:changed"], contexts
h.opt_go()
assert h.get_protocol() == "newstyle-fixed" and h.get_structured_replies_negotiated()
sizes = [h.get_block_size(i) for i in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)]
assert sizes == [1, 4096, 32 << 20], sizes
h.shutdown()
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(URI.format("db"))
h.opt_abort()

# what is told of the export
h = connected(set_up=lambda h: h.add_meta_context("base:allocation"))
assert not h.is_read_only() and not h.is_rotational()
assert h.can_cache() and h.can_df() and h.can_fast_zero() and h.can_flush() and h.can_fua()
assert h.can_multi_conn() and h.can_trim() and h.can_zero() and h.can_meta_context("base:allocation")


def extents(offset, length, flags=0):
	found = []
	h.block_status(length, offset, lambda context, start, entries, error: found.extend(entries) and 0, flags)
	return found


# commands
HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO
assert extents(0, SIZE) == [SIZE, HOLE]
h.pwrite(b"a" * 8192, 4096)
assert extents(0, 1 << 20) == [4096, HOLE, 8192, 0, (1 << 20) - 12288, HOLE]
assert extents(4096, 1 << 20, nbd.CMD_FLAG_REQ_ONE) == [8192, 0]
assert h.pread(10000, 0) == bytes(4096) + b"a" * 5904
h.pwrite(b"b" * 3, 5000, nbd.CMD_FLAG_FUA)
assert h.pread(5, 4999) == b"abbba"
h.zero(4096, 4096)
assert extents(0, 16384) == [8192, HOLE, 4096, 0, 4096, HOLE]
h.zero(4096, 4096, nbd.CMD_FLAG_NO_HOLE)  # zeros that take their space
assert extents(0, 16384) == [4096, HOLE, 8192, 0, 4096, HOLE] and h.pread(4096, 4096) == bytes(4096)
h.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
refused(errno.ENOTSUP, h.zero, 4096, 8192, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
h.trim(SIZE, 0)
assert extents(0, SIZE) == [SIZE, HOLE]
h.cache(SIZE, 0)
h.flush()
for length in (32 << 20, (32 << 20) - 1, 40 << 20):  # with structured replies also beyond what is advertised
	assert h.pread(length, 1) == bytes(length)
chunks = []
h.pread_structured(3 << 20, 0, lambda data, offset, status, error: chunks.append((offset, len(data))) and 0)
assert sum(n for _, n in chunks) == 3 << 20
chunks.clear()
h.pread_structured(3 << 20, 0, lambda data, offset, status, error: chunks.append((offset, len(data))) and 0,
	nbd.CMD_FLAG_DF)
assert chunks == [(0, 3 << 20)], chunks

# nothing at all
assert h.pread(0, 100) == b""
h.pwrite(b"", 100)
h.trim(0, 100)
h.zero(0, 100)

# what is refused
refused(errno.EINVAL, h.pread, 2, SIZE - 1)
refused(errno.ENOSPC, h.pwrite, b"xx", SIZE - 1)
refused(errno.EINVAL, h.trim, 2, SIZE - 1)
refused(errno.ENOSPC, h.zero, 2, SIZE - 1)
refused(errno.EINVAL, h.cache, 2, SIZE - 1)
refused(errno.EINVAL, h.block_status, 2, SIZE - 1, lambda *_: 0)
refused(errno.EINVAL, h.block_status, 0, 0, lambda *_: 0)
refused(errno.EINVAL, h.pread, 1, 1 << 63)
refused(errno.EINVAL, h.trim, 1, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.pwrite, bytes(33 << 20), 0)
assert h.pread(512, 0) == bytes(512), "it goes on after all that"
h.shutdown()

# simple replies
h = connected(set_up=lambda h: h.set_request_structured_replies(False))
assert not h.get_structured_replies_negotiated() and not h.can_df()
h.pwrite(b"c" * 70000, 12345)
assert h.pread(70002, 12344) == b"\0" + b"c" * 70000 + b"\0"
assert h.pread(32 << 20, 4096) == bytes(12345 - 4096) + b"c" * 70000 + bytes((32 << 20) - 70000 - 12345 + 4096)
refused(errno.EINVAL, h.pread, (32 << 20) + 1, 0)
refused(errno.EINVAL, h.pread, 1, SIZE)
refused(errno.ENOSPC, h.pwrite, b"x", SIZE)
h.flush()
h.shutdown()

# the oldest way in, with and without the zeroes
for flags in (nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE, nbd.HANDSHAKE_FLAG_NO_ZEROES, 0):
	h = connected(set_up=lambda h: h.set_handshake_flags(flags))
	assert h.get_size() == SIZE and h.pread(3, 12344) == b"\0cc"
	h.shutdown()
PYTHON
/usr/bin/python3 client.py "$SOCKET"
unserve
lcpfs add "$POOL" other --min 16M --max 32M >/dev/null
serve "$POOL"
! nbdinfo "nbd+unix:///?socket=$SOCKET" >/dev/null 2>&1 || fail "of two exports one is the default"
[ "$(nbdinfo --list "nbd+unix:///?socket=$SOCKET" | grep -c '^export=')" -eq 2 ] || fail "not two exports"
unserve
check_clean "$POOL"
