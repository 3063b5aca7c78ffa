#!/bin/sh
# peers.sh DIR: unpacks Debian's redis-server, redis-cli, nginx and openssl, with those of their
# libraries that this host lacks, below DIR (usually target/peers). Nothing is installed and no service is started:
# a package that is only unpacked runs no maintainer script.
# Idempotent, and silent when DIR already holds them.
set -eu

[ $# = 1 ] || { echo "usage: peers.sh DIR" >&2; exit 2; }
dir=$1
ready=.peers-ready
peers='redis-server redis-tools nginx openssl'
[ ! -e "$dir/$ready" ] || exit 0

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# Two test programs may come here at once.
exec 9>"$dir/.lock"
flock 9
[ ! -e "$dir/$ready" ] || exit 0
mkdir -p "$dir/debs"

# What apt would install for them here, without installing it. Without the recommended ones: they
# work without them. --reinstall: on a host that has them, the same files are unpacked.
plan() {
    # shellcheck disable=SC2086 # a list of words
    {
        apt-get -s install --no-install-recommends $peers
        apt-get -s install --no-install-recommends --reinstall $peers
    } 2>/dev/null | awk '$1 == "Inst" { print $2 }' | sort -u
}
packages=$(plan)
if [ -z "$packages" ]; then
    echo "package lists are missing: apt-get update"
    apt-get update -qq
    packages=$(plan)
fi
[ -n "$packages" ] || { echo "peers.sh: apt does not know all of $peers; is a Debian mirror configured?" >&2; exit 1; }

# shellcheck disable=SC2086 # a list of words
echo "unpacking below $dir, installing nothing:" $packages
cd "$dir/debs"
# As root apt would switch to its user _apt, who may not write here.
# shellcheck disable=SC2086
if ! apt-get -o APT::Sandbox::User=root -qq download $packages; then
    echo "package lists are old: apt-get update"
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get -o APT::Sandbox::User=root -qq download $packages
fi
for deb in ./*.deb; do
    dpkg-deb -x "$deb" "$dir"
done
cd "$dir"
rm -rf "$dir/debs"
touch "$ready"
