//! Memory for keys.

use std::io::{IoSlice, Read};

use rustix::process::{Resource, Rlimit};
use sys::memory::LockedBytes;

use crate::common::as_user;
use crate::helper;

fn filled(length: usize) -> LockedBytes {
    let mut bytes = LockedBytes::new_zeroed(length).unwrap();
    assert!(bytes.as_slice().iter().all(|byte| *byte == 0));
    bytes.as_mut_slice().fill(0xa5);
    bytes
}

#[test]
fn bytes_are_wiped_before_their_memory_goes_back() {
    let bytes = filled(4096);
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // The pipe holds the page itself, not a copy: it shows what the page held at its end.
    let parts = [IoSlice::new(bytes.as_slice())];
    // SAFETY: nobody but this test reads the pipe, and not as anything but bytes.
    let length = unsafe {
        libc::vmsplice(
            std::os::fd::AsRawFd::as_raw_fd(&write),
            parts.as_ptr().cast(),
            parts.len(),
            0,
        )
    };
    assert_eq!(length, 4096);
    drop(bytes);
    drop(write);
    let mut page = Vec::new();
    std::fs::File::from(read).read_to_end(&mut page).unwrap();
    assert_eq!(page.len(), 4096);
    assert!(page.iter().all(|byte| *byte == 0), "left as they were");
}

#[test]
fn bytes_are_locked_in_no_dump_and_in_no_child() {
    let bytes = filled(10_000);
    let start = format!("{:x}-", bytes.as_slice().as_ptr() as usize);
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = lines
        .find_map(|line| line.strip_prefix("VmFlags:"))
        .unwrap();
    for flag in ["lo", "dd", "wf"] {
        assert!(
            flags.split_whitespace().any(|one| one == flag),
            "no {flag} in {flags}"
        );
    }
}

#[test]
fn no_bytes_at_all_are_allowed() {
    let mut bytes = LockedBytes::new_zeroed(0).unwrap();
    assert_eq!(
        (bytes.as_slice(), bytes.len(), bytes.is_empty()),
        (&[][..], 0, true)
    );
    assert_eq!(bytes.as_mut_slice(), []);
    assert_eq!(filled(3).as_slice(), [0xa5; 3]);
    assert!(LockedBytes::new_zeroed(usize::MAX).is_err());
}

#[test]
fn debug_shows_no_byte() {
    assert_eq!(format!("{:?}", filled(4)), "LockedBytes([redacted])");
}

/// The part of [`too_much_is_an_error_that_names_the_limit`] that changes a limit.
pub fn limit_helper() {
    let limit = Rlimit {
        current: Some(65_536),
        maximum: Some(65_536),
    };
    rustix::process::setrlimit(Resource::Memlock, limit).unwrap();
    // Root may lock as much as it wants.
    let error = as_user(54321, &[], || LockedBytes::new_zeroed(1 << 20).unwrap_err());
    let text = error.to_string();
    assert!(text.contains("RLIMIT_MEMLOCK is 65536 bytes"), "{text}");
    as_user(54321, &[], || {
        // What is dropped counts no more.
        (0..100).for_each(|_| drop(filled(32_768)));
    });
}

#[test]
fn too_much_is_an_error_that_names_the_limit() {
    helper::run(helper::spawn("memory-limit"));
}
