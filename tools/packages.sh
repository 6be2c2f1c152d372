# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The Debian packages, from a bare root to one that has forgotten them; sourced by bare-root.sh.
#
# They are built by a user without rights from what debian/control asks for, and lintian has no errors or warnings
# about them. The library's example is built against them as C, its headers as C++. Then they are installed in a
# root that has systemd, and that is booted in a container: tools/packages-boot.sh is what happens there.

say() {
	echo "packages: $*"
}
give_up() {
	echo "packages: FAILED: $*" >&2
	exit 1
}
in_root() {
	env DEBIAN_FRONTEND=noninteractive chroot "$@" </dev/null
}

say "building, in $suite from $mirror"
in_root "$ROOT" apt-get -qq -y install --no-install-recommends dpkg-dev lintian >"$CACHE/log" 2>&1 ||
	give_up "$(tail -n 20 "$CACHE/log")"
in_root "$ROOT" apt-get -qq -y build-dep /src >"$CACHE/log" 2>&1 || give_up "$(tail -n 20 "$CACHE/log")"
in_root "$ROOT" useradd --create-home somebody
mkdir "$ROOT/built"
mv "$ROOT/src" "$ROOT/built/lcpfs"
in_root "$ROOT" chown -R somebody /built
in_root "$ROOT" su somebody -c 'cd /built/lcpfs && dpkg-buildpackage -us -uc' >"$CACHE/log" 2>&1 ||
	give_up "$(tail -n 60 "$CACHE/log")"
in_root "$ROOT" su somebody -c 'cd /built && lintian --fail-on error,warning *.changes' || give_up "lintian"
PACKAGES="lcpfs liblcpfs0 liblcpfs-dev nbdkit-plugin-lcpfs"
for package in $PACKAGES; do
	[ -e "$(echo "$ROOT/built/${package}_"*.deb)" ] || give_up "no package $package"
done

say "the library's example, in C and C++"
in_root "$ROOT" sh -ec 'apt-get -qq -y install --no-install-recommends /built/liblcpfs0_*.deb /built/liblcpfs-dev_*.deb >/dev/null
	cd /tmp
	cp /usr/share/doc/liblcpfs-dev/examples/volume.c .
	flags=$(pkg-config --cflags --libs lcpfs)
	cc -std=c11 -Wall -Wextra -Wpedantic -Werror volume.c $flags -o volume
	[ "$(./volume pool)" = "db: what was flushed is never lost" ]
	for header in /usr/include/lcpfs/*.h; do echo "#include <lcpfs/${header##*/}>"; done >headers.cc
	echo "int main() { return lcpfs_error_name(LCPFS_E_NOSPC)[0] == 0; }" >>headers.cc
	c++ -std=c++11 -Wall -Wextra -Werror headers.cc $flags -o headers
	./headers' || give_up "the example"

new_root
SECOND=$NEW
connect_root "$SECOND"
mkdir "$SECOND/packages" "$SECOND/newer"
for package in $PACKAGES; do
	cp "$ROOT/built/${package}_"*.deb "$SECOND/packages/"
	# A newer version: the same with another number.
	in_root "$ROOT" sh -ec "cd /built && rm -rf again && dpkg-deb -R ${package}_*.deb again &&
		sed -i 's/^Version: .*/&+again/; s/(= \\([^)]*\\))/(= \\1+again)/' again/DEBIAN/control &&
		dpkg-deb --root-owner-group -b again again.deb >/dev/null" || give_up "a newer $package"
	mv "$ROOT/built/again.deb" "$SECOND/newer/$package.deb"
done

say "installing"
in_root "$SECOND" apt-get -qq -y install --no-install-recommends systemd systemd-sysv dbus man-db libnbd-bin \
	>"$CACHE/log" 2>&1 || give_up "$(tail -n 20 "$CACHE/log")"
in_root "$SECOND" sh -c 'cd / && find . -xdev \( -type f -o -type l \) ! -path "./var/*" ! -path "./tmp/*" | sort' \
	>"$CACHE/files"
in_root "$SECOND" sh -c 'apt-get -qq -y install --no-install-recommends /packages/*.deb' >"$CACHE/log" 2>&1 ||
	give_up "$(tail -n 20 "$CACHE/log")"
in_root "$SECOND" sh -ec 'lcpfs help | sed -n "s/^  \([a-z]*\) .*/\1/p" >/tmp/commands
	[ "$(wc -l </tmp/commands)" -gt 30 ]
	while read -r command; do
		[ -e "/usr/share/man/man1/lcpfs-$command.1.gz" ] || { echo "no page of $command"; exit 1; }
	done </tmp/commands' || give_up "man pages"

if ! command -v systemd-nspawn >/dev/null; then
	apt-get -qq -y install --no-install-recommends systemd-container >/dev/null 2>&1 || :
fi
command -v systemd-nspawn >/dev/null || cannot "no systemd-nspawn; packages are built and installed"
cp tools/packages-boot.sh "$SECOND/packages/boot.sh"
cat >"$SECOND/etc/systemd/system/packages.service" <<'UNIT'
[Unit]
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sh -eux /packages/boot.sh >/packages/log 2>&1; echo $? >/packages/status; systemctl poweroff --no-block'
UNIT
mkdir -p "$SECOND/etc/systemd/system/graphical.target.wants"
ln -s ../packages.service "$SECOND/etc/systemd/system/graphical.target.wants/"
umount -R -l "$SECOND"
say "booting it: a pool as a service, an upgrade, a purge"
timeout 600 systemd-nspawn -q -D "$SECOND" --keep-unit --register=no --boot >"$CACHE/log" 2>&1 </dev/null || :
[ -e "$SECOND/packages/status" ] || give_up "it did not boot: $(tail -n 20 "$CACHE/log")"
[ "$(cat "$SECOND/packages/status")" = 0 ] || give_up "$(tail -n 60 "$SECOND/packages/log")"
say "what it prints stands in all order: $(grep -c '^+' "$SECOND/packages/log") steps"

(cd "$SECOND" && find . -xdev \( -type f -o -type l \) ! -path "./var/*" ! -path "./tmp/*" | sort) >"$CACHE/left"
# What is not the packages': the administrator's, the test's, and what a first boot makes.
left=$(comm -13 "$CACHE/files" "$CACHE/left" | grep -Ev '^\./(packages|newer|srv|run|proc|sys|dev)/|^\./etc/(lcpfs/data.conf|machine-id|systemd/system/.*packages.service|\.updated|\.pwd\.lock)|^\./etc/(resolv.conf|hostname)$' || :)
[ -z "$left" ] || give_up "left behind: $left"
say "all is well"
