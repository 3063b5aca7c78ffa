//! The parent's side of a start.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::child::{self, REPORT};
use super::plan::Plan;
use super::{Child, Spawn};

/// A process that has not executed its program yet, and waits to be let go. Dropped, or with the end
/// of the process that holds it, it ends, and has run nothing.
#[derive(Debug)]
#[must_use]
pub struct Paused {
    child: Child,
    socket: OwnedFd,
}

impl Paused {
    /// The process.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Lets it execute its program, and comes back once it has.
    ///
    /// # Errors
    /// As exec(2); or the process was ended meanwhile (`BrokenPipe`). No process is left.
    pub fn release(self) -> io::Result<Child> {
        let Paused { mut child, socket } = self;
        if rustix::net::send(&socket, &[1], SendFlags::NOSIGNAL).is_err() {
            return Err(ended_early());
        }
        match listen(&socket)? {
            Some(report) => Err(child::understand(report).err().unwrap_or_else(ended_early)),
            None => {
                child.keep();
                Ok(child)
            }
        }
    }
}

pub(super) fn start(spawn: &Spawn<'_>) -> io::Result<Child> {
    let (mut child, socket) = fork(spawn, false)?;
    match listen(&socket)? {
        Some(report) => Err(child::understand(report).err().unwrap_or_else(ended_early)),
        None => {
            child.keep();
            Ok(child)
        }
    }
}

pub(super) fn start_paused(spawn: &Spawn<'_>) -> io::Result<Paused> {
    let (child, socket) = fork(spawn, true)?;
    child::understand(listen(&socket)?.ok_or_else(ended_early)?)?;
    Ok(Paused { child, socket })
}

/// Forks. The child does as the plan says; what comes back is ended when dropped, until it is kept.
fn fork(spawn: &Spawn<'_>, pause: bool) -> io::Result<(Child, OwnedFd)> {
    let mut plan = Plan::new(spawn)?;
    // A packet arrives whole or not at all, and exec(2) or the other side's end is the end of file.
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let theirs = plan.out_of_the_way(theirs)?;
    // A handler of the parent's must not run in the child.
    let masked = Masked::block_all()?;
    // SAFETY: the child only calls `run`, which allocates nothing and takes no lock, on memory and
    // descriptors that were made before and that it does not give back; it never returns.
    let pid = match unsafe { libc::fork() } {
        0 => child::run(&mut plan, &theirs, pause),
        pid => Pid::from_raw(pid).filter(|_| pid > 0),
    };
    let pid = pid.ok_or_else(io::Error::last_os_error)?;
    drop(masked);
    // The number is the child's as long as nobody else waits for it.
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((Child::new(pid, pidfd), ours)),
        Err(errno) => {
            drop(ours);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            Err(errno.into())
        }
    }
}

/// What the child says; `None` when it has nothing to say any more.
fn listen(socket: &OwnedFd) -> io::Result<Option<[u8; REPORT]>> {
    let mut report = [0; REPORT];
    loop {
        match rustix::net::recv(socket, &mut report[..], RecvFlags::empty()) {
            Ok((REPORT, _)) => return Ok(Some(report)),
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(None),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn ended_early() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the process was ended before it executed its program",
    )
}

/// Signals that are held back on this thread, until dropped.
pub(super) struct Masked(libc::sigset_t);

impl Masked {
    pub fn block(signals: &[i32]) -> io::Result<Masked> {
        // SAFETY: an all-zero set is a value, and sigemptyset makes it the empty one.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours.
        unsafe { libc::sigemptyset(&mut set) };
        for signal in signals {
            // SAFETY: `set` is initialised; a number that is no signal is refused.
            unsafe { libc::sigaddset(&mut set, *signal) };
        }
        Masked::add(&set)
    }

    fn block_all() -> io::Result<Masked> {
        // SAFETY: as above.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours.
        unsafe { libc::sigfillset(&mut set) };
        Masked::add(&set)
    }

    fn add(set: &libc::sigset_t) -> io::Result<Masked> {
        // SAFETY: as above.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are initialised; only this thread's mask changes.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, &mut before) } {
            0 => Ok(Masked(before)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}
