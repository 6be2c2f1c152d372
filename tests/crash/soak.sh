#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the simulators and the real kills with ever new seeds for so many minutes, and prints what was covered. Stops
# at the first difference; the line that begins with the simulator's name and FAILED says how to replay it.
# usage: tests/crash/soak.sh BUILD MINUTES [FIRST_SEED]
set -eu
build=$1
end=$(($(date +%s) + $2 * 60))
seed=${3:-$(date +%s)}
jobs=$(nproc)
here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)
kills=0
trap 'rm -f "$log"' EXIT

run() {
	"$build/tests/crash/$@" >>"$log" || { tail -n 3 "$log"; exit 1; }
}

real_kills() {
	KILLS=20 LCPFS=$(realpath "$build/lcpfs") sh "$here/kill-cli.sh" >/dev/null && kills=$((kills + 20))
	[ ! -f "$here/../nbd/kill.sh" ] || LCPFS=$(realpath "$build/lcpfs") sh "$here/../nbd/kill.sh" >/dev/null
	kills=$((kills + 4))
}

meson compile -C "$build" storesim poolsim >/dev/null
echo "soak: from seed $seed on"
while [ "$(date +%s)" -lt "$end" ]; do
	run storesim --mode cuts --seed "$seed" --seeds 40 --fates 8 --jobs "$jobs"
	run storesim --mode subsets --seed "$seed" --seeds 10 --ops 40 --jobs "$jobs"
	run poolsim --mode cuts --seed "$seed" --seeds 20 --fates 8 --jobs "$jobs"
	run storesim --mode errors --seed "$seed" --seeds 4 --ops 30 --jobs "$jobs"
	run poolsim --mode errors --seed "$seed" --seeds 2 --ops 16 --jobs "$jobs"
	run poolsim --mode memory --seed "$seed" --seeds 1 --ops 16 --jobs "$jobs"
	run storesim --mode rot --seed "$seed" --seeds 10 --ops 80 --jobs "$jobs"
	run storesim --mode full --seed "$seed" --seeds 40 --ops 100 --jobs "$jobs"
	real_kills
	seed=$((seed + 40))
done
awk -v kills="$kills" -f "$here/totals.awk" "$log"
