//! What several tests need.

use std::io::Read;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::cgroup::Cgroup;
use sys::process::{Child, ExitStatus, Paused, Spawn};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it to its end, and gives what it wrote to its standard output.
pub fn output(spawn: Spawn<'_>) -> String {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut child = start(spawn.stdout(write.as_fd()));
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0), "{text}");
    text
}

/// A process that ends with the test, however that ends.
pub struct Running(Child);

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.signal(libc::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Starts it.
pub fn start(spawn: Spawn<'_>) -> Running {
    Running(spawn.start().unwrap())
}

/// Lets it go on.
pub fn release(paused: Paused) -> Running {
    Running(paused.release().unwrap())
}

/// `sh -c`.
pub fn shell<'a>(script: &str) -> Spawn<'a> {
    Spawn::new("/bin/sh").arg("-c").arg(script)
}

/// Something that runs until it is killed.
pub fn sleeper<'a>() -> Spawn<'a> {
    Spawn::new("/bin/sleep").arg("600")
}

/// Waits for the end of a process, without taking its status; fails if it does not end.
pub fn wait_for_end(pidfd: BorrowedFd<'_>) {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    assert_eq!(
        poll(&mut fds, Some(&patience)).unwrap(),
        1,
        "it does not end"
    );
}

/// A pidfd of any process.
pub fn pidfd(pid: i32) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// The value of a line of /proc/PID/status.
pub fn status(pid: i32, key: &str) -> String {
    field(
        &std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(),
        key,
    )
}

/// The value of a line of such a text.
pub fn field(text: &str, key: &str) -> String {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value
        .unwrap_or_else(|| panic!("no {key}"))
        .trim()
        .to_owned()
}

/// Does a thread as another user, of the kernel's only; the other threads stay root.
pub fn as_user<T: Send>(uid: u32, groups: &[u32], f: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{Gid, Uid};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_groups(&groups).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            f()
        });
        thread.join().unwrap()
    })
}

/// Cgroups below a parent that is this test's alone; all of them end with it.
pub struct TestCgroups(PathBuf);

impl TestCgroups {
    /// `None` where cgroup v2 is not there for us; the test has nothing to show then.
    pub fn new(test: &str) -> Option<TestCgroups> {
        let Some(root) = sys::cgroup::root() else {
            eprintln!("{test}: no cgroup v2 here; nothing was shown");
            return None;
        };
        let parent = root
            .join("deploy-secrets")
            .join(format!("test-{test}-{}", std::process::id()));
        match Cgroup::create(&parent, "probe") {
            Ok(_) => Some(TestCgroups(parent)),
            Err(error) => {
                eprintln!("{test}: cgroup v2 is not ours ({error}); nothing was shown");
                None
            }
        }
    }

    pub fn parent(&self) -> &Path {
        &self.0
    }

    pub fn create(&self, name: &str) -> Cgroup {
        Cgroup::create(&self.0, name).unwrap()
    }
}

impl Drop for TestCgroups {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        let start = Instant::now();
        while self.0.exists() && remove_tree(&self.0).is_err() && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        if let Some(parent) = self.0.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}
