#!/bin/sh
# Runs the tests of what makes no system call under Miri, which sees undefined behaviour, leaks and
# races of threads. Needs rustup; a line for each part that docs/reliability.md names.
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
