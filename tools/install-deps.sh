#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing from Debian's packages, and says so first. Silent when everything is there.
# usage: tools/install-deps.sh build|use|test|demo|bench|evidence|fuzz|coverage [--list]
set -eu

build='gcc libc6-dev meson ninja-build pkg-config liburing-dev libxxhash-dev libblkid-dev
	libjson-c-dev libsmartcols-dev libgnutls28-dev libmicrohttpd-dev libncurses-dev
	scdoc mandoc'
clients='libnbd-bin fio python3 python3-libnbd'
filesystems='fuse3 mount util-linux e2fsprogs xfsprogs'
testing='nbdkit nbdkit-plugin-dev qemu-utils gnutls-bin libcmocka-dev libnbd-dev binutils procps gnuplot-nox
	curl jq python3-prometheus-client python3-jsonschema python3-xxhash'
peers='nbdkit qemu-utils qemu-system-common btrfs-progs lvm2 thin-provisioning-tools'

case ${1-} in
build) packages=$build ;;
use) packages="$build libnbd-bin fio fuse3 mount e2fsprogs" ;; # what README's five minutes take
test) packages="$build $clients $testing $filesystems" ;;
demo) packages="$build $clients gnuplot-nox" ;;
bench) packages="$build $clients gnuplot-nox $filesystems $peers" ;;
evidence) packages="$build $clients $filesystems gnuplot-nox postgresql" ;;
fuzz) packages="$build clang llvm libclang-rt-14-dev" ;;
coverage) packages="$build $clients $testing gcovr" ;;
*)
	echo "usage: $0 build|use|test|demo|bench|evidence|fuzz|coverage [--list]" >&2
	exit 2
	;;
esac
if [ "${2-}" = --list ]; then
	# shellcheck disable=SC2086
	printf '%s\n' $packages
	exit 0
fi

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $packages; do
	is_installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# give_up WHY: with the line that somebody else can run.
give_up() {
	echo "$1. Have somebody with the right to run, and then come back:" >&2
	echo "    apt-get install --no-install-recommends$missing" >&2
	exit 1
}

if ! command -v apt-get >/dev/null; then
	echo "Not a Debian system: install what corresponds to these packages yourself:$missing" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo=sudo
	command -v sudo >/dev/null || give_up "Packages are missing, and there is no sudo"
	# It may ask for a password, where there is somebody to ask.
	if ! sudo -n true 2>/dev/null; then
		{ [ -t 0 ] && sudo -v; } || give_up "Packages are missing, and sudo does not let you install them"
	fi
fi

# apt_get WHAT ARGUMENTS...: of what apt says (STATUS:PACKAGE:PERCENT:WORDS of its progress, and much else) a line
# at each tenth; all the rest if it fails.
apt_get() {
	what=$1
	shift
	{
		# shellcheck disable=SC2016
		$sudo env DEBIAN_FRONTEND=noninteractive sh -c '
			exec apt-get -qq -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 "$@" 3>&1 2>&1' apt-get "$@" ||
			echo "apt-get ended with $?"
	} | awk -F: -v what="$what" '
		/^(dl|pm)status:/ {
			if (int($3 / 10) > last) {
				last = int($3 / 10)
				printf "  %s: %d %%\n", what, 10 * last
				fflush()
			}
			next
		}
		{ rest = rest $0 "\n" }
		/^apt-get ended with/ { failed = 1 }
		END { if (failed) { printf "%s", rest; exit 1 } }' || give_up "The packages could not be installed"
}

echo "Installing from Debian${sudo:+ (through sudo)}:$missing"
apt_get "lists of packages" update
# shellcheck disable=SC2086
apt_get "downloading" -y --download-only install --no-install-recommends $missing
# shellcheck disable=SC2086
apt_get "installing" -y install --no-install-recommends $missing
