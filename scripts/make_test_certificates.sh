#!/usr/bin/env bash
# Make certificates for trying TLS and mutual TLS on this machine: an authority, a server
# certificate for localhost, a client certificate. Not for production: keys are not protected.
#
#   scripts/make_test_certificates.sh out/certificates
#   lprnet serve --tls-cert out/certificates/server.pem --tls-key out/certificates/server.key \
#       --tls-client-ca out/certificates/ca.pem
set -euo pipefail
if [ $# -lt 1 ] || [ "$1" = --help ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    echo "usage: $0 FOLDER [HOST...]   (more names or addresses for the server's certificate)"
    exit $(($# < 1))
fi
folder=$1
shift
names="DNS:localhost,IP:127.0.0.1"
for host in "$@"; do
    if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
done
mkdir -p "$folder"
cd "$folder"
umask 077

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -subj "/CN=lprnet test authority" -keyout ca.key -out ca.pem 2>/dev/null
issue() { # NAME EXTENSIONS
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=lprnet test $1" \
        -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile <(printf '%s\n' "$2") -out "$1.pem" 2>/dev/null
    rm "$1.csr"
}
issue server "subjectAltName=$names"$'\n'"extendedKeyUsage=serverAuth"
issue client "extendedKeyUsage=clientAuth"
rm -f ca.srl
echo "made ca.pem, server.pem, server.key, client.pem, client.key in $folder ($names)"
