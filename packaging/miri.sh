#!/bin/sh
# Runs the tests of what makes no system call under Miri, which sees undefined behaviour, leaks and
# races of threads. Needs rustup. docs/reliability.md says how far it came.
set -eu
rustup component add miri rust-src --toolchain nightly >/dev/null 2>&1 || {
    echo "miri.sh: rustup cannot add miri to the nightly toolchain" >&2
    exit 1
}
# Random cases are few, as Miri is some thousand times slower; files and clocks of the host are real.
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}" PROPTEST_CASES="${PROPTEST_CASES:-4}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
miri() {
    echo "== $*"
    cargo +nightly miri test --quiet "$@"
}

# Left out: bounds on time, and any bytes through libyaml, which take minutes for one case.
miri -p model --lib -- --skip limits --skip any
