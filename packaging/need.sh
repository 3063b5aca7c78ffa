#!/bin/sh
# need.sh PACKAGE...: installs the Debian packages of the list that are not there yet, and says so.
# Silent when all are there. Runs `apt-get update` only when an installation needs it.
set -eu

missing=
for package in "$@"; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "need.sh: these Debian packages are missing and only root can install them: apt-get install$missing" >&2
    exit 1
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
if ! apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
    echo "  (package lists are missing or old: apt-get update first)"
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
