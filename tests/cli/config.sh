#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# serve --config: a file of options. The command line counts more; what is wrong is told with its line.
. "$(dirname "$0")/lib.sh"
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "no libnbd for Python"
POOL=$T/pool

lcpfs create "$POOL" --size 128M --metaslab 1M >/dev/null
lcpfs add "$POOL" db --min 16M --max 24M --volume 64M --thin >/dev/null
printf '#!/bin/sh\ncat >>"%s"\n' "$T/told" >hook
chmod +x hook
touch told
NOTHING=

# wrong CODE WORDS CONFIG: the server does not start.
wrong() {
	printf '%b' "$3" >config
	expect "$1" timeout 60 "$LCPFS" serve "$POOL" --socket "$SOCKET" --config config
	says "$2"
}
wrong 2 "config, line 3: serve has no option hooks; see lcpfs help serve" '# a comment\n\nhooks=/bin/true\n'
wrong 2 "config, line 4: it is not NAME=VALUE" 'OPTIONS="--tune on \\\n  --cache 1G"\n; x\ntune on\n'
wrong 2 "config, line 1: serve has no option config" 'config=other\n'
wrong 2 "config, line 1: serve has no option tune x" 'tune x=on\n'
wrong 2 "config, line 1: serve has no option ;" '=on\n'
wrong 2 "config, line 2: verbose=maybe: it is yes or no" 'POOL=/x\nverbose=maybe'
wrong 2 "no such mode: sometimes" 'tune=sometimes\n'
wrong 2 "hook none: name the program from the root on" 'hook=none\n'
wrong 2 "metrics 1.2.3:9711 is not PORT" 'metrics=1.2.3:9711\n'
wrong 2 "TLS needs" 'tls=on\n'
wrong 1 "config: Invalid argument" 'tune=on\n\0hook=/x\n'
head -c 70000 /dev/zero | tr '\0' '#' >config
expect 1 lcpfs serve "$POOL" --socket "$SOCKET" --config config
says "File too large"
expect 1 lcpfs serve "$POOL" --socket "$SOCKET" --config "$T"
says "Is a directory"
for name in none -; do
	expect 1 lcpfs serve "$POOL" --socket "$SOCKET" --config $name
	says "$name: No such file"
done
expect 0 lcpfs get "$POOL" tune -Hpo value
[ "$(head -n 1 out)" = observe ] || fail "something was changed: $(cat out)"

# Each kind of option, and how values may be written.
cat >config <<CONFIG

  # of systemd
POOL=/dev/null
OPTIONS=--no \\
 option=1
	hook = "$T/hook"	$NOTHING
cache='8M'
tune=off
alarm=
no_uring=yes
verbose=no
socket=$T/elsewhere
alarm=60%
CONFIG
serve "$POOL" --config config --tune=observe
[ ! -e elsewhere ] || fail "the command line counts less"
expect 0 lcpfs get "$POOL" tune cache alarm -Hpo value
[ "$(head -n 3 out | tr "\n" " ")" = "observe 8388608 60 " ] || fail "$(cat out)"
/usr/bin/python3 -c 'import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for at in range(0, 16 << 20, 1 << 18): h.pwrite(b"x" * (1 << 18), at)
h.flush()' "$(uri db)"
is_told() { grep -q '"event":"full".*"partition":"db"' told; }
wait_until is_told
unserve
if grep -q "client" server.log; then fail "verbose=no: $(cat server.log)"; fi

# All by the file alone; and one that need not be there.
printf 'socket=%s\nverbose=yes\n' "$SOCKET" >config
"$LCPFS" serve "$POOL" --config config >server.out 2>>server.log &
SERVER=$!
wait_until grep -q "^lcpfs: serving" server.out
/usr/bin/python3 -c 'import nbd, sys; nbd.NBD().connect_uri(sys.argv[1])' "$(uri db)"
unserve
grep -q "client" server.log || fail "verbose=yes: $(cat server.log)"
serve "$POOL" --config=-none
unserve
