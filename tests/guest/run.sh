#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests of this folder in a guest with Debian's kernel, which has what this machine's may lack. GUEST names a
# program that runs a command there, with this folder's tree readable and writable: GUEST [--mem MIB] -- COMMAND ...
# Do not build meanwhile: the guest runs what is built here.
set -eu
cd "$(dirname "$0")/../.."
: "${GUEST:=../shared/guest/run}"
[ -x "$GUEST" ] || { echo "skipped: no $GUEST"; exit 77; }
for test in tests/guest/*.sh; do
	[ "$test" != tests/guest/run.sh ] || continue
	status=0
	"$GUEST" --mem 1536 -- env LCPFS="${LCPFS:-$PWD/build/lcpfs}" sh "$test" || status=$?
	echo "$test: $status"
	[ $status -eq 0 ] || [ $status -eq 77 ] || exit 1
done
