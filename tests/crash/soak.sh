#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the simulators and the real kills with ever new seeds for so many minutes. Prints what was covered, at the end
# and after each round into BUILD/soak.txt. Stops at the first difference; the line that begins with the simulator's
# name and FAILED says how to replay it. ROUNDS: how often the server is killed each time (10).
# usage: tests/crash/soak.sh BUILD MINUTES [FIRST_SEED]
set -eu
build=$1
end=$(($(date +%s) + $2 * 60))
seed=${3:-$(date +%s)}
jobs=$(nproc)
here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)
kills=0
trap 'ended $?; rm -f "$log" "$log.kills"' EXIT

totals() {
	awk -v kills="$kills" -f "$here/totals.awk" "$log"
}

ended() {
	[ "$1" -eq 0 ] || echo "soak: FAILED. Before that:"
	totals
}

run() {
	"$build/tests/crash/$@" >>"$log" || { tail -n 3 "$log"; exit 1; }
}

# kills_of SCRIPT: runs it and counts the kills that its last line tells of. Exit code 77: skipped.
kills_of() {
	status=0
	LCPFS=$(realpath "$build/lcpfs") sh "$here/$1" >"$log.kills" 2>&1 || status=$?
	[ "$status" -ne 77 ] || return 0
	[ "$status" -eq 0 ] || { cat "$log.kills"; exit 1; }
	kills=$((kills + $(sed -n '$s/.*[^0-9]*\b\([0-9][0-9]*\) \(of them killed\|kills;\).*/\1/p' "$log.kills")))
}

real_kills() {
	KILLS=20 kills_of kill-cli.sh
	KILLS=22 kills_of kill-snapshots.sh
	ROUNDS=${ROUNDS:-10} kills_of ../nbd/kill.sh
	POWERCUT=$(realpath "$build/tests/nbd/powercut.so")
	export POWERCUT
	ROUNDS=${ROUNDS:-10} IMAGES=20 kills_of ../nbd/powercuts.sh
}

meson compile -C "$build" storesim poolsim powercut >/dev/null
echo "soak: from seed $seed on"
while [ "$(date +%s)" -lt "$end" ]; do
	run storesim --mode cuts --seed "$seed" --seeds 80 --fates 24 --jobs "$jobs"
	run storesim --mode subsets --seed "$seed" --seeds 80 --ops 30 --jobs "$jobs"
	run poolsim --mode cuts --seed "$seed" --seeds 10 --fates 16 --jobs "$jobs"
	run storesim --mode errors --seed "$seed" --seeds 2 --ops 20 --jobs "$jobs"
	run poolsim --mode errors --seed "$seed" --seeds 1 --ops 12 --jobs "$jobs"
	run storesim --mode memory --seed "$seed" --seeds 4 --ops 20 --jobs "$jobs"
	run poolsim --mode memory --seed "$seed" --seeds 1 --ops 12 --jobs "$jobs"
	run poolsim --mode snaps --seed "$seed" --seeds 10 --fates 12 --jobs "$jobs"
	run poolsim --mode snaperrors --seed "$seed" --seeds 2 --ops 14 --jobs "$jobs"
	run poolsim --mode snapmemory --seed "$seed" --seeds 2 --ops 14 --jobs "$jobs"
	run storesim --mode rot --seed "$seed" --seeds 4 --ops 40 --jobs "$jobs"
	run storesim --mode rotcuts --seed "$seed" --seeds 40 --ops 40 --fates 6 --jobs "$jobs"
	run storesim --mode full --seed "$seed" --seeds 20 --ops 40 --jobs "$jobs"
	real_kills
	seed=$((seed + 80))
	totals >"$build/soak.txt"
done
