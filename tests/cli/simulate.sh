#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `lcpfs simulate`: what it takes and refuses, the fields it prints, the trace formats, the same result twice.
. "$(dirname "$0")/lib.sh"
SMALL="--pool 60M --partition hot:live=8M,writes=0.8 --partition cold:live=32M,writes=0.2 --metaslab 256K"

# refuses CODE TEXT ARGUMENT...: with that exit code and one line that says TEXT.
refuses() {
	wanted=$1 text=$2
	shift 2
	code=0
	timeout 60 "$LCPFS" simulate "$@" >out 2>err </dev/null || code=$?
	[ "$code" -eq "$wanted" ] || fail "simulate $*: exit code $code, not $wanted: $(cat out err)"
	[ "$(wc -l <err)" -eq 1 ] && grep -q -- "^lcpfs simulate: .*$text" err || fail "simulate $*: $(cat err)"
}

# Without tables it comes to an end, too, also where it has to clean.
code=0
timeout 60 "$LCPFS" simulate --pool 300M --writes 1G --partition hot:live=200M,writes=1 --policy static \
	--checkpoint 0% >out 2>err || code=$?
[ "$code" -eq 0 ] && grep -q "^static" out || fail "without tables: $code $(cat out err)"

# Every seed is a run of its own, where requests take different amounts of random numbers, too.
for pattern in uniform zipf:0.9; do
	for seed in 1 2 3 4; do
		"$LCPFS" simulate --pool 400M --policy static --writes 16M --requests --seed "$seed" \
			--partition "a:live=128M,writes=1,reads=1,pattern=$pattern" \
			--partition b:live=128M,writes=1 >out
		tail -n 500 out | sort -u >"seed.$seed"
	done
	for one in 1 2 3 4; do
		for other in 1 2 3 4; do
			[ "$one" -lt "$other" ] || continue
			[ "$(comm -12 "seed.$one" "seed.$other" | wc -l)" -lt 100 ] ||
				fail "$pattern: seeds $one and $other end with the same requests"
		done
	done
done

# Where nothing makes room any more it says so, and does not go on for ever.
code=0
timeout 60 "$LCPFS" simulate --spare 20% --metaslab 1M --writes 12G --policy static --start first --seed 2 \
	--partition hot:live=204.8M,writes=0.8,pattern=zipf:0.99 \
	--partition cold:live=819.2M,writes=0.2,pattern=zipf:0.99 >out 2>err || code=$?
[ "$code" -eq 1 ] && grep -q "cold needs at least" err || fail "no room: $code $(cat err)"

refuses 2 "nothing to simulate"
refuses 2 "unknown option.*--frob" --frob
refuses 2 "value is missing" --pool
refuses 2 "unexpected argument" extra
refuses 2 "--pool: not an acceptable value: 11Q" --pool 11Q
refuses 2 "--pool" --pool 0
refuses 2 "--seed" --seed 1.5
refuses 2 "--spare" --spare 10
refuses 2 "--repeat" --repeat 0
refuses 2 "--rate" --rate 1e12
refuses 2 "--rate" --rate 1e-300
refuses 2 "--request-us" --request-us 1e308
refuses 2 "--in-flight" --in-flight 0
refuses 2 "--in-flight" --in-flight 65
refuses 2 "--lag needs" --lag hot=many
refuses 2 "--lag needs" --lag hot=1+many
refuses 2 "--policy" --policy best
refuses 2 "--objective" --objective latency
refuses 2 "--format" --format pcap
refuses 2 "--prior" --prior hope=1
refuses 2 "live" --partition a:writes=1
refuses 2 "unacceptable value: writes=-1" --partition a:live=1M,writes=-1
refuses 2 "pattern" --partition a:live=1M,writes=1,pattern=gauss
refuses 2 "max is below" --partition a:live=4M,writes=1,max=2M
refuses 2 "same name" --partition a:live=4M,writes=1 --partition a:live=4M,writes=1
for name in "" .a -a "a b" "a/b" "o'brien" "a'.system('touch pwned').'" "a\`touch pwned\`" \
	"$(printf %064d 1)"; do
	refuses 2 "not a name that a pool takes" --partition "$name:live=1M,writes=1"
