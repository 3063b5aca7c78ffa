#!/bin/sh
# peers.sh DIR [few|services]: unpacks Debian's own programs, with those of their libraries that
# this host lacks, below DIR (usually target/peers or target/peers-services). Nothing is installed and
# no service is started: a package that is only unpacked runs no maintainer script.
#   few       redis-server, redis-cli, nginx, openssl (the default)
#   services  what docs/services.md has a recipe for, besides
# Idempotent, and silent when DIR already holds them.
set -eu

usage() { echo "usage: peers.sh DIR [few|services]" >&2; exit 2; }
[ $# = 1 ] || [ $# = 2 ] || usage
dir=$1
case ${2:-few} in
few) peers='redis-server redis-tools nginx openssl' ;;
# `postgresql` is an empty package that depends on the release's one.
services) peers='redis-server redis-tools nginx openssl openssh-client openssh-server curl nodejs elixir postgresql' ;;
*) usage ;;
esac
ready=.peers-ready
[ ! -e "$dir/$ready" ] || exit 0

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# Two test programs may come here at once.
exec 9>"$dir/.lock"
flock 9
[ ! -e "$dir/$ready" ] || exit 0
mkdir -p "$dir/debs"

# Each as NAME=VERSION of a Debian archive, as this host may have another one installed; for an empty
# package those that it depends on. Nothing if one is not known.
wanted() {
    for peer in $peers; do
        case $peer in
        postgresql)
            peer=$(apt-cache depends "$peer" 2>/dev/null | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p')
            [ -n "$peer" ] || return 0
            ;;
        esac
        version=$(apt-cache madison "$peer" 2>/dev/null | awk 'NR == 1 { print $3 }')
        [ -n "$version" ] || return 0
        echo "$peer=$version"
    done
}
# What apt would install for them here, without installing it. Without the recommended ones: they
# work without them. --reinstall: on a host that has them, the same files are unpacked.
plan() {
    names=$(wanted)
    [ "$(echo "$names" | wc -w)" = "$(echo "$peers" | wc -w)" ] || return 0
    # shellcheck disable=SC2086 # a list of words
    {
        apt-get -s install --no-install-recommends --allow-downgrades $names
        apt-get -s install --no-install-recommends --allow-downgrades --reinstall $names
    } 2>/dev/null | sed -n 's/^Inst \([^ ]*\) .*(\([^ ]*\) .*/\1=\2/p' | sort -u
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
    packages=$(plan)
    # shellcheck disable=SC2086
    apt-get -o APT::Sandbox::User=root -qq download $packages
fi
for deb in ./*.deb; do
    dpkg-deb -x "$deb" "$dir"
done
cd "$dir"
rm -rf "$dir/debs"
# As on a host: /lib is /usr/lib, whichever of both a package names.
for name in bin sbin lib lib64; do
    [ ! -d "$name" ] || { mkdir -p "usr/$name" && cp -a "$name/." "usr/$name/" && rm -rf "${dir:?}/$name"; }
done
touch "$ready"
