//! Who reads.

use std::os::fd::AsFd;

use sys::reader::{ReaderCache, mounts_of};

use crate::common::{TestCgroups, sleeper, until};
use crate::helper;

fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

#[test]
pub fn a_thread_is_of_its_process_and_of_nobody_once_it_has_ended() {
    let readers = ReaderCache::default();
    let (own, pid) = (thread_id(), std::process::id());
    assert_eq!(readers.tgid_of(own).unwrap(), pid);
    let thread = std::thread::spawn(thread_id);
    let ended = thread.join().unwrap();
    until("the thread has gone", || readers.tgid_of(ended).is_err());
    let error = readers.tgid_of(ended).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    let error = readers.cgroup_of(u32::MAX).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
}

#[test]
pub fn a_reader_that_is_moved_is_seen_where_it_is_now() {
    let Some(cgroups) = TestCgroups::new("moved") else {
        return;
    };
    let (one, other) = (cgroups.create("one"), cgroups.create("other"));
    let paused = sleeper().cgroup(&one).start_paused().unwrap();
    let readers = ReaderCache::default();
    let ask = || readers.cgroup_of(paused.pid().unsigned_abs()).unwrap().path;
    assert_eq!(
        (ask(), ask()),
        (one.path().to_owned(), one.path().to_owned())
    );
    let procs = cgroups.parent().join("other/cgroup.procs");
    std::fs::write(procs, paused.pid().to_string()).unwrap();
    assert_eq!(
        (ask(), ask()),
        (other.path().to_owned(), other.path().to_owned())
    );
}

/// A child with this very number, if nobody has it; it waits to be killed.
fn child_with_number(pid: i32) -> Option<Owned> {
    let wanted = [pid];
    // SAFETY: a struct of integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    args.set_tid = wanted.as_ptr() as u64;
    args.set_tid_size = 1;
    // SAFETY: a fork by another name; the child makes one system call again and again, with memory
    // that is its own copy.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) } {
        0 => loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        },
        -1 => None,
        made => Some(Owned(i32::try_from(made).unwrap())),
    }
}

/// A child that is killed and reaped when dropped.
struct Owned(i32);

impl Drop for Owned {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}

#[test]
pub fn who_has_the_number_of_a_reader_that_ended_is_not_taken_for_it() {
    let Some(cgroups) = TestCgroups::new("reuse") else {
        return;
    };
    let granted = cgroups.create("granted");
    let readers = ReaderCache::default();
    // Somebody else may be quicker to get the number; then another try.
    let reused = (0..100).find_map(|_| {
        let paused = sleeper().cgroup(&granted).start_paused().unwrap();
        let pid = paused.pid();
        let tid = pid.unsigned_abs();
        assert_eq!(readers.cgroup_of(tid).unwrap().path, granted.path());
        assert_eq!(readers.tgid_of(tid).unwrap(), tid);
        drop(paused);
        assert!(
            readers.cgroup_of(tid).is_err()
                || !std::path::Path::new(&format!("/proc/{pid}")).exists()
        );
        child_with_number(pid)
    });
    let other = reused.unwrap();
    let found = readers.cgroup_of(other.0.unsigned_abs()).unwrap();
    assert_ne!(found.path, granted.path());
    let own = readers.cgroup_of(std::process::id()).unwrap();
    assert_eq!(found, own, "it is where its parent is");
}

/// The part of [`many_readers_cost_few_descriptors`] that counts its own.
pub fn many_helper() {
    let readers = ReaderCache::default();
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    let asked = std::sync::Barrier::new(101);
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    readers.tgid_of(thread_id()).unwrap();
                    asked.wait();
                });
            }
            asked.wait();
        });
    }
    assert!(count() - before <= 768, "{} descriptors", count() - before);
    // Those of late are known still.
    assert_eq!(readers.tgid_of(thread_id()).unwrap(), std::process::id());
}

#[test]
fn many_readers_cost_few_descriptors() {
    helper::run(helper::spawn("many-readers"));
}

#[test]
fn mounts_are_told_by_device_and_root() {
    let pid = std::process::id();
    // procfs has one device for each pid namespace, and its whole is mounted.
    let proc = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata("/proc").unwrap());
    let minor = rustix::fs::minor(proc);
    assert!(mounts_of(pid, minor).unwrap().contains(&"/".to_owned()));
    assert_eq!(mounts_of(pid, 0xf_ffff).unwrap(), Vec::<String>::new());
    let paused = sleeper().start_paused().unwrap();
    assert!(
        !mounts_of(paused.pid().unsigned_abs(), minor)
            .unwrap()
            .is_empty()
    );
    let ended = paused.pid().unsigned_abs();
    let pidfd = paused.pidfd().try_clone_to_owned().unwrap();
    drop(paused);
    crate::common::wait_for_end(pidfd.as_fd());
    assert!(mounts_of(ended, minor).is_err());
}

#[test]
pub fn a_thread_is_named_as_it_calls_itself_now() {
    let readers = ReaderCache::default();
    let name = |name: &std::ffi::CStr| rustix::thread::set_name(name).unwrap();
    let told = std::thread::spawn(move || {
        let own = thread_id();
        let mut told = Vec::new();
        // The second one is as long as a name can be, and would be two lines of a log.
        for text in [c"one", c"two\n\xff ten bytes"] {
            name(text);
            told.push(readers.identity_of(own).unwrap());
        }
        told
    })
    .join()
    .unwrap();
    assert_eq!(told[0].comm(), b"one");
    assert_eq!(told[1].comm(), b"two\n\xff ten bytes");
    assert!(told.iter().all(|one| one.pid == std::process::id()));
    assert_eq!(told[0].cgroup, told[1].cgroup);
}
