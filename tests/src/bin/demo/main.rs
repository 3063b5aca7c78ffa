//! `make demo`: the whole way of a secret in six steps, each command as an operator types it and
//! each result checked. Everything happens in one folder of /tmp and is gone at the end, also
//! after Ctrl-C.
#![forbid(unsafe_code)]
// As in the harness: a panic is how a check fails.
#![allow(clippy::unwrap_used)]

mod shell;
mod stage;
mod steps;

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::path::Path;
use std::process::ExitCode;

use tests::{interrupt, traces};

fn main() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("demo: mounts need root: run it as root, as in `sudo make demo`");
        return ExitCode::FAILURE;
    }
    if !Path::new("/dev/fuse").exists() {
        eprintln!(
            "demo: there is no /dev/fuse: `modprobe fuse` loads FUSE, in a container start it with --device /dev/fuse"
        );
        return ExitCode::FAILURE;
    }
    traces::obey_signals();
    set_hook(Box::new(say_what_is_wrong));
    let played = catch_unwind(AssertUnwindSafe(steps::play));
    if interrupt::came() {
        // Another thread takes everything away, and ends the process with the signal's code.
        interrupt::rest();
    }
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn say_what_is_wrong(panic: &PanicHookInfo<'_>) {
    if interrupt::came() {
        return;
    }
    let payload = panic.payload();
    let words = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("it failed without a word");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    eprintln!("\ndemo: WRONG: {words}\n  ({place})");
}
