#!/bin/sh
# guest.sh: makes the Debian 12 tree over which guests are booted (tests/src/guest.rs), once: a minute
# or two, 280 MB. It is never changed afterwards; remove it for a newer one.
set -eu

tree=/var/cache/deploy-secrets-tests/bookworm
[ ! -e "$tree" ] || exit 0
mkdir -p "$(dirname "$tree")"
exec 9>"$tree.lock"
flock 9
[ ! -e "$tree" ] || exit 0
echo "making $tree by debootstrap"
rm -rf --one-file-system "$tree.new"
debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,procps,util-linux,iproute2,debconf,python3-minimal \
    bookworm "$tree.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 || {
    echo "guest.sh: debootstrap failed, see $tree.log" >&2
    exit 1
}
mv "$tree.new" "$tree"
