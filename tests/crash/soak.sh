#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the simulators with ever new seeds for so many minutes; stops at the first difference, which its seed
# replays.
# usage: tests/crash/soak.sh BUILD MINUTES [FIRST_SEED]
set -eu
build=$1
end=$(($(date +%s) + $2 * 60))
seed=${3:-$(date +%s)}

meson compile -C "$build" storesim >/dev/null
echo "soak: from seed $seed on"
while [ "$(date +%s)" -lt "$end" ]; do
	"$build/tests/crash/storesim" --seed "$seed" --seeds 10 --cut-every 1 --fates 6
	seed=$((seed + 10))
done
