#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# NBD over TCP beside the Unix socket; with TLS by pre-shared keys and by certificates. Who has no key is refused,
# whoever names keys gets no plain text, and what is wrong with them ends the start.
. "$(dirname "$0")/../cli/lib.sh"
/usr/bin/python3 -c 'import nbd; exit(not nbd.NBD().supports_tls())' 2>/dev/null || skip "no libnbd with TLS"
POOL=$T/pool
PORT=$((10000 + $$ % 20000)) # below those that the kernel gives to clients

lcpfs create "$POOL" --size 128M --metaslab 1M
lcpfs add "$POOL" db --min 16M --max 64M >/dev/null
echo "alice:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >keys.psk
chmod 600 keys.psk
cat >client.py <<'PYTHON'
import sys

import nbd

port, user, keys = sys.argv[1:4]
h = nbd.NBD()
if user == "certificates":
	h.set_tls(nbd.TLS_REQUIRE)
	h.set_tls_certificates(keys)
elif user != "-":
	h.set_tls(nbd.TLS_REQUIRE)
	h.set_tls_username(user)
	h.set_tls_psk_file(keys)
h.set_export_name("db")
h.add_meta_context("base:allocation")
try:
	if port.startswith("/"):
		h.connect_unix(port)
	else:
		h.connect_tcp("localhost", port)
except nbd.Error as error:
	sys.exit(f"refused: {error}")
data = b"secret" * 100000
h.pwrite(data, 5)
assert h.pread(len(data), 5) == data
cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i]) * 70000), i * 70000) for i in range(100)]
while h.aio_in_flight():
	h.poll(-1)
for i in range(100):
	assert h.pread(70000, i * 70000) == bytes([i]) * 70000
h.flush()
h.shutdown()
PYTHON
client() {
	/usr/bin/python3 client.py "$@"
}
refused() {
	! client "$@" 2>/dev/null || fail "$* was let in"
}

serve "$POOL" --listen "localhost:$PORT"
client "$PORT" - - || fail "no TCP"
expect 1 lcpfs serve "$POOL" --socket other --listen "localhost:$PORT"
unserve

# Keys mean TLS, for every socket.
for options in "--tls require --tls-psk $T/keys.psk" "--tls-psk $T/keys.psk"; do
	serve "$POOL" --listen "localhost:$PORT" $options
	grep -q "nbds://localhost:$PORT/" server.out || fail "$(cat server.out)"
	client "$PORT" alice keys.psk || fail "no TLS"
	client "$SOCKET" alice keys.psk || fail "no TLS on the Unix socket"
	refused "$PORT" - -
	refused "$SOCKET" - -
	echo "alice:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >others.psk
	refused "$PORT" alice others.psk
	sed 's/alice/bob/' keys.psk >bob.psk
	refused "$PORT" bob bob.psk
	expect 0 lcpfs list "$POOL"
	unserve
done
serve "$POOL" --listen "localhost:$PORT" --tls on --tls-psk "$T/keys.psk"
client "$PORT" alice keys.psk || fail "no TLS"
client "$PORT" - - || fail "TLS is not required"
# What is sent between STARTTLS and TLS could be somebody else's: it is not believed.
/usr/bin/python3 - "$PORT" <<'PYTHON'
import socket
import struct
import sys

s = socket.create_connection(("localhost", int(sys.argv[1])))
s.recv(18, socket.MSG_WAITALL)
starttls = b"IHAVEOPT" + struct.pack(">II", 5, 0)
s.sendall(struct.pack(">I", 3) + starttls + b"IHAVEOPT" + struct.pack(">II", 8, 0))
answer = s.recv(20, socket.MSG_WAITALL)
assert answer[12:16] == b"\0\0\0\1", answer
try:
	assert s.recv(100) == b"", "something was answered without TLS"
except ConnectionResetError:
	pass
PYTHON
unserve

# What is wrong ends the start, in one line, and no socket is left.
echo nothing >empty.psk
mkdir certificates
for options in "--tls-psk $T/none" "--tls-psk $T/empty.psk" "--tls-psk $T" "--tls-certificates $T/none" \
	"--tls-certificates $T/certificates" "--tls on --tls-certificates $T/certificates"; do
	expect 1 lcpfs serve "$POOL" --socket "$SOCKET" $options
	[ ! -e "$SOCKET" ] || fail "$options: a socket was left"
done
for options in "--tls require" "--tls on" "--tls-verify-peer" "--tls off --tls-psk $T/keys.psk" "--tls maybe" \
	"--tls-psk $T/keys.psk --tls-verify-peer"; do
	expect 2 lcpfs serve "$POOL" --socket "$SOCKET" $options
done

# Beyond this machine, without TLS: a warning.
serve "$POOL" --listen ":$PORT"
grep -q "^lcpfs: warning: " server.log || fail "no warning"
unserve
: >server.log
serve "$POOL" --listen ":$PORT" --tls-psk "$T/keys.psk"
! grep -q warning server.log || fail "a warning with TLS"
unserve

if command -v certtool >/dev/null; then
	authority() { # FOLDER: a certificate authority, a server's and a client's certificate
		mkdir -p "$1"
		certtool --generate-privkey --key-type ecdsa --outfile "$1/ca-key.pem" 2>/dev/null
		printf 'cn = test\nca\ncert_signing_key\n' >template
		certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template template \
			--outfile "$1/ca-cert.pem" 2>/dev/null
		for role in server client; do
			certtool --generate-privkey --key-type ecdsa --outfile "$1/$role-key.pem" 2>/dev/null
			printf 'cn = localhost\ndns_name = localhost\ntls_www_%s\nsigning_key\n' $role >template
			certtool --generate-certificate --load-privkey "$1/$role-key.pem" --template template \
				--load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
				--outfile "$1/$role-cert.pem" 2>/dev/null
		done
	}
	authority ours
	authority others
	serve "$POOL" --listen "localhost:$PORT" --tls-certificates "$T/ours"
	client "$PORT" certificates "$T/ours" || fail "no TLS"
	refused "$PORT" certificates "$T/others" # the client does not know this server
	refused "$PORT" - -
	unserve
	serve "$POOL" --listen "localhost:$PORT" --tls-certificates "$T/ours" --tls-verify-peer
	client "$PORT" certificates "$T/ours" || fail "no TLS with a client's certificate"
	mkdir stranger # trusts our authority, is known to another
	cp others/client-*.pem stranger
	cp ours/ca-cert.pem stranger
	refused "$PORT" certificates "$T/stranger"
	rm stranger/client-*
	refused "$PORT" certificates "$T/stranger"
	expect 0 lcpfs list "$POOL"
	unserve
	cp ours/server-cert.pem others/
	expect 1 lcpfs serve "$POOL" --socket "$SOCKET" --tls-certificates "$T/others" # not its key
fi
check_clean "$POOL"
