#!/bin/sh
# deb.sh OUT: makes OUT/debian/deploy-secrets_VERSION_ARCH.deb of the programs in OUT/debug.
#
# They are the very programs that all tests run, of the one profile that there is (see Cargo.toml):
# optimised, and with checks of arithmetic, so that what would be a wrong number stops instead. A
# second profile would ship what nobody has killed ten thousand times.
set -eu

[ $# = 1 ] || { echo "usage: deb.sh OUT" >&2; exit 2; }
out=$1
root=$(cd "$(dirname "$0")/.." && pwd)
cargo=${CARGO:-cargo}
cargo_deb=3.8.0
stage=$out/debug/package
cd "$root"

if [ ! -x "$out/tools/cargo-deb-$cargo_deb/bin/cargo-deb" ]; then
    echo "building cargo-deb $cargo_deb below $out/tools"
    "$cargo" install cargo-deb --version "$cargo_deb" --locked --quiet \
        --root "$out/tools/cargo-deb-$cargo_deb"
fi
PATH=$out/tools/cargo-deb-$cargo_deb/bin:$PATH

# The same source gives the same package.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH

rm -rf "$stage"
mkdir -p "$stage/bin" "$stage/completions" "$stage/doc"
for program in deploy deploy-inject secretsd; do
    strip --strip-all -o "$stage/bin/$program" "$out/debug/$program"
done
packaging/man.sh "$stage/bin/deploy" "$stage/man"
gzip -9n "$stage"/man/man*/*
"$stage/bin/deploy" completion bash >"$stage/completions/deploy"
"$stage/bin/deploy" completion zsh >"$stage/completions/_deploy"
"$stage/bin/deploy" completion fish >"$stage/completions/deploy.fish"
gzip -9n -c CHANGELOG.md >"$stage/doc/changelog.gz"
# Whose work is linked into the programs, and under which licence.
"$cargo" tree --workspace --exclude tests --edges normal --prefix none --locked \
    --format '{p} {l}' | sed -n 's/ (proc-macro)//; /(\//!p' | sort -u >"$stage/doc/third-party.txt"

rm -f "$out"/debian/deploy-secrets_*.deb
"$cargo" deb --package cli --no-build --no-strip --profile dev --locked --quiet
