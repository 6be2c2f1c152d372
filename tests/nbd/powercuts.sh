#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The power fails under the real server and real clients: what a flush or FUA covered is there, whatever else of
# what the system's cache held is lost, kept or torn. Some flushes and writes of the device fail before that.
# ROUNDS: how often (2). IMAGES: how many states of each are looked at (3). SEED: drawn by the clock.
free=$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1)
[ ! -w /dev/shm ] || [ "${free:-0}" -lt 500 ] || export TMPDIR=/dev/shm # nothing of it has to outlive anything
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no python3-libnbd"
[ -n "${POWERCUT:-}" ] && [ -f "$POWERCUT" ] || skip "no library to preload"
[ -z "$SANITIZER" ] || skip "a sanitizer has to be preloaded first"
SEED=${SEED:-$(date +%s%N)}

lcpfs create "$T/pool" --size 48M --metaslab 1M
for name in db log; do
	lcpfs add "$T/pool" "$name" --min 8M --max 32M --size 14M --volume 8M >/dev/null
done
/usr/bin/python3 "$TESTS/nbd/powercut.py" "$LCPFS" "$POWERCUT" "$T" "${ROUNDS:-2}" "${IMAGES:-3}" "$SEED" ||
	fail "with SEED=$SEED"
