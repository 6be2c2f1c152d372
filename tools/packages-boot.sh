#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a booted root that has the packages of /packages installed, and those of /newer not: see packages.sh.
# Run with sh -eux.
wait_until() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ]
		sleep 0.2
	done
}
pid_of() {
	systemctl show -p MainPID --value "$1"
}

# A pool with a name, another one by its path.
lcpfs create /srv/pool.lcpfs --size 512M --metaslab 1M
lcpfs add /srv/pool.lcpfs db --min 64M --max 256M --volume 64M
printf '#!/bin/sh\ncat >>/srv/told\n' >/usr/local/sbin/told
chmod +x /usr/local/sbin/told
cat >/etc/lcpfs/data.conf <<'CONFIG'
# of the test
POOL=/srv/pool.lcpfs
cache=64M
tls_psk=
alarm=10
hook=/usr/local/sbin/told
OPTIONS=--tune observe --metrics 9711
CONFIG
systemctl enable --now lcpfs@data.service
systemctl is-active lcpfs@data.service
lcpfs get /srv/pool.lcpfs cache -Hpo value | grep -x 67108864
lcpfs create /srv/other.lcpfs --size 128M --metaslab 1M
other=$(systemd-escape --path --template=lcpfs@.service /srv/other.lcpfs)
systemctl start "$other"
systemctl is-active "$other"
systemctl stop "$other"
lcpfs check /srv/other.lcpfs

# Clients, numbers, the journal.
head -c 40000000 /dev/urandom >/srv/data
nbdcopy --flush /srv/data 'nbd+unix:///db?socket=/run/lcpfs/data.sock'
mkdir -p /var/lib/prometheus/node-exporter
systemctl start lcpfs-metrics@data.service
grep -q '^lcpfs_partition_data_bytes{' /var/lib/prometheus/node-exporter/lcpfs-data.prom
systemctl start lcpfs-metrics@data.timer
systemctl is-active lcpfs-metrics@data.timer
journalctl -u lcpfs@data.service | grep -q 'serving /srv/pool.lcpfs'
exposure=$(systemd-analyze security --no-pager lcpfs@data.service |
	sed -n 's/.*exposure level.*: \([0-9]*\)\.\([0-9]\) .*/\1\2/p')
[ "$exposure" -le 30 ]

# Who is to be told is; what is wrong in the file is told, and not tried again.
wait_until grep -q '"event":"full".*"partition":"db"' /srv/told
if journalctl -b | grep -i 'lcpfs.*invalid environment'; then exit 1; fi
echo cach=64M >/etc/lcpfs/wrong.conf
if systemctl start lcpfs@wrong.service; then exit 1; fi
journalctl -u lcpfs@wrong.service | grep 'wrong.conf, line 1: serve has no option cach'
[ "$(systemctl show -p NRestarts --value lcpfs@wrong.service)" = 0 ]
rm /etc/lcpfs/wrong.conf

# nbdkit finds its plugin.
nbdkit -U /tmp/nbdkit.sock -P /tmp/nbdkit.pid lcpfs /srv/other.lcpfs
wait_until test -s /tmp/nbdkit.pid
kill "$(cat /tmp/nbdkit.pid)"
wait_until lcpfs check /srv/other.lcpfs

# Killed, it comes again.
before=$(pid_of lcpfs@data.service)
kill -9 "$before"
comes_again() {
	now=$(pid_of lcpfs@data.service)
	[ "$now" != 0 ] && [ "$now" != "$before" ] && systemctl is-active lcpfs@data.service
}
wait_until comes_again

# An upgrade leaves the server alone until it is restarted.
before=$(pid_of lcpfs@data.service)
dpkg -i /newer/*.deb
dpkg-query -W -f '${Version}\n' lcpfs | grep -F +again
[ "$(pid_of lcpfs@data.service)" = "$before" ]
lcpfs list /srv/pool.lcpfs
systemctl restart lcpfs@data.service
[ "$(pid_of lcpfs@data.service)" != "$before" ]
nbdcopy 'nbd+unix:///db?socket=/run/lcpfs/data.sock' /srv/again
cmp -n 40000000 /srv/data /srv/again

# Gone, but for what is the administrator's.
export DEBIAN_FRONTEND=noninteractive
dpkg --purge lcpfs nbdkit-plugin-lcpfs liblcpfs-dev liblcpfs0
if systemctl is-active lcpfs@data.service; then exit 1; fi
[ -z "$(find /proc/[0-9]*/exe -lname "*/lcpfs*" 2>/dev/null)" ]
[ ! -e /run/lcpfs ]
[ ! -e /usr/bin/lcpfs ]
[ -e /srv/pool.lcpfs ]
[ -e /etc/lcpfs/data.conf ]