done
# shellcheck disable=SC2086
{
	refuses 2 "how much" $SMALL --policy static
	refuses 2 "nothing to compare" $SMALL --writes 1M
	refuses 2 "--lag: no such partition: warm" $SMALL --writes 1M --policy static --lag warm=9
	refuses 2 "no such partition" $SMALL --shift 1M:warm=1
	refuses 2 "no partition writes" $SMALL --shift 1M:hot=0,cold=0 --policy static --writes 1M
	refuses 2 "no partition writes" $SMALL --shift 1M:hot=0 --shift 2M:cold=0 --policy static --writes 1M
	refuses 2 "no partition writes" $SMALL --swing 1M:hot=0,cold=0 --policy static --writes 4M
	refuses 2 "no partition writes" $SMALL --shift 1M:hot=0 --swing 1M:cold=0 --policy static --writes 4M
	for weight in 1e308 1.1e15 -1 nan inf; do
		refuses 2 "--shift and --swing need NAME=WEIGHT" $SMALL --shift 1M:hot=$weight
		refuses 2 "unacceptable value: writes=$weight" --partition a:live=1M,writes=$weight
		refuses 2 "unacceptable value: reads=$weight" --partition a:live=1M,writes=1,reads=$weight
	done
	refuses 2 "hardly anything is written" --pool 40M --partition a:live=4M,writes=1e-9,reads=1 --writes 4M \
		--policy static
	refuses 2 "within a simulated second" $SMALL --policy static --writes 4M --rate 1e9
	refuses 1 "the pool needs at least" $SMALL --policy static --writes 1M --pool 12M
	refuses 1 "trace" --trace no/such/file --format csv --policy static
	refuses 1 "cannot write no/such/folder.svg" $SMALL --policy static --writes 1M --plot no/such/folder.svg
}
printf 'this is no trace\n' >text
refuses 1 "no request" --trace text --format csv --policy static

# simulates FILE ARGUMENT...: JSON into FILE
simulates() {
	file=$1
	shift
	lcpfs simulate "$@" --json >"$file" 2>err || fail "simulate $*: $(cat err)"
}

# shellcheck disable=SC2086
simulates first $SMALL --writes 120M --seed 3 --policy static --policy equal --policy threshold \
	--policy lcpfs-rs --policy learned --policy oracle --shift 100M:hot=0.5,cold=0.5
grep -q "learned.* 50 %" err || fail "no progress: $(cat err)"
# shellcheck disable=SC2086
simulates second $SMALL --writes 120M --seed 3 --policy static --policy equal --policy threshold \
	--policy lcpfs-rs --policy learned --policy oracle --shift 100M:hot=0.5,cold=0.5
cmp first second || fail "the same seed gave another result"
/usr/bin/python3 - <<'PYTHON' || fail "the fields of the result"
import json

result = json.load(open("first"))
names = {"static", "equal", "threshold", "lcpfs-rs", "learned", "oracle"}
assert set(result["policies"]) == names, result["policies"].keys()
for name, policy in result["policies"].items():
	for field in "wa wa_total epsilon moves undone converged_after_blocks".split():
		assert policy[field] >= 0, (name, field)
	assert [p["name"] for p in policy["partitions"]] == ["hot", "cold"]
	for field in "wa size_blocks live_blocks latency_us latency_p99_us epsilon".split():
		assert all(p[field] > 0 for p in policy["partitions"]), (name, field)
	assert policy["wa"] >= 1 and len(policy["series"]) > 50
	assert all(sum(point["size_blocks"]) <= result["pool_blocks"] for point in policy["series"])
policies = result["policies"]
# by what was written, however long it took: so runs can be compared point by point
assert len({tuple(point["user_blocks"] for point in policy["series"]) for policy in policies.values()}) == 1
assert policies["learned"]["moves"] > 0 and policies["static"]["moves"] == policies["lcpfs-rs"]["moves"] == 0
assert policies["threshold"]["moves"] > 0
assert policies["oracle"]["objective"] == "epsilon"
assert set(policies["oracle"]["objectives"]) == {"epsilon", "wa"}
spares = [p["size_blocks"] - data for p, data in zip(policies["equal"]["partitions"], (2048, 8192))]
assert abs(spares[0] - spares[1]) <= 64, spares
PYTHON

