# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The Debian packages, from a bare root to one that has forgotten them; sourced by bare-root.sh.
#
# They are built by a user without rights from what debian/control asks for, and lintian has no errors or warnings
# about them. The library's example is built against them as C, its headers as C++. Then they are installed in a
# root that has systemd. That is booted by an emulated machine, where a file system on a partition is mounted by
# a line of /etc/fstab (packages-guest.sh), and in a container, where they are upgraded and purged
# (packages-boot.sh).

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
in_root "$ROOT" sh -ec 'cd /built
	apt-get -qq -y install --no-install-recommends ./liblcpfs0_*.deb ./liblcpfs-dev_*.deb >/dev/null
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
	linux-image-amd64 initramfs-tools e2fsprogs udev kmod >"$CACHE/log" 2>&1 ||
	give_up "$(tail -n 20 "$CACHE/log")"
in_root "$SECOND" sh -c 'apt-get -qq -y install --no-install-recommends /packages/*.deb' >"$CACHE/log" 2>&1 ||
	give_up "$(tail -n 20 "$CACHE/log")"
in_root "$SECOND" sh -ec 'lcpfs help | sed -n "s/^  \([a-z][a-z]*\) .*/\1/p" >/tmp/commands
	[ "$(wc -l </tmp/commands)" -gt 30 ]
	while read -r command; do
		[ -e "/usr/share/man/man1/lcpfs-$command.1.gz" ] || { echo "no page of $command"; exit 1; }
	done </tmp/commands' || give_up "man pages"

cp tools/packages-run.sh "$SECOND/packages/run.sh"
cat >"$SECOND/etc/systemd/system/packages.service" <<'UNIT'
[Unit]
Description=What is tried here
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh /packages/run.sh
UNIT
mkdir -p "$SECOND/etc/systemd/system/graphical.target.wants"
ln -s ../packages.service "$SECOND/etc/systemd/system/graphical.target.wants/"
umount -R -l "$SECOND"
rm -f "$SECOND"/var/lib/apt/lists/*Packages

# -- a whole boot, with a kernel that has nbd --

boot_guest() {
	command -v qemu-system-x86_64 >/dev/null ||
		apt-get -qq -y install --no-install-recommends qemu-system-x86 >/dev/null 2>&1 || :
	command -v qemu-system-x86_64 >/dev/null || { say "no qemu: no boot with a line of /etc/fstab"; return; }
	say "booting it three times with a line of /etc/fstab, emulated"
	cp tools/packages-guest.sh "$SECOND/packages/boot.sh"
	mkdir -p "$SECOND/var/log/journal"
	truncate -s 4G "$CACHE/run.disk"
	mke2fs -q -t ext4 -d "$SECOND" "$CACHE/run.disk"
	timeout 1500 qemu-system-x86_64 -accel tcg -smp 1 -m 1024 -display none \
		-serial "file:$CACHE/log" -drive "file=$CACHE/run.disk,format=raw,if=virtio,cache=unsafe" \
		-kernel "$(echo "$SECOND"/boot/vmlinuz-*)" -initrd "$(echo "$SECOND"/boot/initrd.img-*)" \
		-append "root=/dev/vda rw console=ttyS0 no_timer_check" 2>>"$CACHE/log" || :
	status=$(debugfs -R "cat /packages/status" "$CACHE/run.disk" 2>/dev/null)
	steps=$(debugfs -R "cat /packages/step" "$CACHE/run.disk" 2>/dev/null)
	debugfs -R "cat /packages/log" "$CACHE/run.disk" >"$CACHE/boot.log" 2>/dev/null
	rm -f "$CACHE/run.disk"
	[ "$steps.$status" = 4.0 ] || give_up "step ${steps:-0}: $(tail -n 30 "$CACHE/boot.log" "$CACHE/log")"
	rm -rf "$SECOND/var/log/journal"
}
boot_guest

# -- a container: a pool as a service, an upgrade, a purge --

command -v systemd-nspawn >/dev/null ||
	apt-get -qq -y install --no-install-recommends systemd-container >/dev/null 2>&1 || :
command -v systemd-nspawn >/dev/null || cannot "no systemd-nspawn; all before that is well"
cp tools/packages-boot.sh "$SECOND/packages/boot.sh"
say "booting it in a container: a pool as a service, an upgrade, a purge"
timeout 600 systemd-nspawn -q -D "$SECOND" --keep-unit --register=no --boot >"$CACHE/log" 2>&1 </dev/null || :
[ -e "$SECOND/packages/status" ] || give_up "it did not boot: $(tail -n 20 "$CACHE/log")"
[ "$(cat "$SECOND/packages/status")" = 0 ] || give_up "$(tail -n 60 "$SECOND/packages/log")"

# The administrator's own stays, and what the test has made.
left=$(cd "$SECOND" && find . -xdev -name '*lcpfs*' ! -path './packages/*' ! -path './newer/*' ! -path './srv/*' |
	grep -vxE '\./etc/lcpfs|\./var/lib/prometheus/node-exporter/lcpfs-data\.prom' || :)
[ -z "$left" ] || give_up "left behind: $left"
say "all is well"
