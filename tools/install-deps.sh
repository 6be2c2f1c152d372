#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing from Debian's packages, and says so first. Silent when everything is there.
# usage: tools/install-deps.sh build|test|demo|bench|fuzz|coverage
set -eu

build='gcc libc6-dev meson ninja-build pkg-config nbdkit nbdkit-plugin-dev liburing-dev libxxhash-dev libblkid-dev
	libjson-c-dev libsmartcols-dev scdoc'
clients='libnbd-bin fio python3 python3-libnbd'
testing='libcmocka-dev libnbd-dev binutils mandoc procps gnuplot-nox'
filesystems='fuse3 mount util-linux e2fsprogs xfsprogs'
peers='qemu-utils qemu-system-common btrfs-progs'

case ${1-} in
build) packages=$build ;;
test) packages="$build $clients $testing $filesystems" ;;
demo) packages="$build $clients gnuplot-nox" ;;
bench) packages="$build $clients gnuplot-nox $filesystems $peers" ;;
fuzz) packages="$build clang llvm libclang-rt-14-dev" ;;
coverage) packages="$build $clients $testing gcovr" ;;
*)
	echo "usage: $0 build|test|demo|bench|fuzz|coverage" >&2
	exit 2
	;;
esac

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $packages; do
	is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "Not a Debian system: install what corresponds to these packages yourself:$missing" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo=sudo
	if ! command -v sudo >/dev/null; then
		echo "As root, please: apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
fi
echo "Installing from Debian${sudo:+ (through sudo)}:$missing"
$sudo apt-get -qq update
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >/dev/null
