//! Starting programs: as another user, in namespaces of their own, with nothing inherited by
//! accident, and, if asked for, waiting before their exec until they are let go.

mod child;
mod listen;
mod plan;
mod start;
mod status;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use rustix::thread::CapabilitySet;

pub use child::StartError;
pub use listen::listen_fds;
pub use start::Paused;
pub use status::{Child, ExitStatus};

use crate::cgroup::Cgroup;

/// A program to be started.
///
/// It gets the environment that [`Spawn::env`] gives and no other; descriptors 0, 1 and 2 (the
/// caller's, unless others are given), those of [`Spawn::listen_fd`], and no other; an empty signal
/// mask and the default action for every signal.
///
/// What needs privileges is done first, then they are dropped, then the working folder is entered.
#[must_use]
pub struct Spawn<'a> {
    program: PathBuf,
    name: Option<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    user: Option<User>,
    new_mount_namespace: bool,
    mount_namespace_of: Option<BorrowedFd<'a>>,
    new_net_namespace: bool,
    capabilities: Option<CapabilitySet>,
    no_new_privileges: bool,
    new_process_group: bool,
    parent_death_signal: Option<i32>,
    stdio: [Option<BorrowedFd<'a>>; 3],
    listen: Vec<(String, BorrowedFd<'a>)>,
    cgroup: Option<&'a Cgroup>,
}

#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl<'a> Spawn<'a> {
    /// `program` is a path; it is not searched for.
    pub fn new(program: impl AsRef<Path>) -> Spawn<'a> {
        Spawn {
            program: program.as_ref().to_owned(),
            name: None,
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            new_mount_namespace: false,
            mount_namespace_of: None,
            new_net_namespace: false,
            capabilities: None,
            no_new_privileges: false,
            new_process_group: false,
            parent_death_signal: None,
            stdio: [None; 3],
            listen: Vec::new(),
            cgroup: None,
        }
    }

    /// What the program and everybody else find in place of the program's path (`argv[0]`).
    pub fn named(mut self, name: impl AsRef<OsStr>) -> Self {
        self.name = Some(name.as_ref().to_owned());
        self
    }

    /// One more argument, after the program's own path.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// One variable; a later one of the same name takes its place.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref().to_owned());
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.env.push((name.to_owned(), value)),
        }
        self
    }

    /// Runs as this user and group (real, effective and saved), with exactly these other groups.
    pub fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        let groups = groups.to_vec();
        self.user = Some(User { uid, gid, groups });
        self
    }

    /// Starts in this folder, entered as the program's user.
    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Self {
        self.cwd = Some(folder.as_ref().to_owned());
        self
    }

    /// A mount namespace of its own: mounts of ours still reach it, its own reach nobody.
    pub fn new_mount_namespace(mut self) -> Self {
        self.new_mount_namespace = true;
        self
    }

    /// In the mount namespace of the process behind this pidfd: program and working folder are looked
    /// up there.
    pub fn mount_namespace_of(mut self, pidfd: BorrowedFd<'a>) -> Self {
        self.mount_namespace_of = Some(pidfd);
        self
    }

    /// A network namespace of its own: with `lo`, which is down, and nothing else.
    pub fn new_net_namespace(mut self) -> Self {
        self.new_net_namespace = true;
        self
    }

    /// All five capability sets are empty from its first instruction, and stay so.
    pub fn drop_capabilities(self) -> Self {
        self.keep_capabilities(CapabilitySet::empty())
    }

    /// No capability but these, from its first instruction on: root has them, every other user none.
    pub fn keep_capabilities(mut self, kept: CapabilitySet) -> Self {
        self.capabilities = Some(kept);
        self
    }

    /// No program that it executes gains privileges (PR_SET_NO_NEW_PRIVS).
    pub fn no_new_privileges(mut self) -> Self {
        self.no_new_privileges = true;
        self
    }

    /// A process group of its own, whose number is its pid.
    pub fn new_process_group(mut self) -> Self {
        self.new_process_group = true;
        self
    }

    /// The signal that it gets when the *thread* that started it ends (PR_SET_PDEATHSIG).
    pub fn parent_death_signal(mut self, signal: i32) -> Self {
        self.parent_death_signal = Some(signal);
        self
    }

    /// Its descriptor 0.
    pub fn stdin(mut self, fd: BorrowedFd<'a>) -> Self {
        self.stdio[0] = Some(fd);
        self
    }

    /// Its descriptor 1.
    pub fn stdout(mut self, fd: BorrowedFd<'a>) -> Self {
        self.stdio[1] = Some(fd);
        self
    }

    /// Its descriptor 2.
    pub fn stderr(mut self, fd: BorrowedFd<'a>) -> Self {
        self.stdio[2] = Some(fd);
        self
    }

    /// One more descriptor from 3 on, which [`listen_fds`] (sd_listen_fds_with_names(3)) finds there
    /// under this name.
    pub fn listen_fd(mut self, name: &str, fd: BorrowedFd<'a>) -> Self {
        self.listen.push((name.to_owned(), fd));
        self
    }

    /// Runs in this cgroup.
    pub fn cgroup(mut self, cgroup: &'a Cgroup) -> Self {
        self.cgroup = Some(cgroup);
        self
    }

    /// Starts it, and comes back once the program was executed.
    ///
    /// # Errors
    /// exec(2) as it is; what failed before it as a [`StartError`] inside; then no process is left.
    pub fn start(self) -> io::Result<Child> {
        start::start(&self)
    }

    /// Starts it up to just before exec(2): namespaces, cgroup, user and descriptors are as the
    /// program will find them, and the process waits.
    ///
    /// # Errors
    /// As [`Spawn::start`], without those of exec(2).
    pub fn start_paused(self) -> io::Result<Paused> {
        start::start_paused(&self)
    }
}

impl fmt::Debug for Spawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and variables may be somebody's secret.
        f.debug_struct("Spawn")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// Makes `group` the foreground process group of the terminal, from the background too.
///
/// # Errors
/// As tcsetpgrp(3): not our terminal, or not a group of our session.
pub fn set_foreground(tty: BorrowedFd<'_>, group: Pid) -> io::Result<()> {
    // From the background the kernel would stop us for asking.
    let _blocked = start::Masked::block(&[libc::SIGTTOU])?;
    Ok(rustix::termios::tcsetpgrp(tty.as_fd(), group)?)
}
