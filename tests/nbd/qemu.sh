#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# QEMU's clients: images copied both ways, compared, mapped; every command that qemu-io has; a QEMU server in
# between.
. "$(dirname "$0")/../cli/lib.sh"
needs qemu-img qemu-io qemu-nbd nbdcopy nbdinfo
POOL=$T/pool

lcpfs create "$POOL" --size 384M --metaslab 1M
lcpfs add "$POOL" a --min 16M --max 200M --size 150M --volume 64M >/dev/null
lcpfs add "$POOL" b --min 16M --max 200M --size 100M --volume 64M >/dev/null
serve "$POOL"
A=$(uri a) B=$(uri b)

truncate -s 64M image
/usr/bin/python3 -c '
import os
with open("image", "r+b") as f:
	for at in range(0, 64 << 20, 5 << 20):
		f.seek(at)
		f.write(os.urandom(1 << 20))'
qemu-img convert -n -f raw -O raw image "$A"
qemu-img compare -q -f raw -F raw image "$A" || fail "not what was written"
qemu-img convert -n -f raw -O raw -m 8 -W "$A" "$B"
qemu-img compare -q -f raw -F raw "$A" "$B" || fail "not what was copied"
qemu-img convert -f raw -O qcow2 "$B" copy.qcow2
qemu-img compare -q copy.qcow2 image || fail "not what was read"
[ "$(qemu-img map --output=json "$A" | grep -c '"data": true')" -ge 13 ] || fail "$(qemu-img map "$A")"
nbdcopy "$A" "$B"
qemu-img compare -q -f raw -F raw "$A" "$B" || fail "nbdcopy differs"

io() {
	qemu-io -f raw "$@" >io.out 2>&1 || fail "qemu-io $*: $(cat io.out)"
	! grep -qi "failed\|error" io.out || fail "qemu-io $*: $(cat io.out)"
}
io -c 'write -P 0x11 0 1M' -c 'read -P 0x11 0 1M' -c 'write -f -P 0x22 4096 512' -c 'read -P 0x22 4096 512' "$B"
io -c 'write -z 64k 64k' -c 'read -P 0 64k 64k' -c 'write -z -u 128k 64k' -c 'read -P 0 128k 64k' "$B"
io -c 'discard 256k 256k' -c 'read -P 0 256k 256k' -c flush "$B"
io -c 'aio_write -P 0x33 1M 8M' -c 'aio_write -P 0x44 9M 8M' -c aio_flush -c 'read -P 0x33 1M 8M' \
	-c 'read -P 0x44 9M 8M' "$B"
io -c 'writev -P 0x55 20M 512 1024 4096 12288' -c 'readv -P 0x55 20M 17920' "$B"

# qemu-nbd in front: a copy-on-write layer of another's making.
qemu-img create -q -f qcow2 -b "$A" -F raw layer.qcow2
qemu-nbd -t -f qcow2 -k "$T/layer.sock" layer.qcow2 &
LAYER=$!
at_end "end_job $LAYER"
wait_until nbdinfo --size "nbd+unix:///?socket=$T/layer.sock" 2>/dev/null >/dev/null
io -c 'write -P 0x66 0 1M' -c 'read -P 0x66 0 1M' "nbd+unix:///?socket=$T/layer.sock"
kill "$LAYER"
wait "$LAYER" || true
qemu-img compare -q -f raw -F raw image "$A" || fail "the layer wrote below itself"

# The storage daemon in front: QEMU's block layer with its own connection, which the server ends under it once.
if command -v qemu-storage-daemon >/dev/null; then
	of=driver=nbd,server.type=unix,server.path=$SOCKET,export=b,reconnect-delay=60,discard=unmap
	qemu-storage-daemon --blockdev "node-name=b,$of" --nbd-server "addr.type=unix,addr.path=$T/daemon.sock" \
		--export type=nbd,id=e,node-name=b,name=b,writable=on >daemon.log 2>&1 &
	DAEMON=$!
	at_end "end_job $DAEMON"
	D="nbd+unix:///b?socket=$T/daemon.sock"
	wait_until nbdinfo --size "$D" 2>/dev/null >/dev/null
	io -c 'write -P 0x88 0 4M' -c 'discard 4M 1M' -c 'write -z 5M 1M' -c flush "$D"
	io -c 'read -P 0x88 0 4M' -c 'read -P 0 4M 2M' "$D"
	unserve
	serve "$POOL" # it connects anew
	io -c 'read -P 0x88 0 4M' -c 'write -f -P 0x99 1M 1M' -c 'read -P 0x99 1M 1M' "$D"
	kill "$DAEMON"
	wait "$DAEMON" || true
	io -c 'read -P 0x99 1M 1M' "$B"
fi

# nbdkit in front: what its filters are for.
if command -v nbdkit >/dev/null && nbdkit nbd --version >/dev/null 2>&1; then
	nbdkit -f -U "$T/filtered.sock" --filter=cow nbd uri="$A" &
	FILTER=$!
	at_end "end_job $FILTER"
	wait_until nbdinfo --size "nbd+unix:///?socket=$T/filtered.sock" 2>/dev/null >/dev/null
	io -c 'write -P 0x77 0 1M' -c 'read -P 0x77 0 1M' "nbd+unix:///?socket=$T/filtered.sock"
	kill "$FILTER"
	wait "$FILTER" || true
	qemu-img compare -q -f raw -F raw image "$A" || fail "the filter wrote below itself"
fi
unserve
check_clean "$POOL"