# Who is thin fills up, and gets the room it needs from the others at once. Who has snapshots has more to keep.
# shellcheck disable=SC2086
{
	TIGHT="--spare 20% --metaslab 256K --writes 200M --policy static"
	simulates thin $TIGHT --partition hot:live=16M,writes=1 --policy learned \
		--partition thin:live=16M,writes=0.001,unfilled=0.9 --shift 100M:hot=0.1,thin=0.9
	simulates held $TIGHT --partition hot:live=16M,writes=0.9,snapshots=8M --policy learned \
		--partition cold:live=16M,writes=0.1,snapshots=8M
	simulates plain $TIGHT --partition hot:live=16M,writes=0.9 --partition cold:live=16M,writes=0.1
	refuses 2 "exclude each other" $SMALL --partition c:live=1M,unfilled=0.5,snapshots=1M --writes 1M
	refuses 2 "unacceptable value: unfilled=1.5" --partition c:live=1M,unfilled=1.5
}
/usr/bin/python3 - <<'PYTHON' || fail "thin partitions and snapshots"
import json

thin, held, plain = (json.load(open(name))["policies"] for name in ("thin", "held", "plain"))
smallest = min(point["size_blocks"][1] for point in thin["learned"]["series"])
assert smallest < 4096 < thin["learned"]["partitions"][1]["size_blocks"], "it gave, and got it back"
for policy in thin.values():
	assert policy["partitions"][1]["live_blocks"] >= 4096, "it is full at the end"
hot, unheld = held["static"]["partitions"][0], plain["static"]["partitions"][0]
assert hot["live_blocks"] > unheld["live_blocks"] + 500, "what the snapshot holds is alive"
assert held["learned"]["moves"] > 0
PYTHON

# A background that is late, or takes long, copies less, in that partition; who waits for room changes the order.
LATE="--pool 48M --partition a:live=16M,writes=1 --partition b:live=16M,writes=1 --metaslab 256K --writes 300M"
# shellcheck disable=SC2086
{
	simulates on-time $LATE --policy static --lag 1
	simulates late $LATE --policy static --lag 1 --lag a=200
	simulates busy $LATE --policy static --lag 1 --lag a=1+60
	simulates waiting $LATE --policy static --lag 1000
	simulates in-flight $LATE --policy static --lag 1000 --in-flight 16
}
/usr/bin/python3 - <<'PYTHON' || fail "lag and in-flight"
import json

wa = {name: [p["wa"] for p in json.load(open(name))["policies"]["static"]["partitions"]]
	for name in ("on-time", "late", "busy", "waiting", "in-flight")}
print(wa)
assert wa["late"][0] < 0.98 * wa["on-time"][0] and abs(wa["late"][1] / wa["on-time"][1] - 1) < 0.01, wa
assert wa["busy"][0] < 0.98 * wa["on-time"][0] and abs(wa["busy"][1] / wa["on-time"][1] - 1) < 0.01, wa
assert wa["in-flight"] != wa["waiting"] and abs(wa["in-flight"][0] / wa["waiting"][0] - 1) < 0.05, wa
PYTHON

# Sizes that are given stand, and what they leave is free; min and max hold for every policy.
simulates given --pool 26M --partition a:live=4M,writes=1,size=8M,max=11M \
	--partition b:live=8M,writes=0,size=14M,min=13M --metaslab 128K --writes 30M --policy static --policy learned --policy threshold --policy oracle
/usr/bin/python3 - <<'PYTHON' || fail "sizes that were given"
import json

policies = json.load(open("given"))["policies"]
size = {name: [p["size_blocks"] * 4096 / 2**20 for p in policy["partitions"]] for name, policy in policies.items()}
assert size["static"] == [8, 14], size
for name, (a, b) in size.items():
	assert a <= 11 and b >= 13 and a + b <= 26, (name, a, b)
assert size["learned"][0] > 8, size
PYTHON

# A restart midway, and beliefs that were ten times off: the same sizes in the end.
beliefs="--restart"
for prior in pressure=1000 pressure=10 cooldown=3000 cooldown=30 growth=1 growth=0.01 shrink=0.5 shrink=0.005 \
	curve-level=10 curve-level=0.1 curve-power=2.5 curve-power=0.025 curve-scatter=0.5 curve-scatter=0.005 kept=5 \
	kept=0.05 copy-share=10 copy-share=0.1 latency-error=10 latency-error=0.1 trust=10 trust=0.1; do
	beliefs="$beliefs --prior=$prior"
done
# shellcheck disable=SC2086
simulates plain $SMALL --writes 600M --policy learned --policy oracle --start last
for belief in $beliefs; do
	# shellcheck disable=SC2086
	simulates other $SMALL --writes 600M --policy learned --start last $belief
	/usr/bin/python3 - "$belief" <<'PYTHON' || fail "$belief: elsewhere"
import json
import sys

