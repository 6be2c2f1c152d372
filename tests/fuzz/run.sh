#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Coverage-guided fuzzing of every target with the address and undefined-behaviour sanitizers, on two processors.
# usage: tests/fuzz/run.sh [MINUTES]
# image, the slowest, gets one of the processors, the others share the second; FUZZ_TARGETS="image text": only
# these.
# It goes on from the inputs that earlier runs left in build-fuzz/NAME; what fails is kept in build-fuzz/found/
# until it is removed, and build-fuzz/fuzz_NAME FILE replays it.
set -eu
cd "$(dirname "$0")/../.."
all='image control reply arguments trace text stream engine nbd'
minutes=${1:-4}
out=build-fuzz
flags='-g -O2 -fno-omit-frame-pointer -std=c17 -D_GNU_SOURCE -DLCPFS_AUDIT -Iinclude -Isrc -I.'
# shellcheck disable=SC2089,SC2090 # the quotes are for C
flags="$flags -DLCPFS_VERSION=\"fuzz\""
flags="$flags -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
packages=$(pkg-config --cflags --libs libxxhash liburing json-c blkid smartcols gnutls libmicrohttpd ncursesw)
wraps=$(cat tests/fuzz/wraps.txt)
export ASAN_OPTIONS="quarantine_size_mb=4:thread_local_quarantine_size_kb=64${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

parts_of() {
	case $1 in
	image | control) echo tests/fuzz/images.c tests/fuzz/overlay.c ;;
	reply) echo cli/show.c cli/size.c cli/table.c ;;
	arguments) find cli sim -name '*.c' ! -path cli/main.c ! -path cli/session.c ! -path cli/attach.c \
		! -path cli/top.c ;;
	trace) echo sim/trace.c ;;
	nbd) echo tests/serve/world.c -Wl,--wrap=lane_submit ;;
	text) echo cli/size.c ;;
	esac
}

# How long an input may be, and what may be allocated in one piece for it (MiB), however hostile it is.
# nbd is so quick that weighing inputs would take as long as running them.
limits_of() {
	case $1 in
	image) echo -max_len=122 -malloc_limit_mb=40 ;;
	control) echo -max_len=2000 -malloc_limit_mb=40 -dict=tests/fuzz/json.dict ;;
	reply) echo -max_len=4000 -malloc_limit_mb=8 -dict=tests/fuzz/json.dict ;;
	arguments) echo -max_len=1000 -malloc_limit_mb=8 -dict=tests/fuzz/arguments.dict ;;
	trace) echo -max_len=1000 -malloc_limit_mb=64 ;;
	nbd) echo -max_len=200 -malloc_limit_mb=16 -entropic=0 ;;
	*) echo -max_len=4096 -malloc_limit_mb=8 ;;
	esac
}

# The product once: comparisons are traced in what is special to a target only, since that costs much.
build() {
	rm -rf $out/objects
	mkdir -p $out/objects $out/found
	# shellcheck disable=SC2086,SC2090
	find src -name '*.c' | while read -r file; do
		echo -c -o "$out/objects/$(echo "$file" | tr / _).o" "$file"
	done | xargs -P 2 -n 4 clang $flags -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp
	for target in $targets; do
		# shellcheck disable=SC2046,SC2086,SC2090
		clang $flags -fsanitize=fuzzer $([ $target != arguments ] || echo $wraps) -o $out/fuzz_$target \
			tests/fuzz/$target.c $(parts_of $target) $out/objects/*.o $packages -lm -lpthread
		mkdir -p $out/"$target"
	done
}

# fuzz TARGET SECONDS
fuzz() {
	# shellcheck disable=SC2046
	$out/fuzz_"$1" $(limits_of "$1") -max_total_time="$2" -timeout=30 -report_slow_units=30 -rss_limit_mb=512 \
		-len_control=0 -print_final_stats=1 -artifact_prefix=$out/found/"$1"- $out/"$1" tests/fuzz/corpus/"$1" \
		>/dev/null 2>$out/"$1".log || echo "fuzz: $1: found something, see $out/$1.log"
	new=$(sed -n 's/^stat::number_of_executed_units: *//p' $out/"$1".log)
	before=$(cat $out/"$1".executions 2>/dev/null || echo 0)
	echo $((before + ${new:-0})) >$out/"$1".executions
	echo "fuzz: $1: ${new:-0} executions, with earlier runs $((before + ${new:-0}))"
}

targets=${FUZZ_TARGETS:-$all}
build
fast=$(echo "$targets" | tr ' ' '\n' | grep -vx image || true)
[ "$fast" = "$(echo "$targets" | tr ' ' '\n')" ] || fuzz image $((minutes * 60)) &
for target in $fast; do
	fuzz "$target" $((minutes * 60 / $(echo "$fast" | wc -l)))
done
wait
total=0
for target in $all; do
	total=$((total + $(cat $out/"$target".executions 2>/dev/null || echo 0)))
done
echo "fuzz: $total executions of all targets, with earlier runs"
found=$(ls $out/found)
[ -z "$found" ] || {
	echo "fuzz: open findings in $out/found: $found"
	exit 1
}
