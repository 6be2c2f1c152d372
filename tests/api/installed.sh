#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make install` puts somewhere is whole: the example is built against it as pkg-config says, and runs; C++
# takes the headers; the units can be read; `make uninstall` leaves nothing.
. "$(dirname "$0")/../cli/lib.sh"
needs cc pkg-config meson ninja
[ -z "$SANITIZER" ] || skip "the library needs the sanitizer's"
BUILD=$(dirname "$LCPFS")
LOG=$BUILD/meson-logs/install-log.txt

# Of an installation by somebody else the log is kept: uninstall goes by it.
cp "$LOG" log 2>/dev/null || true
at_end 'if [ -e log ]; then cp log "$LOG"; else rm -f "$LOG"; fi'
meson install -C "$BUILD" --no-rebuild --destdir "$T/root" >installed 2>&1 || fail "$(cat installed)"
cd root
find . -type f -o -type l | sort >../files
cd ..
for file in bin/lcpfs liblcpfs.so liblcpfs.so.0 liblcpfs.a lcpfs.pc include/lcpfs/pool.h \
	bash-completion/completions/lcpfs system/lcpfs@.service system/lcpfs-attach@.service; do
	grep -q "/$file\$" files || fail "$file is missing: $(cat files)"
done
for page in "$BUILD"/man/*.1; do
	grep -q "/man1/$(basename "$page")\$" files || fail "$page is not installed: $(cat files)"
done

PC=$(dirname "$(find "$T/root" -name lcpfs.pc)")
export PKG_CONFIG_PATH="$PC" PKG_CONFIG_SYSROOT_DIR="$T/root"
flags=$(pkg-config --cflags --libs lcpfs)
# shellcheck disable=SC2086
cc -std=c11 -Wall -Wextra -Wpedantic -Werror "$TESTS/../examples/volume.c" $flags -o volume || fail "the example"
LD_LIBRARY_PATH=$(dirname "$(find "$T/root" -name liblcpfs.so)")
export LD_LIBRARY_PATH
[ "$(./volume pool)" = "db: what was flushed is never lost" ] || fail "the example"
check_clean pool
! ./volume pool 2>complaint || fail "a pool was overwritten"
grep -q pool complaint || fail "$(cat complaint)"

if command -v c++ >/dev/null; then
	for header in "$T"/root/*/local/include/lcpfs/*.h "$T"/root/usr/include/lcpfs/*.h; do
		[ ! -e "$header" ] || echo "#include <lcpfs/$(basename "$header")>"
	done >headers.cc
	[ -s headers.cc ] || fail "no headers"
	echo 'int main() { return lcpfs_error_name(LCPFS_E_NOSPC)[0] != 78; }' >>headers.cc
	# shellcheck disable=SC2086
	c++ -std=c++11 -Wall -Wextra -Werror headers.cc $flags -o headers || fail "C++ does not take the headers"
	./headers || fail "C++"
fi

if command -v systemd-analyze >/dev/null; then
	unit=$(find "$T/root" -name 'lcpfs@.service')
	exposure=$(systemd-analyze security --offline=true --no-pager "$unit" 2>/dev/null |
		sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
	[ -z "$exposure" ] || [ "$(echo "$exposure" | tr -d .)" -le 30 ] || fail "exposure $exposure"
fi
sh -n "$(find "$T/root" -name attach-unit)" || fail "attach-unit"

ninja -C "$BUILD" uninstall >uninstalled 2>&1 || fail "$(cat uninstalled)"
left=$(find "$T/root" -type f -o -type l 2>/dev/null || true)
[ -z "$left" ] || fail "left: $left"
