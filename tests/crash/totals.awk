# SPDX-License-Identifier: Apache-2.0
# Adds up the lines that storesim and poolsim print.
function number_before(word) {
	if (!match($0, "[0-9]+ " word))
		return 0
	return substr($0, RSTART, RLENGTH) + 0
}
function pair(name, i) {
	if (!match($0, name " [0-9]+ / [0-9]+"))
		return
	split(substr($0, RSTART + length(name) + 1, RLENGTH), parts, " / ")
	found[name] += parts[1]
	injected[name] += parts[2]
}
{
	states += number_before("crash states")
	distinct += number_before("distinct")
	second += number_before("with a second cut")
	cuts += number_before("power cuts")
	faults += number_before("faults injected")
	met += number_before("met")
	if (match($0, "filled [0-9]+"))
		fills += substr($0, RSTART + 7, RLENGTH - 7)
	pair("metadata")
	pair("both copies")
	pair(", data")
}
END {
	printf "soak: %d power cuts, %d crash states (%d distinct, %d with a second cut), ", cuts, states, distinct, second
	printf "%d faults injected (%d met), ", faults, met
	printf "rot found / injected: metadata %d / %d, both copies %d / %d, data %d / %d, ", found["metadata"],
		injected["metadata"], found["both copies"], injected["both copies"], found[", data"], injected[", data"]
	printf "filled %d times, %d real kills; 0 lost, 0 wrong\n", fills, kills
}
