#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a root with the packages that is booted three times, with a kernel of its own: see packages.sh. First a line
# of /etc/fstab is written, then it has to be mounted at boot, and after a shutdown all has to be as it was left.
# Run with sh -eux.
STEP=$(cat /packages/step 2>/dev/null || echo 1)
echo $((STEP + 1)) >/packages/step

case $STEP in
1)
	lcpfs create /srv/pool.lcpfs --size 512M --metaslab 1M
	lcpfs add /srv/pool.lcpfs db --min 64M --max 256M --volume 64M
	echo POOL=/srv/pool.lcpfs >/etc/lcpfs/data.conf
	systemctl enable lcpfs@data.service
	device=$(lcpfs attach /srv/pool.lcpfs db)
	systemctl is-active lcpfs@data.service
	mkfs.ext4 -q "$device"
	uuid=$(blkid -o value -s UUID "$device")
	lcpfs detach /srv/pool.lcpfs db
	mkdir /srv/db
	options=discard,nofail,x-systemd.requires=lcpfs-attach@data:db.service
	echo "UUID=$uuid /srv/db ext4 $options 0 0" >>/etc/fstab
	systemctl daemon-reload
	systemctl start srv-db.mount
	head -c 3000000 /dev/urandom >/packages/data
	cp /packages/data /srv/db/first

	# An upgrade while it is mounted.
	dpkg -i /newer/*.deb
	systemctl restart lcpfs@data.service
	cp /packages/data /srv/db/second
	sync -f /srv/db
	echo 3 >/proc/sys/vm/drop_caches
	cmp /packages/data /srv/db/first
	;;
2)
	mountpoint /srv/db
	grep " /srv/db " /proc/mounts | grep "^/dev/nbd"
	cmp /packages/data /srv/db/first
	cmp /packages/data /srv/db/second
	cp /packages/data /srv/db/third
	;;
3)
	mountpoint /srv/db
	cmp /packages/data /srv/db/third
	[ "$(lcpfs get /srv/pool.lcpfs db recoveries -Hpo value)" = 0 ]
	for boot in -2 -1; do
		journalctl -b $boot >/packages/journal
		# That somebody looks at a device which is just taken away is no harm.
		if grep -E "lost async|EXT4-fs error|ordering cycle|lcpfs.*Failed with" /packages/journal; then
			exit 1
		fi
		# The file system, the device, the server.
		grep -nE "Unmounted srv-db.mount|Stopped lcpfs-attach@|Stopped lcpfs@data" /packages/journal |
			tail -n 3 | tee /packages/order
		[ "$(grep -oE "srv-db.mount|lcpfs-attach@|lcpfs@data" /packages/order | tr '\n' ' ')" = \
			"srv-db.mount lcpfs-attach@ lcpfs@data " ]
	done
	umount /srv/db
	systemctl stop lcpfs-attach@data:db.service lcpfs@data.service
	lcpfs check /srv/pool.lcpfs --data
	;;
esac
