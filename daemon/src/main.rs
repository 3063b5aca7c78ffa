//! secretsd: keys, store, views and decisions. No capability, no network, no exec.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    secretsd::run()
}
