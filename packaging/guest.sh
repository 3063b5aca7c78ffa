#!/bin/sh
# guest.sh: makes the Debian 12 tree over which guests are booted (tests/src/guest.rs), once: a minute
# or two, 280 MB. It is never changed afterwards; remove it for a newer one. Beside it are packages that
# some guests install (a guest has no network): $tree-debs/NAME, with all that NAME depends on.
set -eu

tree=/var/cache/deploy-secrets-tests/bookworm
programs='nginx podman'
all_there() {
    for program in $programs; do
        [ -e "$tree-debs/$program" ] || return 1
    done
    [ -e "$tree" ]
}
! all_there || exit 0
mkdir -p "$(dirname "$tree")"
exec 9>"$tree.lock"
flock 9

# download PROGRAM: over the tree, so that what that has is not fetched again.
download() {
    packages=$1
    case $1 in
        nginx) packages='nginx openssl' ;;
        podman) packages='podman crun' ;;
    esac
    rm -rf --one-file-system "$tree-debs/new"
    mkdir -p "$tree-debs/new"
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --propagation private sh -euc '
        mount -t tmpfs -o mode=755 tmpfs "$2/new"
        mkdir "$2/new/upper" "$2/new/work" "$2/new/root"
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/new/upper,workdir=$2/new/work" "$2/new/root"
        cp /etc/resolv.conf "$2/new/root/etc/resolv.conf"
        mount -t proc proc "$2/new/root/proc"
        chroot "$2/new/root" apt-get -qq update
        chroot "$2/new/root" apt-get -qq install --no-install-recommends --download-only $4
        mkdir "$2/$3.new"
        cp "$2"/new/upper/var/cache/apt/archives/*.deb "$2/$3.new"
        mv "$2/$3.new" "$2/$3"
    ' sh "$tree" "$tree-debs" "$1" "$packages" >"$tree.log" 2>&1 || {
        echo "guest.sh: no packages of $1, see $tree.log" >&2
        exit 1
    }
    rmdir "$tree-debs/new"
}

if [ ! -e "$tree" ]; then
    echo "making $tree by debootstrap"
    rm -rf --one-file-system "$tree.new"
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,procps,util-linux,iproute2,debconf,python3-minimal \
        bookworm "$tree.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 || {
        echo "guest.sh: debootstrap failed, see $tree.log" >&2
        exit 1
    }
    mv "$tree.new" "$tree"
fi
for program in $programs; do
    rm -rf --one-file-system "$tree-debs/$program.new"
    [ -e "$tree-debs/$program" ] || download "$program"
done
