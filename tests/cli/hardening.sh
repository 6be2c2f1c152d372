#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is built has the protections that Debian builds with: stack protector, FORTIFY, full RELRO, position
# independent, marked for shadow stacks and branch tracking.
. "$(dirname "$0")/lib.sh"
needs readelf
[ -z "$SANITIZER" ] || skip "sanitized"
BUILD=$(dirname "$LCPFS")
readelf -dW "$LCPFS" | grep -q 'FLAGS_1.*PIE' || fail "lcpfs is not position independent"
for file in "$LCPFS" "$BUILD"/liblcpfs.so.*.*.[0-9]; do
	[ -e "$file" ] || continue
	readelf -sW "$file" >symbols
	grep -q __stack_chk_fail symbols || fail "$file: no stack protector"
	grep -qE '__[a-z]+_chk' symbols || fail "$file: no FORTIFY"
	readelf -lW "$file" | grep -q GNU_RELRO || fail "$file: no RELRO"
	readelf -dW "$file" | grep -q NOW || fail "$file: RELRO is partial"
	[ "$(uname -m)" != x86_64 ] || readelf -nW "$file" | grep -q 'IBT, SHSTK' || fail "$file: not marked"
done
