#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# status says which of the learned thresholds matter now, explain what was held against what: of decisions that a
# server makes up, which tells what the test says.
. "$(dirname "$0")/lib.sh"
POOL=$T/pool
lcpfs create "$POOL" --size 64M --metaslab 1M
lcpfs add "$POOL" db --min 8M --max 16M >/dev/null
lcpfs add "$POOL" log --min 8M --max 16M >/dev/null
lcpfs status "$POOL" --json >status.json
GUID=$(sed 's/.*"guid":"\([0-9a-f]*\)".*/\1/' status.json)
serve "$POOL"
unserve KILL # its lease stays
wait_released "$POOL"
hold "$POOL"
TELLS=
at_end 'kill $TELLS 2>/dev/null'

# tell COMMAND CHANGES...: what the command prints of a decision with these fields.
tell() {
	command=$1
	shift
	/usr/bin/python3 -c '
import json, sys
told = json.load(open("status.json"))
d = told["decision"]
d["sentence"], d["advice"], d["ranking"], d["trust"], d["outcomes"] = "what", "nothing", "who", 0.5, 4
d["to"].update(id=1, name="db", size_blocks=25600, pressure=300, epsilon=800)
d["from"].update(id=2, name="log", size_blocks=51200, epsilon=200)
d.update(expected_gain=50, expected_error=10, expected_saving_blocks_s=256, horizon_s=10, cost_blocks=512,
	copying_budget_blocks=2560, blocks=256, growth_step=0.1, growth_rate=0.5, shrink_step=0.05,
	shrink_rate=0.5, pressure_threshold=100, balance_blocks=1024)
exec(sys.argv[1])
json.dump(told, open("told.json", "w"))' "$*"
	[ -z "$TELLS" ] || { kill "$TELLS"; wait "$TELLS" 2>/dev/null || true; }
	rm -f "$SOCKET.control"
	/usr/bin/python3 "$TESTS/cli/hostile_server.py" "$SOCKET.control" "$POOL" "$GUID" "$T/told.json" \
		>tells 2>&1 &
	TELLS=$!
	wait_until grep -q up tells
	expect 0 lcpfs "$command" "$POOL"
}

says() {
	sed 's/  */ /g; s/ $//' out | grep -qx -- "$1" || fail "not \"$1\": $(cat out)"
}

tell status 'pass'
says 'pressure 100 0 0% nothing: db presses enough'
says 'cooldown 5 min 0 0% nothing: blocks written tell'
says 'growth step 10.0% 0 0% nothing: less is wanted'
says 'shrink step 5.0% 0 0% nothing: less is wanted'
tell status 'told["pool"]["engine"]["thresholds"]["pressure"]["value"] = 1000; d["balance_blocks"] = 25600;
told["pool"]["engine"]["thresholds"]["pressure"]["observations"] = 7'
says 'pressure 1000 7 0% moves to db are smaller: it has 300'
says 'growth step 10.0% 0 0% db gets at most 15.0M at once'
says 'shrink step 5.0% 0 0% log gives at most 15.0M at once'
tell status 'd["outcomes"] = 0; d["reason"] = "wait_effect"; d["from"]["id"] = 0
d["to"]["since_change_blocks"] = 0'
says 'pressure 100 0 0% nothing: no move was judged yet'
says 'cooldown 5 min 0 0% db writes nothing: it is waited for'
says 'shrink step 5.0% 0 0% nothing: free space gives'
tell status 'd["to"]["id"] = 0'
says 'pressure 100 0 0% nothing: no move is weighed'
says 'growth step 10.0% 0 0% nothing: no move is weighed'

tell explain 'pass'
[ "$(sed -n 1,3p out | tr '\n' '|')" = "what|What you can do: nothing|who|" ] || fail "$(cat out)"
says 'clients wait less by 5.0% 1.0% its standard error'
says 'writing saved 10.0M 2.00M copied for it'
says 'copied for it 2.00M 10.0M what moves may cost now'
says 'moved 1.00M 4.00M until in balance'
says 'growth 1.0% 10.0% the growth step'
says 'shrinking 0.5% 5.0% the shrink step'
says 'pressure 300 100 where moves helped'
tell explain 'd["from"].update(id=0, name="")'
! grep -q '^shrinking' out || fail "free space shrinks: $(cat out)"
tell explain 'd["from"]["id"] = d["to"]["id"] = 0'
! grep -q '^COMPARED' out || fail "nothing was compared: $(cat out)"
