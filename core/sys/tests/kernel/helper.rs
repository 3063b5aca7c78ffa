//! Parts of tests that need a process of their own: they give something up for good, or end.

use std::os::fd::{AsFd, OwnedFd};

use sys::process::{ExitStatus, Spawn};

use crate::common::start;

/// This very program, started to do one part; see [`helper`]. Its failures are seen on standard
/// error and in its exit code.
pub fn spawn<'a>(part: &str) -> Spawn<'a> {
    // It ends with its test, also when that is killed.
    let mut spawn = Spawn::new(std::env::current_exe().unwrap())
        .env("SYS_HELPER", part)
        .parent_death_signal(libc::SIGKILL);
    for arg in [
        "helper::helper",
        "--exact",
        "--ignored",
        "--nocapture",
        "--quiet",
    ] {
        spawn = spawn.arg(arg);
    }
    spawn
}

/// Where the test harness's own words go.
pub fn nowhere() -> OwnedFd {
    std::fs::File::create("/dev/null").unwrap().into()
}

/// Runs a part to its end.
pub fn run(spawn: Spawn<'_>) {
    let nowhere = nowhere();
    let mut child = start(spawn.stdout(nowhere.as_fd()));
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

#[test]
#[ignore = "a part of other tests, which start it"]
fn helper() {
    let Ok(part) = std::env::var("SYS_HELPER") else {
        return;
    };
    match part.as_str() {
        "apart-serve" => crate::apart::serve_helper(),
        "apart-ask" => crate::apart::ask_helper(),
        "listen" => crate::descriptors::listen_helper(),
        "hand-over" => crate::descriptors::hand_over_helper(),
        "listen-none" => assert!(sys::process::listen_fds().unwrap().is_empty()),
        "hold-paused" => crate::paused::hold_helper(),
        "death-signal" => crate::process::death_signal_helper(),
        "no-capabilities" => assert!(!sys::sandbox::has_capabilities().unwrap()),
        "harden" => crate::sandbox::harden_helper(),
        "forbid" => crate::sandbox::forbid_helper(),
        "mounts" => crate::sandbox::mounts_helper(),
        "files" => crate::sandbox::files_helper(),
        "keyring-put" => crate::keyring::put_helper(),
        "memory-limit" => crate::memory::limit_helper(),
        "terminal" => crate::terminal::helper(),
        "old-kernel" => crate::old_kernel::helper(),
        "fault" => crate::fault::helper(),
        "many-readers" => crate::reader::many_helper(),
        part => panic!("no part {part}"),
    }
}
