#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What has to work on a new machine: a root with nothing but Debian's base, git and make, and a clone of HEAD.
# usage: tools/bare-root.sh [test|packages]
#
# test: `make test` as the first command, as root; then the tests that depend on rights as a user without any.
# packages: Debian packages are built, judged by lintian, installed, used, upgraded and purged; see packages.sh.
#
# The base, and the packages that it downloads, are kept between runs, until the list of packages changes.
# Where such a root cannot be made it says why in one line and ends with 0. LCPFS_CACHE: where it is kept.
set -eu
cd "$(dirname "$0")/.."
CACHE=${LCPFS_CACHE:-/var/cache/lcpfs-bare-root}
KIB_NEEDED=4000000

cannot() {
	echo "bare root: not tried: $*"
	exit 0
}

# Mounts are in a namespace of their own, and go with it, as do processes: the rest of this script runs there.
what=${1:-test}
case $what in
test | packages) ;;
*)
	echo "usage: $0 [test|packages]" >&2
	exit 2
	;;
esac
if [ "${2-}" != inside ]; then
	[ "$(id -u)" -eq 0 ] || cannot "only root can make one"
	unshare --mount --pid --fork true 2>/dev/null || cannot "no namespaces of mounts and processes here"
	exec unshare --mount --pid --fork --kill-child --propagation private "$0" "$what" inside
fi

# What systemd-nspawn asks about its own processes, by the numbers that they have here.
mount -t proc proc /proc 2>/dev/null || :
command -v apt-get >/dev/null || cannot "this is not a Debian system"
git rev-parse --verify -q HEAD >/dev/null || cannot "this is not a clone"
{ mkdir -p "$CACHE" && exec 9>"$CACHE/lock"; } 2>/dev/null || cannot "$CACHE cannot be made"
flock -n 9 || cannot "another run uses $CACHE"
rm -rf --one-file-system "$CACHE"/run.* # of one that was killed
[ "$(df --output=avail -k "$CACHE" | tail -n 1)" -gt $KIB_NEEDED ] || cannot "less than 4G are free in $CACHE"
if ! command -v debootstrap >/dev/null; then
	apt-get -qq update >/dev/null 2>&1 || cannot "Debian's mirror cannot be reached"
	apt-get -qq -y install --no-install-recommends debootstrap >/dev/null 2>&1 || cannot "no debootstrap"
fi

# Debian's parts of what apt is told here: "URI SUITE", the main archive first.
# shellcheck disable=SC2016
sources=$(apt-get indextargets --format '$(LABEL) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' |
	sort -u | sort -s -k 1,1 | sed 's/^[^ ]* //')
mirror=$(echo "$sources" | head -n 1 | cut -d ' ' -f 1)
suite=$(echo "$sources" | head -n 1 | cut -d ' ' -f 2)
[ -n "$suite" ] || cannot "apt knows no mirror of Debian's"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
[ -z "${http_proxy-}" ] || export http_proxy
[ -z "${https_proxy-}" ] || export https_proxy

# -- the base, and what is kept --

key=$(tools/install-deps.sh test --list | cat - "$0" | sha256sum | cut -d ' ' -f 1)-$suite
if [ "$(cat "$CACHE/key" 2>/dev/null)" != "$key" ]; then
	rm -rf "$CACHE/base" "$CACHE/archives" "$CACHE/key"
	mkdir -p "$CACHE/archives"
	debootstrap --variant=minbase --include=git,make "$suite" "$CACHE/base" "$mirror" >"$CACHE/log" 2>&1 ||
		cannot "debootstrap failed: $(tail -n 1 "$CACHE/log")"
	rm -f "$CACHE"/base/var/cache/apt/archives/*.deb
	echo "$key" >"$CACHE/key"
fi
ROOT=
SECOND=
remove_roots() {
	for root in "$ROOT" "$SECOND"; do
		[ -n "$root" ] || continue
		umount -R -l "$root" 2>/dev/null
		rm -rf --one-file-system "$root"
	done
}
trap remove_roots EXIT
trap 'exit 1' HUP INT TERM

# new_root: a copy of the base, with this machine's devices; NEW is its folder.
new_root() {
	NEW=$(mktemp -d "$CACHE/run.XXXXXX")
	cp -a --reflink=auto "$CACHE/base/." "$NEW" || cannot "$CACHE/base cannot be copied"
	mkdir -p "$NEW/src" "$NEW/etc/apt/apt.conf.d"
	mount --bind "$NEW" "$NEW" || cannot "nothing can be mounted"
	mount --bind "$CACHE/archives" "$NEW/var/cache/apt/archives"
	mount --rbind /dev "$NEW/dev"
	mount --rbind /sys "$NEW/sys"
	mount -t proc proc "$NEW/proc" 2>/dev/null || mount --rbind /proc "$NEW/proc"
	chroot "$NEW" true || cannot "no chroot here"
}

# connect_root ROOT: its network, as here.
connect_root() {
	cp /etc/resolv.conf /etc/hosts "$1/etc/" 2>/dev/null || :
	echo "$sources" | sed 's/^/deb /; s/$/ main/' >"$1/etc/apt/sources.list"
	apt-config dump Acquire | grep -iE '^Acquire::(https?|ftp|Retries|Check-Valid-Until|ForceIPv)' \
		>"$1/etc/apt/apt.conf.d/machine" || :
	echo 'APT::Keep-Downloaded-Packages "true";' >>"$1/etc/apt/apt.conf.d/machine"
	chroot "$1" apt-get -qq -o APT::Update::Error-Mode=any update >/dev/null 2>&1 ||
		cannot "Debian's mirror cannot be reached from within"
}

new_root
ROOT=$NEW
connect_root "$ROOT"

# -- what is tested --

export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
git clone -q --no-hardlinks . "$ROOT/src"
export HOME=/root LANG=C.UTF-8
unset LCPFS_CACHE LANGUAGE LC_ALL TMPDIR MAKEFLAGS MAKELEVEL

if [ "$what" = packages ]; then
	. tools/packages.sh
	exit
fi
rm -rf "$ROOT"/var/lib/apt/lists/* # as on a machine that was just installed
echo "bare root: make test as root, in $suite with nothing but git and make, from $mirror"
chroot "$ROOT" make -C /src test WERROR=true </dev/null
echo "bare root: make test of what depends on rights, as a user without any"
chroot "$ROOT" useradd --create-home somebody
chroot "$ROOT" chown -R somebody /src
chroot "$ROOT" su somebody -c \
	"make -C /src test WERROR=true TESTS='--suite unit --suite cli --suite nbd'" </dev/null