plain, other = json.load(open("plain")), json.load(open("other"))
sizes = [[p["size_blocks"] for p in result["policies"]["learned"]["partitions"]] for result in (plain, other)]
apart = max(abs(a - b) for a, b in zip(*sizes)) / plain["pool_blocks"]
epsilon = other["policies"]["learned"]["epsilon"] / plain["policies"]["oracle"]["epsilon"]
print(f"{sys.argv[1]}: {apart:.4f} of the pool apart, epsilon {epsilon:.3f} of the oracle's")
assert apart <= (0.02 if sys.argv[1] == "--restart" else 1) and epsilon <= 1.05
PYTHON
done

# One load in three formats: a header of its own in CSV, 100 ns since 1601 in MSR, records of 32 bytes in vscsi.
/usr/bin/python3 - <<'PYTHON'
import random
import struct

random.seed(1)
operations = [(i * 500, random.random() < 0.8, random.randrange(500) * 4096 + random.choice((0, 2**21)),
	random.choice((4096, 16384))) for i in range(20000)]
with open("t.vscsi", "wb") as vscsi, open("t.msr", "w") as msr, open("t.csv", "w") as csv:
	csv.write("time_us,op,offset,length\n")
	for i, (us, write, offset, length) in enumerate(operations):
		vscsi.write(struct.pack("<IIIHHQQ", i, length, 1, 0x2a if write else 0x28, 1, offset // 512, us))
		vscsi.write(struct.pack("<IIIHHQQ", i, 0, 1, 0x35, 1, 0, us))  # another command: left out
		msr.write(f"{128166372000000000 + us * 10},host,0,{'Write' if write else 'Read'},{offset},{length},99\n")
		csv.write(f"{us},{'write' if write else 'read'},{offset},{length}\n")
PYTHON
for format in vscsi msr csv; do
	simulates "$format" --trace "t.$format" --format "$format" --split 2M --spare 100% --repeat 2 \
		--metaslab 128K --policy learned --policy static
	cmp vscsi "$format" || fail "$format: another result than vscsi"
	[ "$format" = vscsi ] || ! grep "left out" err || fail "$format: nothing is to be left out"
done
/usr/bin/python3 - <<'PYTHON' || fail "the trace's partitions"
import json

static = json.load(open("csv"))["policies"]["static"]
assert [p["name"] for p in static["partitions"]] == ["region0", "region1"]
assert static["series"][-1]["user_blocks"] > 2 * 0.75 * 20000
PYTHON

# What is left out of a trace is counted, and why the first of it was; blanks and the case of names do not matter.
left_out() {
	code=0
	timeout 60 "$LCPFS" simulate --trace "$1" --format "$2" --split 2M --spare 100% --repeat 2 \
		--metaslab 128K --policy static --json >other 2>err || code=$?
	[ "$code" -eq 0 ] && [ "$(grep -c "left out" err)" -eq 1 ] && grep -qxF "lcpfs simulate: $1: $3" err ||
		fail "$1: exit code $code: $(cat err)"
}

same_as_csv() {
	/usr/bin/python3 - "$1" <<'PYTHON' || fail "$1: another result than t.csv"
import json

static = [json.load(open(name))["policies"]["static"] for name in ("csv", "other")]
assert static[0] == static[1]
PYTHON
}

left_out t.vscsi vscsi "20000 of 40000 records left out (first: record 2: neither a read nor a write)"
same_as_csv t.vscsi
sed 's/,/ ,\t /g; s/write/W/; s/read/Read/; s/$/ \r/' t.csv >blanks.csv
sed -n '2,20s/$/\n/p' t.csv >>blanks.csv
sed -i '20002,$s/^[0-9]*,[a-z]*/9999500,discard/' blanks.csv
left_out blanks.csv csv "19 of 20039 lines left out (first: line 20002: neither a read nor a write)"
same_as_csv blanks.csv
bad() {
	{ cat t.csv && printf '%s\n' "$1"; } >bad.csv
	left_out bad.csv csv "1 of 20002 lines left out (first: line 20002: $2)"
	same_as_csv "$1"
}
bad "-5,w,0,4096" "its time is not a whole number"
bad "0.5,w,0,4096" "its time is not a whole number"
bad "99999999999999999999,w,0,4096" "its time is not a whole number"
bad "18446744073709551611,w,0,4096" "its offset or time is too large"
bad "0,Trim,0,4096" "neither a read nor a write"
bad "0,writes,0,4096" "neither a read nor a write"
bad "0,w,0" "too few fields"
bad "0,w,-4096,4096" "its offset or length is not a whole number"
bad "0,w,0,4096K" "its offset or length is not a whole number"
bad "0,w,0,16777217" "it is longer than 16 MiB"
bad "0,w,0,0" "it has no length"

# Requests are put in order of time, those of the same time in the file's; some time must pass.
/usr/bin/python3 - <<'PYTHON'
import random

random.seed(2)
heading, *lines = open("t.csv")
lines = [f"{int(us) // 2000 * 2000},{rest}" for us, rest in (line.split(",", 1) for line in lines)]
open("in-order.csv", "w").writelines(lines)
times = {}
for line in lines:
	times.setdefault(line.split(",")[0], []).append(line)
places = [time for time, same in times.items() for _ in same]
random.shuffle(places)
open("shuffled.csv", "w").writelines(times[time].pop(0) for time in places)
open("stray.csv", "w").writelines([*lines[:5000], "99000000000000,w,0,4096\n", *lines[5000:]])
open("stray-last.csv", "w").writelines([*lines, "99000000000000,w,0,4096\n"])
open("no-time.csv", "w").writelines("5," + line.split(",", 1)[1] for line in lines)
open("reads.csv", "w").writelines(line.replace("write", "read") for line in lines)
PYTHON
for name in in-order shuffled stray stray-last; do
	simulates "$name.json" --trace $name.csv --format csv --split 2M --spare 100% --metaslab 128K \
		--policy learned
done
cmp in-order.json shuffled.json && cmp stray.json stray-last.json || fail "another result in another order"
refuses 1 "no time passes in no-time.csv" --trace no-time.csv --format csv --policy static
refuses 2 "the trace writes nothing: reads.csv" --trace reads.csv --format csv --policy static
refuses 2 "too long to be repeated" --trace stray.csv --format csv --policy static --repeat 1e6

refuses 2 "larger than 4 TiB" --partition a:live=1T,writes=1 --spare 10000% --policy static --writes 1M
if [ -z "$SANITIZER" ]; then # whose shadow takes more than that
	(
		ulimit -v 400000
		refuses 1 "not enough memory" --partition a:live=1T,writes=1 --pool 2T --policy static --writes 1M
	)
fi

# A picture that gnuplot fails to draw leaves the one that was there, and nothing else.
mkdir pictures failing
printf '#!/bin/sh\n[ "$1" != --version ]\n' >failing/gnuplot
chmod +x failing/gnuplot
printf 'the last one' >pictures/out.svg
(
	PATH=$T/failing:$PATH
	# shellcheck disable=SC2086
	refuses 1 "--plot needs gnuplot" $SMALL --writes 1M --policy static --plot pictures/out.svg
	printf '#!/bin/sh\n[ "$1" = --version ]\n' >failing/gnuplot
	# shellcheck disable=SC2086
	! lcpfs simulate $SMALL --writes 1M --policy static --plot pictures/out.svg >out 2>err || fail "$(cat out)"
	grep -q "^lcpfs simulate: --plot: gnuplot failed on pictures/out.svg$" err || fail "$(cat err)"
)
[ "$(ls pictures)" = out.svg ] && [ "$(cat pictures/out.svg)" = "the last one" ] || fail "$(ls pictures)"

if command -v gnuplot >/dev/null; then
	# shellcheck disable=SC2086
	lcpfs simulate $SMALL --writes 30M --policy static --policy learned --plot out.svg >/dev/null 2>err ||
		fail "$(cat err)"
	grep -q "</svg>" out.svg && grep -q "learned: sizes" out.svg || fail "no picture"
	# names as they are, of partitions and of files; a file as any other program makes it
	for path in "|touch pwned" "~o'brien's.svg" 'a"$(touch pwned)".svg' '`touch pwned`.svg' 'back\slash.svg'
	do
		(
			cd pictures
			umask 027
			lcpfs simulate --pool 40M --partition db_main:live=4M,writes=1 --metaslab 128K \
				--writes 4M --policy static --plot "$path" >/dev/null 2>err &&
				[ ! -e pwned ] &&
				grep -q ">db_main<" "$path" && grep -q "</svg>" "$path" &&
				[ "$(stat -c %a "$path")" = 640 ]
		) || fail "$path: $(ls -l pictures; cat pictures/err)"
	done
	! ls pictures | grep "svg\.......$" || fail "a temporary file stayed"
fi
[ ! -e pwned ] || fail "a command was run"
