//! Faults of a thread, told apart from a kill, in memory that outlives the process.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fs::MemfdFlags;
use sys::process::ExitStatus;
use sys::shared::SharedWords;

use crate::common::start;
use crate::helper;

const FAULT: u64 = 7;

fn deep(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 512]);
    if depth == u64::MAX {
        return 0;
    }
    deep(depth + 1) + here[(depth % 512) as usize]
}

pub fn helper() {
    let (_, memfd) = sys::process::listen_fds().unwrap().pop().unwrap();
    let words = SharedWords::map(&memfd, 4096).unwrap().words();
    words[2].store(1, Ordering::Release);
    sys::fault::watch().unwrap();
    let how = std::env::var("FAULT").unwrap();
    let dies = move || {
        sys::fault::mark(&words[1], FAULT);
        match how.as_str() {
            "abort" => std::process::abort(),
            "overflow" => drop(std::hint::black_box(deep(0))),
            // SAFETY: it is not, and that is what the test is about.
            "segv" => unsafe { std::ptr::null_mut::<u64>().write_volatile(1) },
            "kill" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
            _ => {
                sys::fault::unmark();
                std::process::abort();
            }
        }
    };
    let thread = std::thread::spawn(dies);
    let _ = thread.join();
}

/// The words that a process leaves which dies that way, and the signal of its end.
fn left_by(how: &str) -> (u64, u64, ExitStatus) {
    let memfd = rustix::fs::memfd_create("words", MemfdFlags::CLOEXEC).unwrap();
    let nowhere = helper::nowhere();
    let spawn = helper::spawn("fault")
        .env("FAULT", how)
        .listen_fd("words", memfd.as_fd())
        .stdout(nowhere.as_fd())
        .stderr(nowhere.as_fd());
    let end = start(spawn).wait().unwrap();
    let words = SharedWords::map(&memfd, 4096).unwrap().words();
    let word = |at: usize| words[at].load(Ordering::Acquire);
    (word(1), word(2), end)
}

#[test]
fn a_fault_marks_its_word_and_a_kill_does_not() {
    for (how, word, signal) in [
        ("abort", FAULT, libc::SIGABRT),
        ("overflow", FAULT, libc::SIGABRT),
        ("segv", FAULT, libc::SIGSEGV),
        ("kill", 0, libc::SIGKILL),
        ("unmarked", 0, libc::SIGABRT),
    ] {
        assert_eq!(left_by(how), (word, 1, ExitStatus::Signal(signal)), "{how}");
    }
}
