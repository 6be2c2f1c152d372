#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Coverage-guided fuzzing of every target with the address and undefined-behaviour sanitizers.
# usage: tests/fuzz/run.sh [MINUTES]		all together; or FUZZ_SECONDS=60 for each target
# What is found stays in build-fuzz/NAME: an input that crashes is replayed by build-fuzz/fuzz_NAME FILE.
set -eu
cd "$(dirname "$0")/../.."
targets=${FUZZ_TARGETS:-image control text engine}
seconds=${FUZZ_SECONDS:-$((${1:-4} * 60 / 4))}
out=build-fuzz
flags="-g -O1 -std=c17 -D_GNU_SOURCE -DLCPFS_VERSION=\"fuzz\" -DLCPFS_AUDIT -Iinclude -Isrc -I."
sanitizers="-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
packages=$(pkg-config --cflags --libs libxxhash liburing json-c blkid)
sources=$(find src -name '*.c')

mkdir -p $out
for target in $targets; do
	# shellcheck disable=SC2086
	clang $flags $sanitizers -o $out/fuzz_$target tests/fuzz/$target.c cli/size.c $sources $packages -lm -lpthread
done
for target in $targets; do
	mkdir -p $out/$target
	$out/fuzz_$target -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix=$out/$target/ $out/$target tests/fuzz/corpus/$target 2>$out/$target.log || {
		tail -40 $out/$target.log
		echo "fuzz: $target: found something, see $out/$target.log"
		exit 1
	}
	echo "fuzz: $target: $(grep -o 'number_of_executed_units: [0-9]*' $out/$target.log | grep -o '[0-9]*') executions"
done
