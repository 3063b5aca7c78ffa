//! Processes that wait before their exec.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use sys::process::ExitStatus;

use crate::common::{pidfd, release, shell, sleeper, start, wait_for_end};
use crate::process::start_and_read_pid;

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn it_runs_nothing_until_it_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let paused = shell(&format!("> {}", mark.display()))
        .start_paused()
        .unwrap();
    let exe = std::fs::read_link(format!("/proc/{}/exe", paused.pid())).unwrap();
    assert_eq!(
        exe,
        std::env::current_exe().unwrap(),
        "it executed something"
    );
    assert!(!mark.exists());
    let mut child = release(paused);
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
    assert!(mark.exists());
}

#[test]
fn dropped_it_is_killed_and_reaped_and_has_run_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("ran");
    let paused = shell(&format!("> {}", mark.display()))
        .start_paused()
        .unwrap();
    let pid = paused.pid();
    let pidfd = paused.pidfd().try_clone_to_owned().unwrap();
    drop(paused);
    wait_for_end(pidfd.as_fd());
    assert!(!is_there(pid), "a zombie is left");
    assert!(!mark.exists());
}

#[test]
fn killed_while_it_waits_it_is_an_error_to_let_it_go() {
    let paused = sleeper().start_paused().unwrap();
    let pid = paused.pid();
    rustix::process::pidfd_send_signal(paused.pidfd(), rustix::process::Signal::KILL).unwrap();
    wait_for_end(paused.pidfd());
    assert_eq!(
        paused.release().unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert!(!is_there(pid), "a zombie is left");
}

/// The part of [`it_ends_with_the_process_that_holds_it`] that ends.
pub fn hold_helper() {
    let paused = sleeper().start_paused().unwrap();
    eprintln!("{}", paused.pid());
    loop {
        std::thread::park();
    }
}

#[test]
fn it_ends_with_the_process_that_holds_it() {
    let (mut holder, pid) = start_and_read_pid("hold-paused");
    let pidfd = pidfd(pid);
    holder.signal(libc::SIGKILL).unwrap();
    holder.wait().unwrap();
    wait_for_end(pidfd.as_fd());
}

/// A shared tmpfs, as the host's `/` is under systemd; detached again at the end.
struct Shared(PathBuf);

impl Shared {
    fn new(at: &Path) -> Shared {
        let none: Option<&std::ffi::CStr> = None;
        rustix::mount::mount("sys-test", at, "tmpfs", MountFlags::empty(), none).unwrap();
        let shared = Shared(at.to_owned());
        rustix::mount::mount_change(at, MountPropagationFlags::SHARED).unwrap();
        shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn mount_tmpfs(at: &Path) -> io::Result<()> {
    let none: Option<&std::ffi::CStr> = None;
    std::fs::create_dir(at)?;
    Ok(rustix::mount::mount(
        "sys-test",
        at,
        "tmpfs",
        MountFlags::empty(),
        none,
    )?)
}

fn is_mounted(pid: i32, at: &Path) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == at.to_str())
}

#[test]
fn its_mounts_are_its_own_and_those_of_the_host_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Shared::new(dir.path());
    let own = std::process::id() as i32;
    let paused = sleeper().new_mount_namespace().start_paused().unwrap();
    assert!(!sys::namespace::is_hosts(paused.pid()).unwrap());
    assert!(sys::namespace::is_hosts(own).unwrap());

    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    sys::namespace::inside(paused.pidfd(), || mount_tmpfs(&theirs)).unwrap();
    mount_tmpfs(&ours).unwrap();
    assert!(is_mounted(paused.pid(), &theirs) && is_mounted(paused.pid(), &ours));
    assert!(!is_mounted(own, &theirs) && is_mounted(own, &ours));
    drop(shared);
}

#[test]
fn inside_leaves_the_caller_where_it_was() {
    let paused = sleeper().new_mount_namespace().start_paused().unwrap();
    let before = (std::env::current_dir().unwrap(), namespace_of_this_thread());
    let there = sys::namespace::inside(paused.pidfd(), || {
        std::env::set_current_dir("/proc")?;
        Ok(namespace_of_this_thread())
    });
    let theirs = std::fs::read_link(format!("/proc/{}/ns/mnt", paused.pid())).unwrap();
    assert_eq!(there.unwrap(), theirs);
    assert_eq!(
        (std::env::current_dir().unwrap(), namespace_of_this_thread()),
        before
    );
}

fn namespace_of_this_thread() -> PathBuf {
    std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
}

#[test]
fn inside_nobody_is_an_error_and_an_error_inside_comes_back() {
    let mut child = start(sleeper());
    let failed: io::Result<()> =
        sys::namespace::inside(child.pidfd(), || Err(io::ErrorKind::QuotaExceeded.into()));
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    child.signal(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    let entered = sys::namespace::inside(child.pidfd(), || Ok(()));
    assert_eq!(entered.unwrap_err().raw_os_error(), Some(libc::ESRCH));
}
