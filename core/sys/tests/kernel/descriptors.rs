//! Which descriptors a started program has.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::common::{output, release, shell, sleeper, start};
use crate::helper;

fn descriptors_of(pid: i32) -> BTreeSet<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}

/// A descriptor that exec(2) would hand on.
fn leaky(min: i32) -> OwnedFd {
    let file = File::open("/dev/null").unwrap();
    // SAFETY: a copy of an open descriptor, which becomes the caller's.
    unsafe {
        let copy = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, min);
        assert!(copy >= min);
        OwnedFd::from_raw_fd(copy)
    }
}

#[test]
fn a_program_has_0_1_2_and_no_other() {
    let _leaks = [leaky(3), leaky(50), leaky(900)];
    let paused = sleeper().start_paused().unwrap();
    // And the one on which it waits.
    assert_eq!(descriptors_of(paused.pid()).len(), 4);
    let child = release(paused);
    let found = descriptors_of(child.pid());
    assert_eq!(found, BTreeSet::from([0, 1, 2]));
}

#[test]
fn standard_streams_may_be_swapped_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let mut to = File::create_new(dir.path().join("to")).unwrap();
    let mut from = tempfile::tempfile().unwrap();
    from.write_all(b"said").unwrap();
    from.rewind().unwrap();
    let spawn = shell("cat; echo out; echo err >&2")
        .stdin(from.as_fd())
        .stdout(to.as_fd())
        .stderr(to.as_fd())
        .env("PATH", "/bin");
    assert_eq!(start(spawn).wait().unwrap().code(), Some(0));
    let mut text = String::new();
    to = File::open(dir.path().join("to")).unwrap();
    to.read_to_string(&mut text).unwrap();
    assert_eq!(text, "saidout\nerr\n");

    // 1 becomes what 2 was and the other way round, which a dup2 after the other would lose.
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    // SAFETY: standard error is open as long as the test runs.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    let spawn = shell("echo there >&2").stdout(stderr).stderr(write.as_fd());
    assert_eq!(start(spawn).wait().unwrap().code(), Some(0));
    drop(write);
    text.clear();
    File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "there\n");
}

fn holding(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

const MANY: usize = 64;

/// A name may come twice, or not at all.
fn name(number: usize) -> &'static str {
    ["control", "", "fuse-secret", "control"][number % 4]
}

/// The receiving part of [`handed_over_descriptors_arrive_with_their_names`].
pub fn listen_helper() {
    let found = sys::process::listen_fds().unwrap();
    assert_eq!(found.len(), MANY);
    for (number, (found, fd)) in found.into_iter().enumerate() {
        let expected = Some(name(number)).filter(|name| !name.is_empty());
        assert_eq!(found, expected.unwrap_or("unknown"));
        assert_eq!(fd.as_raw_fd(), 3 + number as i32);
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(
            flags.contains(rustix::io::FdFlags::CLOEXEC),
            "{number} is handed on"
        );
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("file {number}"));
    }
    // Each has one owner.
    let again = sys::process::listen_fds().unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
}

/// The sending part of [`handed_over_descriptors_arrive_with_their_names`], which needs a process in
/// which 3 is free, as are all numbers after it.
pub fn hand_over_helper() {
    let high = |number| {
        let file = holding(&format!("file {number}"));
        rustix::io::fcntl_dupfd_cloexec(file, 500).unwrap()
    };
    let files: Vec<OwnedFd> = (0..MANY).map(high).collect();
    let mut spawn = helper::spawn("listen");
    for (number, file) in files.iter().enumerate() {
        spawn = spawn.listen_fd(name(number), file.as_fd());
    }
    assert_eq!(start(spawn).wait().unwrap().code(), Some(0));
}

#[test]
fn handed_over_descriptors_arrive_with_their_names() {
    helper::run(helper::spawn("hand-over"));
}

#[test]
fn handed_over_descriptors_are_for_one_process_alone() {
    let file = holding("mine");
    let text = output(
        shell("echo $$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES").listen_fd("a", file.as_fd()),
    );
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[0], words[1]);
    assert_eq!(words[2..], ["1", "a"]);
    // A child of that one inherits variables, not descriptors: it must not believe them.
    let deeper = helper::spawn("listen-none")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1");
    helper::run(deeper);
}

#[test]
fn a_name_that_would_break_the_list_is_refused() {
    let file = holding("");
    for name in ["a:b", "a\nb", "a\0b"] {
        let refused = sleeper().listen_fd(name, file.as_fd()).start().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    }
}
